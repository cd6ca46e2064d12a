//! Turns a completion into a [`Done`] for the engine, or into a step that the engine never sees.

use super::slots::{NAMING, POLLING, RECEIVING, SENDING, SHUT, SHUTTING};
use super::token::{Kind, Token};
use super::uring::Uring;
use super::{AcceptEnd, Done, PollEnd, RecvEnd};
use crate::ids::{BufferId, ConnId, ListenerId, Slot};
use core::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use io_uring::cqueue;

impl Uring {
    /// Unpacks the token, and records that the operation is no longer in flight.
    pub(super) fn settle(&mut self, completion: &cqueue::Entry) -> Token {
        let token = Token::unpack(completion.user_data()).expect("all entries of a ring are ours");
        let flag = match token.kind {
            Kind::PeerName => NAMING,
            Kind::Recv => RECEIVING,
            Kind::Send => SENDING,
            Kind::Shutdown => SHUTTING,
            Kind::Poll => POLLING,
            _ => return token,
        };
        if !cqueue::more(completion.flags()) {
            self.slots.end(token.slot(), flag);
        }
        token
    }

    /// The answer to a completion, if it has one.
    pub(super) fn complete(&mut self, completion: &cqueue::Entry) -> Option<Done> {
        let token = self.settle(completion);
        let conn = token.conn();
        let result = result(completion, token);
        match token.kind {
            Kind::Accept => self.accepted(completion, result, ListenerId(token.number as u8)),
            Kind::PeerName => self.named(token, result),
            Kind::Recv => self.received(completion, token, result),
            // A send that was cancelled before it began has sent nothing.
            Kind::Send if result == Err(libc::ECANCELED) => {
                Some(Done::Sent { conn, result: Ok(0) })
            }
            Kind::Send => Some(Done::Sent { conn, result }),
            // An error is ENOTCONN: the connection is shut down already.
            Kind::Shutdown => Some(Done::ShutDown { conn }),
            Kind::Poll => Some(Done::PollEnded { conn, end: self.polled(token.slot(), result) }),
            Kind::Close => {
                assert_eq!(result, Ok(0), "slot {}: an open descriptor closes", token.slot());
                self.slots.end_close(token.slot());
                Some(Done::Closed { conn })
            }
            Kind::Refuse => {
                self.slots.end_close(token.slot());
                None
            }
            Kind::Number => self.numbered(conn, result),
            Kind::Leave => Some(self.left(conn, result)),
            Kind::Adopt => Some(self.adopted(token, result)),
            Kind::Cancel | Kind::Option => None,
            Kind::Doorbell => {
                self.stats.unheard += u64::from(result.is_err());
                None
            }
            Kind::Rung => Some(Done::Rung),
            Kind::EventFd => {
                if !cqueue::more(completion.flags()) {
                    self.watch_doorbell();
                }
                Some(Done::Rung)
            }
        }
    }

    fn accepted(
        &mut self,
        completion: &cqueue::Entry,
        result: Result<u32, i32>,
        id: ListenerId,
    ) -> Option<Done> {
        if let Ok(number) = result {
            self.listeners[usize::from(id.0)].naming += 1;
            self.ask_name(id, Slot(number));
        }
        if cqueue::more(completion.flags()) {
            return None;
        }
        let end = match result {
            Ok(_) => {
                self.stats.ended_multishots += 1;
                AcceptEnd::Stopped
            }
            Err(libc::ECANCELED) => AcceptEnd::Stopped,
            Err(libc::ENFILE) => AcceptEnd::TableFull,
            Err(errno) => AcceptEnd::Failed(errno),
        };
        self.listeners[usize::from(id.0)].ended = Some(end);
        self.accept_ended(id)
    }

    /// `AcceptEnded`, if it is due: not before the last `Accepted`.
    fn accept_ended(&mut self, listener: ListenerId) -> Option<Done> {
        let state = &mut self.listeners[usize::from(listener.0)];
        if state.naming > 0 {
            return None;
        }
        let end = state.ended.take()?;
        state.armed = false;
        Some(Done::AcceptEnded { listener, end })
    }

    /// The peer's address of a new connection is known, or cannot be.
    fn named(&mut self, token: Token, result: Result<u32, i32>) -> Option<Done> {
        let slot = token.slot();
        let [listener, place, ..] = token.generation.to_le_bytes();
        let name = self.names.give_back(place);
        if let Some((listener, slot)) = self.names.next() {
            self.ask_name(listener, slot);
        }
        let listener = ListenerId(listener);
        self.listeners[usize::from(listener.0)].naming -= 1;
        let ended = self.accept_ended(listener);
        match result.ok().and_then(|_| address(&name)) {
            Some(peer) => {
                self.spread_keepalive(slot);
                assert!(self.after.is_none(), "an answer is popped before the next completion");
                self.after = ended;
                Some(Done::Accepted { listener, slot, peer })
            }
            None => {
                self.stats.nameless += 1;
                self.close(Token::new(Kind::Refuse, slot.0, 0));
                ended
            }
        }
    }

    fn received(
        &mut self,
        completion: &cqueue::Entry,
        token: Token,
        result: Result<u32, i32>,
    ) -> Option<Done> {
        let conn = token.conn();
        let more = cqueue::more(completion.flags());
        let buffer = cqueue::buffer_select(completion.flags()).map(BufferId);
        let len = result.unwrap_or(0);
        if let Some(buffer) = buffer {
            self.buffers.on_received(buffer, len);
            if len > 0 {
                self.stats.ended_multishots += u64::from(!more);
                return Some(Done::Received { conn, buffer, len, more });
            }
            self.buffers.give_back(buffer);
        }
        let end = match result {
            // Our own shutdown looks like the peer's.
            Ok(0) if self.slots.any(token.slot(), SHUT) => RecvEnd::Stopped,
            Ok(0) => RecvEnd::Eof,
            Ok(len) => panic!("slot {}: {len} bytes without a buffer", token.slot()),
            Err(libc::ENOBUFS) => {
                self.stats.starved += 1;
                RecvEnd::Starved
            }
            Err(libc::ECANCELED) => RecvEnd::Stopped,
            Err(errno) => RecvEnd::Failed(errno),
        };
        assert!(!more, "slot {}: a receive that has ended has no more", token.slot());
        Some(Done::RecvEnded { conn, end })
    }
}

impl Uring {
    /// A connection that leaves has a number, and its slot is to be closed; or it stays.
    fn numbered(&mut self, conn: ConnId, result: Result<u32, i32>) -> Option<Done> {
        match result {
            Ok(number) => {
                self.moving.numbered(conn, number);
                self.leave(conn);
                None
            }
            Err(errno) => {
                self.slots.end_leave(conn.slot);
                Some(Done::Released { conn, result: Err(errno) })
            }
        }
    }

    /// The slot of a connection that leaves is closed.
    fn left(&mut self, conn: ConnId, closed: Result<u32, i32>) -> Done {
        assert_eq!(closed, Ok(0), "slot {}: an open descriptor closes", conn.slot);
        self.slots.end_leave(conn.slot);
        Done::Released { conn, result: Ok(self.moving.closed(conn)) }
    }

    /// A number is in the table, or cannot be.
    fn adopted(&mut self, token: Token, result: Result<u32, i32>) -> Done {
        let slot = self.moving.give_back(token.number as u8);
        if let Some(number) = self.moving.next() {
            self.adopt(number);
        }
        let number = token.generation as i32;
        let result = result.map(|_| slot);
        if let Ok(slot) = result {
            self.slots.adopt(slot);
        }
        Done::Adopted { number, result }
    }

    /// The end that a poll's mask reports.
    fn polled(&self, slot: Slot, result: Result<u32, i32>) -> PollEnd {
        let has = |mask: u32, flags: i16| mask & flags as u32 != 0;
        match result {
            // Our own shutdown looks like the peer's.
            Ok(_) if self.slots.any(slot, SHUT) => PollEnd::Stopped,
            Ok(mask) if has(mask, libc::POLLERR | libc::POLLHUP) => PollEnd::Reset,
            Ok(mask) if has(mask, libc::POLLRDHUP) => PollEnd::HungUp,
            // ECANCELED.
            Ok(_) | Err(_) => PollEnd::Stopped,
        }
    }
}

/// The result of a completion, or its positive errno. Panics at errors that only a bug of this
/// crate can cause.
fn result(completion: &cqueue::Entry, token: Token) -> Result<u32, i32> {
    let result = u32::try_from(completion.result()).map_err(|_| -completion.result());
    if matches!(token.kind, Kind::Recv | Kind::Send | Kind::Shutdown | Kind::Close | Kind::Poll) {
        assert_ne!(result, Err(libc::EBADF), "{token:?}: the slot is empty");
        assert_ne!(result, Err(libc::EFAULT), "{token:?}: the memory is not ours");
    }
    result
}

/// A socket address from what the kernel wrote, IPv4 unwrapped from `::ffff:a.b.c.d`.
fn address(name: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(name.get(..2)?.try_into().ok()?);
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    match i32::from(family) {
        libc::AF_INET => {
            let ip: [u8; 4] = name.get(4..8)?.try_into().ok()?;
            Some(SocketAddr::from((Ipv4Addr::from(ip), port)))
        }
        libc::AF_INET6 => {
            let flow = u32::from_be_bytes(name.get(4..8)?.try_into().ok()?);
            let ip: [u8; 16] = name.get(8..24)?.try_into().ok()?;
            let scope = u32::from_ne_bytes(name.get(24..28)?.try_into().ok()?);
            let ip = Ipv6Addr::from(ip);
            match ip.to_ipv4_mapped() {
                Some(ip) => Some(SocketAddr::from((ip, port))),
                None => Some(SocketAddr::V6(SocketAddrV6::new(ip, port, flow, scope))),
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::names::NAME_SIZE;
    use super::*;

    #[test]
    fn addresses_are_read_as_the_kernel_writes_them() {
        let cases = [
            ("127.0.0.1:8080", "127.0.0.1:8080"),
            ("[::ffff:10.1.2.3]:443", "10.1.2.3:443"),
            ("[fe80::1%7]:65535", "[fe80::1%7]:65535"),
            ("[::1]:1", "[::1]:1"),
        ];
        for (written, read) in cases {
            let given: SocketAddr = written.parse().expect("an address");
            let mut bytes = [0u8; NAME_SIZE];
            bytes[2..4].copy_from_slice(&given.port().to_be_bytes());
            match given {
                SocketAddr::V4(v4) => {
                    bytes[..2].copy_from_slice(&2u16.to_ne_bytes());
                    bytes[4..8].copy_from_slice(&v4.ip().octets());
                }
                SocketAddr::V6(v6) => {
                    bytes[..2].copy_from_slice(&10u16.to_ne_bytes());
                    bytes[8..24].copy_from_slice(&v6.ip().octets());
                    bytes[24..28].copy_from_slice(&v6.scope_id().to_ne_bytes());
                }
            }
            assert_eq!(address(&bytes).expect("known family").to_string(), read);
        }
        assert_eq!(address(&[0u8; NAME_SIZE]), None);
    }
}

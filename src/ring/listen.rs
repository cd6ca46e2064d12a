//! Listening sockets: one per shard on the same address, among which the kernel spreads connections
//! (SO_REUSEPORT).

use core::net::SocketAddr;
use core::time::Duration;
use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use std::io;
use std::os::fd::OwnedFd;

/// Connections that wait to be accepted; the kernel may cap it (net.core.somaxconn).
const BACKLOG: i32 = 4096;
/// TCP keep-alive: the silence before the first probe, the time between probes, and how many remain
/// unanswered before the connection fails.
const KEEPALIVE_TIME: Duration = Duration::from_secs(60);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
const KEEPALIVE_PROBES: u32 = 4;

/// How much may be buffered in the socket of a client that does not read. Accepted sockets inherit
/// it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SendBound {
    /// The kernel's own bound, net.ipv4.tcp_wmem: some megabytes per slow client.
    #[default]
    Kernel,
    /// SO_SNDBUF: bytes in flight and waiting; the kernel doubles the number for its own use.
    Buffer(u32),
    /// TCP_NOTSENT_LOWAT: bytes that are not yet in flight.
    NotSent(u32),
}

/// Listens on `address` with one socket per shard. Port 0 is any free port, the same for all.
/// An IPv6 wildcard accepts IPv4 connections, too. Refuses an address on which another process
/// listens already, even with SO_REUSEPORT. Returns the actual address.
pub fn bind(
    address: SocketAddr,
    shards: usize,
    bound: SendBound,
) -> io::Result<(SocketAddr, Vec<OwnedFd>)> {
    assert!(shards > 0, "somebody listens");
    // The first socket is bound without SO_REUSEPORT, so that it conflicts with other processes'
    // sockets; the option is set afterwards, so that the other shards' sockets may join.
    let first = socket(address, bound)?;
    first.bind(&SockAddr::from(address))?;
    first.set_reuse_port(true)?;
    first.listen(BACKLOG)?;
    let actual = first.local_addr()?.as_socket().expect("an IP socket has an IP address");
    let mut listeners = vec![OwnedFd::from(first)];
    while listeners.len() < shards {
        let next = socket(actual, bound)?;
        next.set_reuse_port(true)?;
        next.bind(&SockAddr::from(actual))?;
        next.listen(BACKLOG)?;
        listeners.push(OwnedFd::from(next));
    }
    Ok((actual, listeners))
}

/// A socket with the options that accepted sockets inherit.
fn socket(address: SocketAddr, bound: SendBound) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    // A restarted server can bind while old connections are in TIME-WAIT.
    socket.set_reuse_address(true)?;
    // Whole messages are sent at once: waiting for more (Nagle) would only delay them.
    socket.set_tcp_nodelay(true)?;
    // A peer that has vanished is noticed in two to three minutes (`spread_keepalive`), even if the
    // protocol has no heart-beats. Accepted sockets inherit it.
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_TIME)
        .with_interval(KEEPALIVE_INTERVAL)
        .with_retries(KEEPALIVE_PROBES);
    socket.set_tcp_keepalive(&keepalive)?;
    match bound {
        SendBound::Kernel => {}
        SendBound::Buffer(bytes) => socket.set_send_buffer_size(bytes as usize)?,
        SendBound::NotSent(bytes) => socket.set_tcp_notsent_lowat(bytes)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::SockRef;
    use std::net::{TcpListener, TcpStream};

    fn any_port() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    #[test]
    fn all_shards_share_a_port_and_each_can_get_a_connection() {
        let (address, listeners) = bind(any_port(), 3, SendBound::Kernel).expect("free port");
        assert_ne!(address.port(), 0);
        let listeners: Vec<_> = listeners.into_iter().map(TcpListener::from).collect();
        for listener in &listeners {
            assert_eq!(listener.local_addr().expect("bound"), address);
            listener.set_nonblocking(true).expect("a socket can be non-blocking");
        }
        let clients: Vec<_> = (0..60).map(|_| TcpStream::connect(address)).collect();
        assert!(clients.iter().all(Result::is_ok));
        let counts: Vec<usize> = listeners
            .iter()
            .map(|listener| listener.incoming().take_while(Result::is_ok).count())
            .collect();
        assert_eq!(counts.iter().sum::<usize>(), 60, "{counts:?}");
        assert!(counts.iter().all(|&count| count > 0), "the kernel spreads: {counts:?}");
    }

    #[test]
    fn an_address_in_use_is_refused_although_its_owner_would_share_it() {
        let (address, _listeners) = bind(any_port(), 2, SendBound::Kernel).expect("free port");
        let error = bind(address, 2, SendBound::Kernel).expect_err("in use");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    }

    #[test]
    fn accepted_sockets_inherit_the_options() {
        for bound in [SendBound::Kernel, SendBound::Buffer(50_000), SendBound::NotSent(20_000)] {
            let (address, mut listeners) = bind(any_port(), 1, bound).expect("free port");
            let listener = TcpListener::from(listeners.remove(0));
            let _client = TcpStream::connect(address).expect("the listener listens");
            let (accepted, _) = listener.accept().expect("a client has come");
            let socket = SockRef::from(&accepted);
            assert!(socket.tcp_nodelay().expect("TCP"));
            match bound {
                SendBound::Kernel => {}
                SendBound::Buffer(bytes) => {
                    let size = socket.send_buffer_size().expect("a socket has a buffer");
                    assert_eq!(size, 2 * bytes as usize);
                }
                SendBound::NotSent(bytes) => {
                    assert_eq!(socket.tcp_notsent_lowat().expect("TCP"), bytes);
                }
            }
        }
    }
}

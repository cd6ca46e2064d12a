//! A toy of a record layer, as TLS is one: it changes lengths both ways, splits what it is given,
//! begins with a handshake of one flight each way and ends with a record that says so. Every byte
//! that is lost, doubled or moved on the way is noticed, as each record has a checksum under the
//! key and the number of the record.
//!
//! ```text
//! length of what follows, 2 bytes │ kind │ body, masked from the handshake on │ checksum, 4 bytes
//! ```
//! The body of data is the length of its padding, the padding, and plaintext.

use crate::transport::{Error, MakeTransport, Transport};

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The first record of each side: a number that goes into the keys.
    Hello = 1,
    /// Plaintext, or none.
    Data = 2,
    /// The sender has new keys from here on; if its body says so, the other side shall, too.
    Rekey = 3,
    /// Nothing more comes.
    Close = 4,
    /// What has come cannot be opened.
    Alert = 5,
}

const KINDS: [Kind; 5] = [Kind::Hello, Kind::Data, Kind::Rekey, Kind::Close, Kind::Alert];

/// Bytes of a record before and behind its body.
const HEAD: usize = 3;
const TAIL: usize = 4;
/// The most plaintext and padding of one record.
const BODY: usize = 150;
const PADDING: usize = 7;
/// Bytes of the longest record.
const RECORD: usize = HEAD + 1 + PADDING + BODY + TAIL;

/// Scrambles a number.
fn mix(number: u64) -> u64 {
    let number = (number ^ number >> 31).wrapping_mul(0x7fb5_d329_728e_a185);
    (number ^ number >> 27).wrapping_mul(0x81da_def4_bc2d_d44d)
}

/// The keys of one direction.
#[derive(Clone, Copy, Debug, Default)]
struct Keys {
    secret: u64,
    number: u64,
}

impl Keys {
    /// Masks a body, or takes the mask off.
    fn mask(&self, body: &mut [u8]) {
        for (at, byte) in body.iter_mut().enumerate() {
            *byte ^= mix(self.secret ^ self.number << 20 ^ at as u64) as u8;
        }
    }

    fn checksum(&self, kind: u8, body: &[u8]) -> [u8; TAIL] {
        let start = mix(self.secret ^ self.number ^ u64::from(kind) << 40);
        let sum = body.iter().fold(start, |sum, byte| mix(sum ^ u64::from(*byte)));
        (sum as u32).to_le_bytes()
    }

    fn renew(&mut self) {
        *self = Keys { secret: mix(self.secret), number: 0 };
    }
}

/// One side of a connection.
#[derive(Debug)]
pub(super) struct Records {
    is_server: bool,
    /// The number that it says in its hello.
    own: u64,
    out: Keys,
    input: Keys,
    established: bool,
    failed: bool,
    /// The peer's record that nothing more comes has been read.
    pub(super) ended: bool,
    /// The peer could not open what it was sent.
    pub(super) alerted: bool,
    /// Its own end has been made.
    closed: bool,
    held: Vec<u8>,
    owed: Vec<u8>,
    /// How many records it has made: decides on padding and splits.
    made: u64,
}

impl Records {
    /// The server's side.
    fn server() -> Records {
        Records {
            is_server: true,
            own: 0x5e6f,
            out: Keys::default(),
            input: Keys::default(),
            established: false,
            failed: false,
            ended: false,
            alerted: false,
            closed: false,
            held: Vec::new(),
            owed: Vec::new(),
            made: 0,
        }
    }

    /// A client's side, which owes its hello.
    pub(super) fn client(own: u64) -> Records {
        let mut records = Records { is_server: false, own, made: own, ..Records::server() };
        records.owe(Kind::Hello, &own.to_le_bytes());
        records
    }

    fn owe(&mut self, kind: Kind, body: &[u8]) {
        let mut owed = core::mem::take(&mut self.owed);
        self.write(kind, body, &mut owed);
        self.owed = owed;
    }

    /// Appends one record.
    fn write(&mut self, kind: Kind, body: &[u8], wire: &mut Vec<u8>) {
        wire.extend(((1 + body.len() + TAIL) as u16).to_be_bytes());
        wire.push(kind as u8);
        let start = wire.len();
        wire.extend_from_slice(body);
        let sum = self.out.checksum(kind as u8, body);
        self.out.mask(&mut wire[start..]);
        wire.extend(sum);
        self.out.number += 1;
        self.made += 1;
    }

    /// Appends one record of data.
    fn write_data(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        let padding = (mix(self.made) % (PADDING as u64 + 1)) as usize;
        let mut body = vec![padding as u8];
        body.resize(1 + padding, 0xaa);
        body.extend_from_slice(plain);
        self.write(Kind::Data, &body, wire);
    }

    /// A client changes its keys, and wants the server to.
    pub(super) fn rekey(&mut self, wire: &mut Vec<u8>) {
        self.write(Kind::Rekey, &[1], wire);
        self.out.renew();
    }

    /// A client says nothing in a record of its own.
    pub(super) fn say_nothing(&mut self, wire: &mut Vec<u8>) {
        self.write_data(&[], wire);
    }

    /// Handles one record, with its head and checksum taken off.
    fn record(&mut self, kind: u8, body: &[u8], plain: &mut Vec<u8>) -> Result<(), Error> {
        let kind = KINDS.into_iter().find(|known| *known as u8 == kind).ok_or(Error::Record)?;
        match (kind, self.established) {
            (Kind::Hello, false) => {
                let theirs = body.try_into().map(u64::from_le_bytes);
                let theirs = theirs.map_err(|_| Error::Handshake)?;
                if self.is_server {
                    self.owe(Kind::Hello, &self.own.to_le_bytes());
                }
                let secret = mix(self.own ^ theirs);
                let way = |is_server: bool| Keys {
                    secret: mix(secret ^ u64::from(is_server)),
                    number: 0,
                };
                (self.out, self.input) = (way(self.is_server), way(!self.is_server));
                self.established = true;
            }
            (Kind::Alert, _) => self.alerted = true,
            (_, false) => return Err(Error::Handshake),
            (Kind::Hello, true) => return Err(Error::Record),
            (Kind::Data, true) => {
                let padding = usize::from(*body.first().ok_or(Error::Record)?);
                plain.extend_from_slice(body.get(1 + padding..).ok_or(Error::Record)?);
            }
            (Kind::Rekey, true) => {
                self.input.renew();
                if body == [1] {
                    self.owe(Kind::Rekey, &[0]);
                    self.out.renew();
                }
            }
            (Kind::Close, true) => self.ended = true,
        }
        Ok(())
    }

    /// Opens the records that are whole; says how many bytes they were.
    fn open_whole(&mut self, bytes: &mut [u8], plain: &mut Vec<u8>) -> Result<usize, Error> {
        let mut used = 0;
        let wrong = |established| if established { Error::Record } else { Error::Handshake };
        while let Some(head) = bytes[used..].first_chunk::<HEAD>() {
            let (len, kind) = (usize::from(u16::from_be_bytes([head[0], head[1]])), head[2]);
            if !(1 + TAIL..=RECORD - 2).contains(&len) || self.ended || self.alerted {
                return Err(wrong(self.established));
            }
            let Some(record) = bytes.get_mut(used + HEAD..used + 2 + len) else { break };
            let (body, sum) = record.split_at_mut(len - 1 - TAIL);
            self.input.mask(body);
            if self.input.checksum(kind, body) != *sum {
                return Err(wrong(self.established));
            }
            self.input.number += 1;
            used += 2 + len;
            let body = body.to_vec();
            self.record(kind, &body, plain)?;
        }
        Ok(used)
    }
}

impl Transport for Records {
    fn open(&mut self, wire: &mut [u8], plain: &mut Vec<u8>) -> Result<(), Error> {
        if self.failed {
            return Ok(());
        }
        let mut bytes = core::mem::take(&mut self.held);
        bytes.extend_from_slice(wire);
        match self.open_whole(&mut bytes, plain) {
            Ok(used) => {
                self.held = bytes.split_off(used);
                Ok(())
            }
            Err(error) => {
                self.failed = true;
                self.owe(Kind::Alert, &[]);
                Err(error)
            }
        }
    }

    fn held(&self) -> usize {
        self.held.len()
    }

    fn forget(&mut self) {
        self.held = Vec::new();
    }

    fn is_established(&self) -> bool {
        self.established
    }

    fn is_ended(&self) -> bool {
        self.ended || self.alerted
    }

    fn owed(&self) -> usize {
        self.owed.len()
    }

    fn take_owed(&mut self, wire: &mut Vec<u8>) {
        wire.append(&mut self.owed);
    }

    fn sealed_max(&self, plain: usize) -> usize {
        // A record has at least half of what fits one, but for the last.
        (plain / (BODY / 2) + 1) * (RECORD - BODY) + plain
    }

    fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
        assert!(self.established && !self.closed, "it may seal");
        let mut rest = plain;
        while !rest.is_empty() {
            let most = BODY / 2 + (mix(!self.made) % (BODY as u64 / 2)) as usize;
            let (now, later) = rest.split_at(rest.len().min(most));
            self.write_data(now, wire);
            rest = later;
        }
    }

    fn close_max(&self) -> usize {
        HEAD + TAIL
    }

    fn close(&mut self, wire: &mut Vec<u8>) {
        self.closed = true;
        self.write(Kind::Close, &[], wire);
    }
}

/// What makes a listener's connections sealed.
#[derive(Debug)]
pub(super) struct Sealed;

impl MakeTransport for Sealed {
    fn make(&self) -> Box<dyn Transport> {
        Box::new(Records::server())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    /// Moves bytes from one side to the other in parts of these sizes; what they say.
    fn carry(wire: &mut [u8], to: &mut Records, sizes: &[usize]) -> Result<Vec<u8>, Error> {
        let (mut plain, mut rest) = (Vec::new(), wire);
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at_mut((*size).min(rest.len()));
            to.open(now, &mut plain)?;
            assert!(to.held() < RECORD, "less than a record is kept");
            rest = later;
        }
        Ok(plain)
    }

    /// Both sides of a connection after the handshake.
    fn pair(sizes: &[usize]) -> (Records, Records) {
        let (mut client, mut server) = (Records::client(77), Records::server());
        let mut wire = Vec::new();
        client.take_owed(&mut wire);
        assert_eq!(carry(&mut wire, &mut server, sizes), Ok(Vec::new()));
        wire.clear();
        server.take_owed(&mut wire);
        assert_eq!(carry(&mut wire, &mut client, sizes), Ok(Vec::new()));
        assert!(client.is_established() && server.is_established());
        (client, server)
    }

    proptest! {
        #[test]
        fn any_division_of_the_wire_says_the_same(
            parts in vec(vec(any::<u8>(), 0..400), 1..8),
            sizes in vec(1usize..200, 1..8),
            rekeys in any::<u8>(),
        ) {
            let (mut client, mut server) = pair(&sizes);
            for (from_server, bit) in [(false, 0), (true, 4)] {
                let mut wire = Vec::new();
                let (from, to) = match from_server {
                    true => (&mut server, &mut client),
                    false => (&mut client, &mut server),
                };
                for (at, part) in parts.iter().enumerate() {
                    let before = wire.len();
                    from.seal(part, &mut wire);
                    prop_assert!(wire.len() - before <= from.sealed_max(part.len()));
                    if !from_server && rekeys >> (at % 4 + bit) & 1 == 1 {
                        from.rekey(&mut wire);
                        from.say_nothing(&mut wire);
                    }
                }
                from.close(&mut wire);
                prop_assert_eq!(carry(&mut wire, to, &sizes), Ok(parts.concat()));
                prop_assert!(to.is_ended());
                // Its answers to new keys come before what it says then.
                let mut owed = Vec::new();
                to.take_owed(&mut owed);
                prop_assert_eq!(carry(&mut owed, from, &sizes), Ok(Vec::new()));
            }
        }

        #[test]
        fn what_is_changed_lost_or_moved_is_noticed(at in 0usize..600, change in 0u8..3) {
            let (mut client, mut server) = pair(&[1000]);
            let (mut plain, mut wire) = (Vec::new(), Vec::new());
            client.seal(&[9; 500], &mut wire);
            client.close(&mut wire);
            let at = at % (wire.len() - 1);
            let whole = wire.clone();
            match change {
                0 => wire[at] ^= 1,
                1 => drop(wire.remove(at)),
                _ => wire.swap(at, at + 1),
            }
            let is_changed = wire != whole;
            let is_opened = server.open(&mut wire, &mut plain).is_ok() && server.is_ended();
            prop_assert_eq!(is_opened, !is_changed);
        }
    }
}

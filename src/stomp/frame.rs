//! A frame of a client as the decoder returns it: borrowed, nothing copied.

/// The command of a client's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Command {
    /// Opens the session.
    Connect,
    /// CONNECT by its other name (STOMP 1.1 and 1.2).
    Stomp,
    /// A message to a destination.
    Send,
    /// Begins a subscription.
    Subscribe,
    /// Ends a subscription.
    Unsubscribe,
    /// Acknowledges a message.
    Ack,
    /// Rejects a message.
    Nack,
    /// Begins a transaction.
    Begin,
    /// Commits a transaction.
    Commit,
    /// Discards a transaction.
    Abort,
    /// Ends the session.
    Disconnect,
}

impl Command {
    /// All commands.
    pub const ALL: [Command; 11] = [
        Command::Connect,
        Command::Stomp,
        Command::Send,
        Command::Subscribe,
        Command::Unsubscribe,
        Command::Ack,
        Command::Nack,
        Command::Begin,
        Command::Commit,
        Command::Abort,
        Command::Disconnect,
    ];

    /// The text of the frame's first line.
    pub fn text(self) -> &'static str {
        match self {
            Command::Connect => "CONNECT",
            Command::Stomp => "STOMP",
            Command::Send => "SEND",
            Command::Subscribe => "SUBSCRIBE",
            Command::Unsubscribe => "UNSUBSCRIBE",
            Command::Ack => "ACK",
            Command::Nack => "NACK",
            Command::Begin => "BEGIN",
            Command::Commit => "COMMIT",
            Command::Abort => "ABORT",
            Command::Disconnect => "DISCONNECT",
        }
    }

    /// The command of a first line. All versions are case-sensitive.
    pub fn parse(line: &[u8]) -> Option<Command> {
        Some(match line {
            b"SEND" => Command::Send,
            b"SUBSCRIBE" => Command::Subscribe,
            b"UNSUBSCRIBE" => Command::Unsubscribe,
            b"ACK" => Command::Ack,
            b"NACK" => Command::Nack,
            b"CONNECT" => Command::Connect,
            b"STOMP" => Command::Stomp,
            b"BEGIN" => Command::Begin,
            b"COMMIT" => Command::Commit,
            b"ABORT" => Command::Abort,
            b"DISCONNECT" => Command::Disconnect,
            _ => return None,
        })
    }

    /// CONNECT or STOMP: nothing is negotiated before them, so nothing in them is escaped.
    pub fn opens(self) -> bool {
        matches!(self, Command::Connect | Command::Stomp)
    }

    /// STOMP 1.2 "Body": of a client's frames only SEND may have one.
    pub fn may_have_body(self) -> bool {
        self == Command::Send
    }
}

/// A half-open range of the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) fn new(start: usize, end: usize) -> Span {
        debug_assert!(start <= end && u32::try_from(end).is_ok(), "a frame fits frame_max: u32");
        Span { start: start as u32, end: end as u32 }
    }

    fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    pub(super) fn of(self, input: &[u8]) -> &[u8] {
        &input[self.start as usize..self.end as usize]
    }

    pub(super) fn of_mut(self, input: &mut [u8]) -> &mut [u8] {
        &mut input[self.start as usize..self.end as usize]
    }
}

/// One header: the ranges of its name and value in the input. 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub(super) name: Span,
    pub(super) value: Span,
}

const _: () = assert!(size_of::<Header>() == 16);

impl Header {
    /// Fills an array of headers before the first frame.
    pub const EMPTY: Header =
        Header { name: Span { start: 0, end: 0 }, value: Span { start: 0, end: 0 } };
}

impl Default for Header {
    fn default() -> Header {
        Header::EMPTY
    }
}

/// What [`Decoder::next`](super::Decoder::next) found at the start of its input.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a, 'h> {
    /// No whole frame yet: keep all of the input, append to it, and call again.
    NeedMore,
    /// One or more EOLs (or stray NULs) between frames: the peer is alive.
    Eol {
        /// Bytes of the input that are done with.
        consumed: usize,
    },
    /// A whole frame.
    Frame {
        /// Bytes of the input that are done with.
        consumed: usize,
        /// The frame; it borrows the input.
        frame: Frame<'a, 'h>,
    },
}

/// A whole frame of a client, unescaped.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a, 'h> {
    pub(super) text: &'a [u8],
    pub(super) headers: &'h [Header],
    pub(super) command: Command,
    pub(super) body: Span,
}

impl<'a, 'h> Frame<'a, 'h> {
    /// The command.
    pub fn command(&self) -> Command {
        self.command
    }

    /// The value of the first header of that name: STOMP 1.2 "Repeated Header Entries".
    pub fn header(&self, name: &[u8]) -> Option<&'a [u8]> {
        let is_it =
            |header: &&Header| header.name.len() == name.len() && header.name.of(self.text) == name;
        let found = self.headers.iter().find(is_it)?;
        Some(found.value.of(self.text))
    }

    /// All headers in the order sent, repeats included, as (name, value).
    pub fn headers(&self) -> Headers<'a, 'h> {
        Headers { text: self.text, rest: self.headers.iter() }
    }

    /// The body; empty if there is none.
    pub fn body(&self) -> &'a [u8] {
        self.body.of(self.text)
    }
}

/// Iterator over the headers of a [`Frame`].
#[derive(Clone, Debug)]
pub struct Headers<'a, 'h> {
    text: &'a [u8],
    rest: core::slice::Iter<'h, Header>,
}

impl<'a> Iterator for Headers<'a, '_> {
    type Item = (&'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.rest.next()?;
        Some((header.name.of(self.text), header.value.of(self.text)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rest.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_read_back() {
        for command in Command::ALL {
            assert_eq!(Command::parse(command.text().as_bytes()), Some(command));
        }
        for line in ["send", "MESSAGE", "CONNECTED", "RECEIPT", "ERROR", "", "SEND "] {
            assert_eq!(Command::parse(line.as_bytes()), None, "{line}");
        }
    }
}

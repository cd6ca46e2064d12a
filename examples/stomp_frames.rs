//! The stomp room as a library, without the engine: a server's half of a session. Decodes what a
//! client has sent, piece by piece as a network gives it, and encodes the answers.
//!
//! The order of calls is that of any server:
//!
//! 1. one `Decoder` for a session; `Decoder::next` with all bytes that are not consumed, until it
//!    needs more;
//! 2. after CONNECT, the version that `negotiate` gives applies to every frame, both ways;
//! 3. an answer's `len`, then its `write`;
//! 4. an `Error` has the text for an ERROR frame and the code to close with.

use ringpush::stomp::{
    Command, Connected, Decoder, Error, ErrorFrame, Frame, Header, Message, Receipt, Step, Version,
    negotiate,
};

/// Bytes of the longest frame.
const FRAME_MAX: u32 = 65_536;
/// Headers of a frame.
const HEADERS_MAX: usize = 32;
/// Bytes of one receive: short, as from a slow network.
const RECEIVE: usize = 20;

/// A client's frames; the last one has an escape that does not exist.
const INPUT: &[u8] = b"CONNECT\naccept-version:1.1,1.2\nhost:example.com\n\n\0\n\
    SEND\ndestination:/topic/a\nnote:a\\cb\nreceipt:r-1\n\nhello\0\n\
    SEND\ndestination:/topic/a\nnote:\\x\n\n\0";

struct Session {
    decoder: Decoder,
    version: Option<Version>,
    /// Received, not consumed yet.
    input: Vec<u8>,
    /// To be sent.
    output: Vec<u8>,
}

impl Session {
    /// Decodes received bytes and answers the frames in them.
    fn receive(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.input.extend_from_slice(bytes);
        let mut at = 0;
        loop {
            let mut headers = [Header::EMPTY; HEADERS_MAX];
            let rest = &mut self.input[at..];
            match self.decoder.next(rest, &mut headers, self.version, FRAME_MAX)? {
                Step::NeedMore => break,
                Step::Eol { consumed } => at += consumed,
                Step::Frame { frame, consumed } => {
                    answer(&frame, &mut self.version, &mut self.output);
                    at += consumed;
                }
            }
        }
        self.input.drain(..at);
        Ok(())
    }
}

fn answer(frame: &Frame<'_, '_>, version: &mut Option<Version>, output: &mut Vec<u8>) {
    let destination = frame.header(b"destination").unwrap_or_default();
    match frame.command() {
        Command::Connect => {
            let agreed = negotiate(frame.header(b"accept-version")).unwrap_or(Version::V1_0);
            *version = Some(agreed);
            let connected = Connected {
                version: agreed,
                heart_beat: (0, 0),
                session: b"1",
                server: b"example",
                user_name: None,
            };
            append(output, connected.len(), |out| connected.write(out));
        }
        Command::Send => {
            // A subscriber of version 1.2 would get this.
            let message = Message {
                headers: &[b"destination:", destination, b"\n"].concat(),
                plain: true,
                subscription: Some(b"s-1"),
                message_id: b"m-1",
                ack: None,
                body: frame.body(),
            };
            let version = Version::V1_2;
            append(output, message.len(version), |out| message.write(version, out));
        }
        _ => {}
    }
    if let (Some(receipt_id), Some(version)) = (frame.header(b"receipt"), *version) {
        let receipt = Receipt { receipt_id };
        append(output, receipt.len(version), |out| receipt.write(version, out));
    }
}

fn append(output: &mut Vec<u8>, len: usize, write: impl FnOnce(&mut [u8]) -> usize) {
    let before = output.len();
    output.resize(before + len, 0);
    assert_eq!(write(&mut output[before..]), len, "`len` is exact");
}

fn main() {
    let (input, output) = (Vec::new(), Vec::new());
    let mut session = Session { decoder: Decoder::new(), version: None, input, output };
    for piece in INPUT.chunks(RECEIVE) {
        if let Err(error) = session.receive(piece) {
            let version = session.version.unwrap_or(Version::V1_0);
            let frame = ErrorFrame {
                message: "malformed frame",
                receipt_id: None,
                version_list: false,
                body: error.text(),
            };
            append(&mut session.output, frame.len(version), |out| frame.write(version, out));
            println!("close {}: {error}", error.close_code());
            break;
        }
    }
    for frame in session.output.split(|&byte| byte == 0).filter(|frame| !frame.is_empty()) {
        println!("---\n{}", String::from_utf8_lossy(frame));
    }
}

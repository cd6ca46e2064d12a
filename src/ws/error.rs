//! What a peer did wrong, and how it is told (RFC 6455 §7.4.1).

use core::fmt;

/// What the peer did wrong. The caller closes the connection with [`Error::close_code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A reserved bit is set without an extension that gives it a meaning.
    ReservedBits,
    /// An opcode that RFC 6455 does not define.
    ReservedOpcode,
    /// A client's frame is not masked.
    NotMasked,
    /// A server's frame is masked.
    Masked,
    /// A control frame without FIN.
    ControlFragmented,
    /// A control frame of more than 125 bytes.
    ControlTooLong,
    /// A continuation, but no message is open.
    ContinuationUnexpected,
    /// A new message within an open one.
    ContinuationExpected,
    /// A length that is not in its shortest form.
    LengthNotMinimal,
    /// A length with its highest bit set.
    LengthHighBit,
    /// A message longer than allowed.
    MessageTooBig,
    /// A text message that is not UTF-8.
    TextNotUtf8,
    /// A compressed message that is no DEFLATE stream.
    NotDeflate,
    /// A Close payload of one byte.
    CloseLength,
    /// A close code that must not be on the wire.
    CloseCode,
    /// A close reason that is not UTF-8.
    CloseReason,
}

impl Error {
    /// The code of the Close frame that answers it (RFC 6455 §7.4.1).
    pub const fn close_code(self) -> u16 {
        match self {
            Error::ReservedBits
            | Error::ReservedOpcode
            | Error::NotMasked
            | Error::Masked
            | Error::ControlFragmented
            | Error::ControlTooLong
            | Error::ContinuationUnexpected
            | Error::ContinuationExpected
            | Error::LengthNotMinimal
            | Error::LengthHighBit
            | Error::CloseLength
            | Error::CloseCode => 1002,
            Error::TextNotUtf8 | Error::NotDeflate | Error::CloseReason => 1007,
            Error::MessageTooBig => 1009,
        }
    }

    /// The reason in that Close frame.
    pub const fn reason(self) -> &'static str {
        match self {
            Error::ReservedBits => "reserved-bits",
            Error::ReservedOpcode => "reserved-opcode",
            Error::NotMasked => "not-masked",
            Error::Masked => "masked",
            Error::ControlFragmented => "control-fragmented",
            Error::ControlTooLong => "control-too-long",
            Error::ContinuationUnexpected => "continuation-unexpected",
            Error::ContinuationExpected => "continuation-expected",
            Error::LengthNotMinimal => "length-not-minimal",
            Error::LengthHighBit => "length-high-bit",
            Error::MessageTooBig => "message-too-big",
            Error::TextNotUtf8 => "text-not-utf8",
            Error::NotDeflate => "not-deflate",
            Error::CloseLength => "close-length",
            Error::CloseCode => "close-code",
            Error::CloseReason => "close-reason",
        }
    }

    /// A sentence about it.
    pub const fn text(self) -> &'static str {
        match self {
            Error::ReservedBits => "a reserved bit is set without an extension that uses it",
            Error::ReservedOpcode => "the opcode is not defined",
            Error::NotMasked => "a client's frame is not masked",
            Error::Masked => "a server's frame is masked",
            Error::ControlFragmented => "a control frame is fragmented",
            Error::ControlTooLong => "a control frame has more than 125 bytes",
            Error::ContinuationUnexpected => "a continuation comes although no message is open",
            Error::ContinuationExpected => "a message begins within another",
            Error::LengthNotMinimal => "a length is not in its shortest form",
            Error::LengthHighBit => "a length has its highest bit set",
            Error::MessageTooBig => "the message is too long",
            Error::TextNotUtf8 => "a text message is not UTF-8",
            Error::NotDeflate => "a compressed message is not a DEFLATE stream",
            Error::CloseLength => "the payload of a Close has one byte",
            Error::CloseCode => "a Close has a code that must not be sent",
            Error::CloseReason => "the reason of a Close is not UTF-8",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Error {}

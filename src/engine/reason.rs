#![forbid(unsafe_code)]
//! The errors of the codecs below → the engine's one table of reasons ([`Refusal`]). The codecs do
//! not know the table, so their errors are mapped here, each by an exhaustive match: a new error
//! does not compile until it has a reason.

use crate::broker::home::Full;
use crate::callback::{Denial, Problem};
use crate::http;
use crate::http::upgrade::UpgradeRefusal;
use crate::identity;
use crate::metrics::Refusal;
use crate::sockjs;
use crate::stomp;
use crate::ws;

impl From<http::Refusal> for Refusal {
    fn from(refusal: http::Refusal) -> Refusal {
        use http::Refusal as From;
        match refusal {
            From::BareLineFeed => Refusal::HttpBareLineFeed,
            From::BodyTooLarge => Refusal::HttpBodySize,
            From::Chunk => Refusal::HttpChunk,
            From::ChunkExtensions => Refusal::HttpChunkExtensions,
            From::ContentLengthAndTransferEncoding => Refusal::HttpLengthAndEncoding,
            From::ContentLength => Refusal::HttpContentLength,
            From::ContentLengthRepeated => Refusal::HttpContentLengthRepeated,
            From::Expectation => Refusal::HttpExpectation,
            From::Folding => Refusal::HttpFolding,
            From::HeadTooLong => Refusal::HttpHeadSize,
            From::HeaderName => Refusal::HttpHeaderName,
            From::HeaderValue => Refusal::HttpHeaderValue,
            From::Host => Refusal::HttpHost,
            From::HostMissing => Refusal::HttpHostMissing,
            From::HostRepeated => Refusal::HttpHostRepeated,
            From::Method => Refusal::HttpMethod,
            From::MethodTooLong => Refusal::HttpMethodSize,
            From::Target => Refusal::HttpTarget,
            From::TargetTooLong => Refusal::HttpTargetSize,
            From::TooManyHeaders => Refusal::HttpHeaderCount,
            From::TrailersTooLong => Refusal::HttpTrailersSize,
            From::TransferEncodingInOld => Refusal::HttpEncodingInOld,
            From::TransferEncodingUnknown => Refusal::HttpEncodingUnknown,
            From::Version => Refusal::HttpVersion,
            From::VersionUnknown => Refusal::HttpVersionUnknown,
        }
    }
}

impl From<UpgradeRefusal> for Refusal {
    fn from(refusal: UpgradeRefusal) -> Refusal {
        match refusal {
            UpgradeRefusal::Body => Refusal::HttpUpgradeBody,
            UpgradeRefusal::Connection => Refusal::HttpUpgradeConnection,
            UpgradeRefusal::Key => Refusal::HttpUpgradeKey,
            UpgradeRefusal::Method => Refusal::HttpUpgradeMethod,
            UpgradeRefusal::NotAnUpgrade => Refusal::HttpUpgradeMissing,
            UpgradeRefusal::Old => Refusal::HttpUpgradeOld,
            UpgradeRefusal::Version => Refusal::HttpUpgradeVersion,
        }
    }
}

impl From<identity::Refusal> for Refusal {
    fn from(refusal: identity::Refusal) -> Refusal {
        use identity::Refusal as From;
        match refusal {
            From::Nobody => Refusal::AuthMissing,
            From::Name => Refusal::AuthUserName,
            From::Ambiguous => Refusal::AuthUserHeaderRepeated,
            From::Malformed => Refusal::AuthTokenMalformed,
            From::Algorithm => Refusal::AuthTokenAlgorithm,
            From::Signature => Refusal::AuthTokenSignature,
            From::Expired => Refusal::AuthTokenExpired,
            From::Early => Refusal::AuthTokenNotYetValid,
            From::Issuer => Refusal::AuthTokenIssuer,
            From::Audience => Refusal::AuthTokenAudience,
            From::Claim => Refusal::AuthTokenUser,
        }
    }
}

impl From<ws::Error> for Refusal {
    fn from(error: ws::Error) -> Refusal {
        match error {
            ws::Error::ReservedBits => Refusal::WsReservedBits,
            ws::Error::ReservedOpcode => Refusal::WsReservedOpcode,
            ws::Error::NotMasked => Refusal::WsNotMasked,
            ws::Error::Masked => Refusal::WsMasked,
            ws::Error::ControlFragmented => Refusal::WsControlFragmented,
            ws::Error::ControlTooLong => Refusal::WsControlSize,
            ws::Error::ContinuationUnexpected => Refusal::WsContinuationUnexpected,
            ws::Error::ContinuationExpected => Refusal::WsContinuationExpected,
            ws::Error::LengthNotMinimal => Refusal::WsLengthNotMinimal,
            ws::Error::LengthHighBit => Refusal::WsLengthHighBit,
            ws::Error::MessageTooBig => Refusal::WsMessageSize,
            ws::Error::TextNotUtf8 => Refusal::WsTextNotUtf8,
            ws::Error::NotDeflate => Refusal::WsNotDeflate,
            ws::Error::CloseLength => Refusal::WsCloseLength,
            ws::Error::CloseCode => Refusal::WsCloseCode,
            ws::Error::CloseReason => Refusal::WsCloseReason,
        }
    }
}

impl From<sockjs::Error> for Refusal {
    fn from(error: sockjs::Error) -> Refusal {
        match error {
            sockjs::Error::BrokenJson => Refusal::SockjsBrokenJson,
        }
    }
}

impl From<stomp::Error> for Refusal {
    fn from(error: stomp::Error) -> Refusal {
        match error {
            stomp::Error::UnknownCommand => Refusal::StompUnknownCommand,
            stomp::Error::BareCarriageReturn => Refusal::StompBareCr,
            stomp::Error::NulInHead => Refusal::StompNulInHead,
            stomp::Error::NotUtf8 => Refusal::StompNotUtf8,
            stomp::Error::NoColon => Refusal::StompNoColon,
            stomp::Error::EmptyName => Refusal::StompEmptyName,
            stomp::Error::BadEscape => Refusal::StompEscape,
            stomp::Error::BadContentLength => Refusal::StompContentLength,
            stomp::Error::NoNulAfterBody => Refusal::StompNoNulAfterBody,
            stomp::Error::BodyNotAllowed => Refusal::StompBodyNotAllowed,
            stomp::Error::BadHeartBeat => Refusal::StompHeartBeat,
            stomp::Error::TooLarge => Refusal::StompFrameSize,
            stomp::Error::TooManyHeaders => Refusal::StompHeaderCount,
        }
    }
}

impl From<Denial> for Refusal {
    fn from(denial: Denial) -> Refusal {
        match denial {
            Denial::Missing => Refusal::CallbackSignatureMissing,
            Denial::Ambiguous => Refusal::CallbackSignatureAmbiguous,
            Denial::Garbled => Refusal::CallbackSignatureMalformed,
            Denial::Wrong => Refusal::CallbackSignatureWrong,
            Denial::Stale => Refusal::CallbackSignatureStale,
        }
    }
}

impl From<Problem<'_>> for Refusal {
    fn from(problem: Problem<'_>) -> Refusal {
        match problem {
            Problem::NotJson => Refusal::CallbackNotJson,
            Problem::TooDeep => Refusal::CallbackJsonDepth,
            Problem::Missing(_) => Refusal::CallbackPointerMissing,
            Problem::Unfit(_) => Refusal::CallbackPointerValue,
        }
    }
}

impl From<Full> for Refusal {
    fn from(full: Full) -> Refusal {
        match full {
            Full::Table => Refusal::LimitDestinations,
            Full::Alike => Refusal::LimitPatternsAlike,
            Full::Share => Refusal::LimitShareOfDestinations,
            Full::ShareAlike => Refusal::LimitShareOfPatternsAlike,
        }
    }
}

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
use crate::transport;
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

impl From<transport::Error> for Refusal {
    fn from(error: transport::Error) -> Refusal {
        match error {
            transport::Error::Handshake => Refusal::TransportHandshake,
            transport::Error::Record => Refusal::TransportRecord,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Pointer;
    use UpgradeRefusal as Upgrade;
    use http::Refusal as Http;
    use identity::Refusal as Identity;
    use sockjs::Error as Sockjs;
    use stomp::Error as Stomp;
    use ws::Error as Ws;

    /// The word by which each error is counted and logged. It does not compile while an error has
    /// no row.
    macro_rules! words {
        ($error:ident { $($variant:ident $(($value:expr))? => $word:literal,)* }) => {
            let has_row = |error: &$error| match error { $($error::$variant { .. } => true,)* };
            for (error, word) in [$(($error::$variant $(($value))?, $word),)*] {
                assert!(has_row(&error), "{error:?}");
                assert_eq!(Refusal::from(error).label(), word, "{error:?}");
            }
        };
    }

    #[test]
    fn each_error_of_a_request_has_its_word() {
        words!(Http {
            BareLineFeed => "http_bare_line_feed",
            BodyTooLarge => "http_body_size",
            Chunk => "http_chunk",
            ChunkExtensions => "http_chunk_extensions",
            ContentLengthAndTransferEncoding => "http_length_and_encoding",
            ContentLength => "http_content_length",
            ContentLengthRepeated => "http_content_length_repeated",
            Expectation => "http_expectation",
            Folding => "http_folding",
            HeadTooLong => "http_head_size",
            HeaderName => "http_header_name",
            HeaderValue => "http_header_value",
            Host => "http_host",
            HostMissing => "http_host_missing",
            HostRepeated => "http_host_repeated",
            Method => "http_method",
            MethodTooLong => "http_method_size",
            Target => "http_target",
            TargetTooLong => "http_target_size",
            TooManyHeaders => "http_header_count",
            TrailersTooLong => "http_trailers_size",
            TransferEncodingInOld => "http_encoding_in_http10",
            TransferEncodingUnknown => "http_encoding_unknown",
            Version => "http_version",
            VersionUnknown => "http_version_unknown",
        });
        words!(Upgrade {
            Body => "http_upgrade_body",
            Connection => "http_upgrade_connection",
            Key => "http_upgrade_key",
            Method => "http_upgrade_method",
            NotAnUpgrade => "http_upgrade_missing",
            Old => "http_upgrade_old",
            Version => "http_upgrade_version",
        });
    }

    #[test]
    fn each_reason_why_nobody_is_known_has_its_word() {
        words!(Identity {
            Nobody => "auth_missing",
            Name => "auth_user_name",
            Ambiguous => "auth_user_header_repeated",
            Malformed => "auth_token_malformed",
            Algorithm => "auth_token_algorithm",
            Signature => "auth_token_signature",
            Expired => "auth_token_expired",
            Early => "auth_token_not_yet_valid",
            Issuer => "auth_token_issuer",
            Audience => "auth_token_audience",
            Claim => "auth_token_user",
        });
    }

    #[test]
    fn each_error_of_websocket_and_sockjs_has_its_word() {
        words!(Ws {
            ReservedBits => "ws_reserved_bits",
            ReservedOpcode => "ws_reserved_opcode",
            NotMasked => "ws_not_masked",
            Masked => "ws_masked",
            ControlFragmented => "ws_control_fragmented",
            ControlTooLong => "ws_control_size",
            ContinuationUnexpected => "ws_continuation_unexpected",
            ContinuationExpected => "ws_continuation_expected",
            LengthNotMinimal => "ws_length_not_minimal",
            LengthHighBit => "ws_length_high_bit",
            MessageTooBig => "ws_message_size",
            TextNotUtf8 => "ws_text_not_utf8",
            NotDeflate => "ws_not_deflate",
            CloseLength => "ws_close_length",
            CloseCode => "ws_close_code",
            CloseReason => "ws_close_reason",
        });
        words!(Sockjs {
            BrokenJson => "sockjs_broken_json",
        });
    }

    #[test]
    fn each_error_of_stomp_has_its_word() {
        words!(Stomp {
            UnknownCommand => "stomp_unknown_command",
            BareCarriageReturn => "stomp_bare_cr",
            NulInHead => "stomp_nul_in_head",
            NotUtf8 => "stomp_not_utf8",
            NoColon => "stomp_no_colon",
            EmptyName => "stomp_empty_name",
            BadEscape => "stomp_escape",
            BadContentLength => "stomp_content_length",
            NoNulAfterBody => "stomp_no_nul_after_body",
            BodyNotAllowed => "stomp_body_not_allowed",
            BadHeartBeat => "stomp_heart_beat",
            TooLarge => "stomp_frame_size",
            TooManyHeaders => "stomp_header_count",
        });
    }

    #[test]
    fn each_reason_against_a_callback_has_its_word() {
        let pointer = Pointer::parse("/a").expect("it is one");
        words!(Denial {
            Missing => "callback_signature_missing",
            Ambiguous => "callback_signature_ambiguous",
            Garbled => "callback_signature_malformed",
            Wrong => "callback_signature_wrong",
            Stale => "callback_signature_stale",
        });
        words!(Problem {
            NotJson => "callback_not_json",
            TooDeep => "callback_json_depth",
            Missing(&pointer) => "callback_pointer_missing",
            Unfit(&pointer) => "callback_pointer_value",
        });
    }

    #[test]
    fn each_reason_why_a_home_is_full_has_its_word() {
        words!(Full {
            Table => "limit_destinations",
            Alike => "limit_patterns_alike",
            Share => "limit_share_of_destinations",
            ShareAlike => "limit_share_of_patterns_alike",
        });
    }
}

//! Every reason why something is refused, once: its word in metrics and log, and a sentence.
//!
//! A word begins with the layer that refuses: `http_`, `ws_`, `stomp_`, `sockjs_` for bytes that
//! cannot be read, `auth_`, `api_`, `callback_`, `broker_`, `hook_` for what cannot be served,
//! `limit_` for bounds, `net_` for the kernel, `transport_` for what seals connections. The codecs
//! do not know this table: the engine maps their errors to it by exhaustive matches
//! (`engine::reason`), so that a new error does not compile until it has a row here.

/// Declares the table once: variant, word, sentence.
macro_rules! refusals {
    ($($variant:ident $label:literal $text:literal;)*) => {
        /// Why something is refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Refusal { $(#[doc = $text] $variant,)* }

        impl Refusal {
            /// All of them, in the order of the table: `ALL[r as usize] == r`.
            pub const ALL: &[Refusal] = &[$(Refusal::$variant,)*];

            /// Its word in metrics and log.
            pub const fn label(self) -> &'static str {
                match self { $(Refusal::$variant => $label,)* }
            }

            /// A sentence for the log.
            pub const fn text(self) -> &'static str {
                match self { $(Refusal::$variant => $text,)* }
            }
        }
    };
}

refusals! {
    // HTTP: requests that cannot be read.
    HttpBareLineFeed "http_bare_line_feed"
        "A line of a request ends with LF alone.";
    HttpBodySize "http_body_size"
        "A request body is longer than http-body.";
    HttpChunk "http_chunk"
        "A body's chunk or trailer is malformed.";
    HttpChunkExtensions "http_chunk_extensions"
        "The extensions of a body's chunks are too long.";
    HttpContentLength "http_content_length"
        "Content-Length is not a number.";
    HttpContentLengthRepeated "http_content_length_repeated"
        "Content-Length stands in a request twice.";
    HttpEncodingInOld "http_encoding_in_http10"
        "An HTTP/1.0 request has a Transfer-Encoding.";
    HttpEncodingUnknown "http_encoding_unknown"
        "A Transfer-Encoding is not chunked.";
    HttpExpectation "http_expectation"
        "A request expects something other than 100-continue.";
    HttpFolding "http_folding"
        "A header line begins with a blank.";
    HttpHeadSize "http_head_size"
        "A request head is longer than http-head.";
    HttpHeaderCount "http_header_count"
        "A request has more header lines than http-headers.";
    HttpHeaderName "http_header_name"
        "A header's name is malformed.";
    HttpHeaderValue "http_header_value"
        "A header's value has a control character.";
    HttpHost "http_host"
        "Host is malformed.";
    HttpHostMissing "http_host_missing"
        "A request has no Host.";
    HttpHostRepeated "http_host_repeated"
        "Host stands in a request twice.";
    HttpLengthAndEncoding "http_length_and_encoding"
        "A request has both Content-Length and Transfer-Encoding.";
    HttpMethod "http_method"
        "A request method is malformed.";
    HttpMethodSize "http_method_size"
        "A request method is too long.";
    HttpTarget "http_target"
        "A request target is malformed.";
    HttpTargetSize "http_target_size"
        "A request target is longer than http-target.";
    HttpTrailersSize "http_trailers_size"
        "The trailers of a body are too long.";
    HttpVersion "http_version"
        "An HTTP version is malformed.";
    HttpVersionUnknown "http_version_unknown"
        "An HTTP version is neither 1.0 nor 1.1.";
    // HTTP: requests that are not served.
    HttpMethodNotAllowed "http_method_not_allowed"
        "A path does not support the request's method.";
    HttpNotFound "http_not_found"
        "There is nothing at the request's path.";
    HttpOrigin "http_origin"
        "An Origin may not connect to an endpoint.";
    // HTTP: handshakes.
    HttpUpgradeBody "http_upgrade_body"
        "A WebSocket handshake has a body.";
    HttpUpgradeConnection "http_upgrade_connection"
        "Connection does not name upgrade in a handshake.";
    HttpUpgradeExtensions "http_upgrade_extensions"
        "Sec-WebSocket-Extensions is malformed.";
    HttpUpgradeKey "http_upgrade_key"
        "Sec-WebSocket-Key is not 16 bytes in base64.";
    HttpUpgradeMethod "http_upgrade_method"
        "A WebSocket handshake is not a GET request.";
    HttpUpgradeMissing "http_upgrade_missing"
        "A request to a WebSocket's path is not a handshake.";
    HttpUpgradeOld "http_upgrade_old"
        "A WebSocket handshake is an HTTP/1.0 request.";
    HttpUpgradeVersion "http_upgrade_version"
        "Sec-WebSocket-Version is not 13.";
    // Users.
    AuthMissing "auth_missing"
        "No method names a user, and anonymous sessions are not allowed.";
    AuthTokenAlgorithm "auth_token_algorithm"
        "A token's algorithm is not among the accepted ones.";
    AuthTokenAudience "auth_token_audience"
        "A token is meant for another audience.";
    AuthTokenExpired "auth_token_expired"
        "A token has expired.";
    AuthTokenIssuer "auth_token_issuer"
        "A token is of another issuer.";
    AuthTokenMalformed "auth_token_malformed"
        "A token cannot be read.";
    AuthTokenNotYetValid "auth_token_not_yet_valid"
        "A token is not valid yet.";
    AuthTokenSignature "auth_token_signature"
        "A token's signature is wrong.";
    AuthTokenUser "auth_token_user"
        "A token names no user.";
    AuthUserHeaderRepeated "auth_user_header_repeated"
        "The header that names the user stands in a request twice.";
    AuthUserName "auth_user_name"
        "A user's name is empty, too long or has control characters.";
    // The API and the demo's page.
    ApiDemoOnly "api_demo_only"
        "The demo was requested from another machine or another page.";
    ApiForgedHeader "api_forged_header"
        "A message of the API has a header that is blank or the server's own.";
    ApiRequest "api_request"
        "The API cannot serve what a request asks for.";
    ApiToken "api_token"
        "The API's token is missing or wrong.";
    ApiTokenUnset "api_token_unset"
        "The API was requested, and no token is configured.";
    // Callbacks.
    CallbackJsonDepth "callback_json_depth"
        "A callback's JSON is nested more deeply than json-depth.";
    CallbackNotJson "callback_not_json"
        "A callback's body is not JSON.";
    CallbackPointerMissing "callback_pointer_missing"
        "A callback's JSON lacks what a pointer names.";
    CallbackPointerValue "callback_pointer_value"
        "What a pointer names in a callback's JSON is neither a short text nor a number.";
    CallbackSignatureAmbiguous "callback_signature_ambiguous"
        "A callback has its signature or timestamp twice.";
    CallbackSignatureMalformed "callback_signature_malformed"
        "A callback's signature does not have the configured form.";
    CallbackSignatureMissing "callback_signature_missing"
        "A callback has no signature.";
    CallbackSignatureStale "callback_signature_stale"
        "A callback was signed too long ago, or its timestamp is too far ahead.";
    CallbackSignatureWrong "callback_signature_wrong"
        "A callback's signature is not that of its body.";
    // WebSocket frames.
    WsCloseCode "ws_close_code"
        "A Close frame has a code that must not be sent.";
    WsCloseLength "ws_close_length"
        "A Close frame has one byte.";
    WsCloseReason "ws_close_reason"
        "A Close frame's reason is not UTF-8.";
    WsContinuationExpected "ws_continuation_expected"
        "A message begins within another.";
    WsContinuationUnexpected "ws_continuation_unexpected"
        "A frame continues no message.";
    WsControlFragmented "ws_control_fragmented"
        "A control frame is fragmented.";
    WsControlSize "ws_control_size"
        "A control frame is longer than 125 bytes.";
    WsLengthHighBit "ws_length_high_bit"
        "A frame's length has its highest bit set.";
    WsLengthNotMinimal "ws_length_not_minimal"
        "A frame's length is not written as short as it can be.";
    WsMasked "ws_masked"
        "A server's frame is masked.";
    WsMessageSize "ws_message_size"
        "A WebSocket message is longer than message.";
    WsNotDeflate "ws_not_deflate"
        "A compressed message is not a DEFLATE stream.";
    WsNotMasked "ws_not_masked"
        "A client's frame is not masked.";
    WsReservedBits "ws_reserved_bits"
        "A frame has reserved bits set.";
    WsReservedOpcode "ws_reserved_opcode"
        "A frame has a reserved opcode.";
    WsTextNotUtf8 "ws_text_not_utf8"
        "A text message is not UTF-8.";
    // SockJS.
    SockjsBrokenJson "sockjs_broken_json"
        "A SockJS message is not a JSON array of strings.";
    // STOMP frames that cannot be read.
    StompBareCr "stomp_bare_cr"
        "A STOMP header line contains a CR that no LF follows.";
    StompBodyNotAllowed "stomp_body_not_allowed"
        "A STOMP frame other than SEND has a body.";
    StompContentLength "stomp_content_length"
        "A STOMP content-length is not one number.";
    StompEmptyName "stomp_empty_name"
        "A STOMP header's name is empty or blank.";
    StompEscape "stomp_escape"
        "A STOMP header contains an undefined escape sequence.";
    StompFrameSize "stomp_frame_size"
        "A STOMP frame is longer than stomp-frame or stomp-first-frame.";
    StompHeaderCount "stomp_header_count"
        "A STOMP frame has more headers than stomp-headers.";
    StompHeartBeat "stomp_heart_beat"
        "A STOMP heart-beat is not two numbers.";
    StompNoColon "stomp_no_colon"
        "A STOMP header line has no colon.";
    StompNoNulAfterBody "stomp_no_nul_after_body"
        "No NUL follows a STOMP body at the end of its content-length.";
    StompNotUtf8 "stomp_not_utf8"
        "STOMP headers are not UTF-8.";
    StompNulInHead "stomp_nul_in_head"
        "A NUL stands in the head of a STOMP frame.";
    StompUnknownCommand "stomp_unknown_command"
        "A STOMP command is unknown.";
    // STOMP frames that cannot be served.
    StompAckMode "stomp_ack_mode"
        "A SUBSCRIBE has an ack header that is not a mode.";
    StompConnectedTwice "stomp_connected_twice"
        "A STOMP session sends a second CONNECT.";
    StompHeartBeatMissed "stomp_heart_beat_missed"
        "Nothing came from a STOMP client for two of its heart-beat intervals.";
    StompMissingHeader "stomp_missing_header"
        "A STOMP frame lacks a header that its command needs.";
    StompNotConnected "stomp_not_connected"
        "A STOMP session does not begin with CONNECT.";
    StompTransactions "stomp_transactions"
        "A STOMP frame is part of a transaction, which is not built yet.";
    StompVersion "stomp_version"
        "A STOMP client speaks no version that the server speaks.";
    // What goes through the broker.
    BrokerNoLongerPermitted "broker_no_longer_permitted"
        "A subscription is no longer allowed after a reload.";
    BrokerNotPermitted "broker_not_permitted"
        "No rule allows a user to use a destination.";
    BrokerNoApplication "broker_no_application"
        "No application rule has the destination of a SEND.";
    BrokerNulInBody "broker_nul_in_body"
        "A body has a NUL, which broker.nul-in-body refuses.";
    BrokerPatternGaveUp "broker_pattern_gave_up"
        "Comparing a name with a pattern took too many steps.";
    BrokerUnknownDestination "broker_unknown_destination"
        "A destination begins with none of the configured prefixes.";
    // Calls of hooks.
    HookBodySize "hook_body_size"
        "A hook's answer is longer than hook-body.";
    HookBroken "hook_broken"
        "The connection to a hook broke, or its answer is not HTTP.";
    HookNulInBody "hook_nul_in_body"
        "A hook's answer has a NUL, which broker.nul-in-body refuses.";
    HookQueueFull "hook_queue_full"
        "A hook call has no place in hooks.queue.";
    HookStatus "hook_status"
        "A hook answered with a status other than 2xx.";
    HookTimeout "hook_timeout"
        "A hook did not answer within hooks.timeout.";
    HookUnreachable "hook_unreachable"
        "A hook cannot be reached.";
    HookUnset "hook_unset"
        "An application destination has no hook.";
    HookUserMissing "hook_user_missing"
        "A session without a user asks the stand-in provider for a call.";
    // Bounds.
    LimitAnswerTime "limit_answer_time"
        "A home did not answer within answer-time.";
    LimitBodyTime "limit_body_time"
        "A request body did not end within body-time.";
    LimitBufferedBytes "limit_buffered_bytes"
        "Unfinished input of connections is more than held-bytes.";
    LimitConnections "limit_connections"
        "There are more connections than connections, or than there are slots.";
    LimitConnectionsPerAddress "limit_connections_per_address"
        "An address has more connections than connections-per-address.";
    LimitDestinations "limit_destinations"
        "There are more destinations with a subscriber than destinations.";
    LimitFirstMessage "limit_first_message"
        "A STOMP client sent no CONNECT within first-message.";
    LimitFrameNumbers "limit_frame_numbers"
        "A SUBSCRIBE has the number of a live subscription, after 2^31 frames of its session.";
    LimitHeadTime "limit_head_time"
        "A request head did not end within head-time.";
    LimitLargestMessage "limit_largest_message"
        "A message does not fit the empty pool of segments.";
    LimitMessageBlocks "limit_message_blocks"
        "All of a shard's message-blocks are in flight.";
    LimitNameBytes "limit_name_bytes"
        "A destination or an id is longer than name-bytes.";
    LimitPatterns "limit_patterns"
        "A session has subscribed to more patterns than patterns.";
    LimitPatternsAlike "limit_patterns_alike"
        "There are more patterns that begin alike than patterns-alike.";
    LimitSegmentBytes "limit_segment_bytes"
        "The pool of segments has no room for an answer.";
    LimitShareOfDestinations "limit_share_of_destinations"
        "An address has its share of the destinations.";
    LimitShareOfHookCalls "limit_share_of_hook_calls"
        "An address has its share of the hook calls.";
    LimitShareOfPatternsAlike "limit_share_of_patterns_alike"
        "An address has its share of the patterns that begin alike.";
    LimitStrangerTime "limit_stranger_time"
        "An idle client was closed for a new one, as slots were few.";
    LimitSubscribedBytes "limit_subscribed_bytes"
        "All subscriptions are longer together than subscribed-bytes.";
    LimitSubscriptionBytes "limit_subscription_bytes"
        "A session's subscriptions are longer together than subscription-bytes.";
    LimitSubscriptions "limit_subscriptions"
        "A session has more subscriptions than subscriptions.";
    LimitSubscriptionsAlike "limit_subscriptions_alike"
        "A session has more subscriptions to one destination than subscriptions-alike.";
    // The kernel.
    NetAcceptFailed "net_accept_failed"
        "A listener's accept failed.";
    NetMoveFailed "net_move_failed"
        "A connection from another shard found no slot.";
    // Sealed connections.
    TransportHandshake "transport_handshake"
        "The handshake of a sealed connection is malformed or cannot be agreed to.";
    TransportRecord "transport_record"
        "A record of a sealed connection is malformed, too long or forged.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const LAYERS: [&str; 12] = [
        "api",
        "auth",
        "broker",
        "callback",
        "hook",
        "http",
        "limit",
        "net",
        "sockjs",
        "stomp",
        "transport",
        "ws",
    ];

    #[test]
    fn words_differ_are_snake_case_and_begin_with_their_layer() {
        let words: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.label()).collect();
        assert_eq!(words.len(), Refusal::ALL.len());
        let texts: BTreeSet<_> = Refusal::ALL.iter().map(|refusal| refusal.text()).collect();
        assert_eq!(texts.len(), Refusal::ALL.len());
        for (at, refusal) in Refusal::ALL.iter().enumerate() {
            assert_eq!(*refusal as usize, at);
            let (layer, rest) = refusal.label().split_once('_').expect("a layer and a word");
            assert!(LAYERS.contains(&layer), "{refusal:?}");
            let is_snake = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
            assert!(rest.bytes().all(is_snake) && !rest.is_empty(), "{refusal:?}");
            let name = format!("{refusal:?}").to_lowercase();
            assert!(name.starts_with(layer), "{refusal:?} is of another layer than its word");
            assert!(refusal.text().ends_with('.'), "{refusal:?}");
        }
    }
}

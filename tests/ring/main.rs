//! The ring against the real kernel, over loopback.
//!
//! Failure modes and the tests that provoke them:
//!
//! | what happens                           | test |
//! |----------------------------------------|------|
//! | no receive buffer is free              | `failures::receives_starve_and_go_on` |
//! | multishot receive ends with data       | `failures::a_full_completion_queue_loses_nothing` |
//! | the completion queue overflows         | `failures::a_full_completion_queue_loses_nothing` |
//! | the peer sends FIN                     | `basics::fin_is_the_end` |
//! | MSG_RING into a full completion queue  | `doorbells::every_doorbell_wakes_its_peer` |
//! | accept with a full table               | `failures::a_full_table_drops_just_one` |
//! | several sends of a socket              | `failures::a_second_send_is_our_bug` |
//! | a parked send is cancelled             | `failures::a_cancelled_send_goes_on_where_it_was` |
//! | a send is cancelled before it began    | `failures::a_cancelled_send_goes_on_where_it_was` |
//! | the peer vanishes under a parked send  | `failures::a_vanished_peer_ends_a_parked_send` |
//! | shutdown, then close                   | `failures::shutdown_ends_everything_and_sends_fin` |
//! | close under an armed receive           | `failures::close_under_a_receive_is_our_bug` |
//! | a slot is reused                       | `failures::a_reused_slot_keeps_generations_apart` |
//! | the connection is reset before accept  | `failures::a_reset_in_the_backlog_is_seen` |
//! | a peer's address cannot be read        | lib: `a_connection_without_a_name_is_closed` |
//! | the peer ends without a receive armed  | `polls::a_poll_reports_fin_over_unread_bytes` |
//! | a release under a receive              | `moves::a_release_under_a_receive_is_our_bug` |
//! | a release without a free number        | `moves::a_release_without_a_number_changes_nothing` |
//! | a slot is reused as soon as it is left | `moves::a_slot_that_is_left_is_taken_at_once` |
//! | a receive ends while it is stopped     | `moves::a_stream_survives_ten_thousand_moves` |
//! | an adoption into a full table          | `moves::a_full_table_takes_nothing` |
//! | reset or FIN between two rings         | `moves::a_reset_on_the_way_is_found` |
//! | a released connection is thrown away   | `moves::a_dropped_owner_closes_the_connection` |
//! | deferred work without an entry         | `basics::an_enter_without_a_wait_sees_arrivals` |
//! | a ring used by another thread          | does not compile (`Uring` is not `Send`) |
//!
//! Not provoked because the ring never does it: zero-copy sends, linked sends, MSG_DONTWAIT,
//! CQE_SKIP_SUCCESS for payload.
//!
//! No test sleeps: each waits for completions, at most [`bench::PATIENCE`].

mod basics;
mod bench;
mod doorbells;
mod failures;
mod moves;
mod polls;

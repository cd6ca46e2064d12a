//! Counts how often each fault happened: faults of the fake kernel, failure modes of io_uring, and
//! bounds that were reached.

use crate::metrics::{Metrics, Refusal};
use std::collections::BTreeMap;

/// Declares the events and their names once.
macro_rules! events {
    ($($event:ident $name:literal)*) => {
        /// An event that has to happen often enough in a campaign.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Event { $(#[doc = $name] $event,)* }

        impl Event {
            /// All events, in the order of the table.
            pub const ALL: &[Event] = &[$(Event::$event,)*];

            /// Its name in the table.
            pub fn name(self) -> &'static str {
                match self { $(Event::$event => $name,)* }
            }
        }
    };
}

events! {
    // Rows of the table of failure modes.
    BufferRingEmpty "row: buffer ring empty, receive ends, bytes wait"
    ReceiveEndsWithData "row: multishot receive ends with data and without MORE"
    PeerFin "row: peer FIN"
    QueueOverflow "row: completion queue overflows, multishots end, nothing is lost"
    DoorbellIntoFullQueue "row: doorbell into a full completion queue"
    TableFull "row: accept with a full table, the connection is dropped"
    SendBehindSend "row: bytes wait in user space behind the one send in flight"
    SendParked "row: WAITALL send parks on a full socket"
    CancelNotBegun "row: cancelled send had not begun"
    CancelPartly "row: cancelled send tells the exact count"
    ShutdownEndsReceive "row: shutdown ends the armed receive before close"
    ShutdownEndsSend "row: shutdown releases a parked send, partly taken"
    ShutdownRefusesSend "row: shutdown releases a send not begun (EPIPE)"
    SlotReused "row: slot reused at once after close"
    PeerVanishesParked "row: peer vanishes under a parked send, partial count"
    BytesReadLate "row: bytes read by the kernel long after the push"
    PollHungUp "row: peer's FIN told to a poll, bytes unread"
    PollReset "row: reset told to a poll"
    PollStopped "row: poll stopped before close"
    Released "row: connection released to a number"
    Adopted "row: connection adopted in another table"
    // Sessions over HTTP.
    AnswerWhole "over HTTP: answer received to its end"
    StreamAtLimit "over HTTP: stream ended at its limit"
    ReceiverChanged "over HTTP: link received by another connection"
    WaitedForReceiver "over HTTP: connection comes for what waits"
    Elsewhere "over HTTP: connection came to another shard"
    ReceiverLost "over HTTP: connection ends in the middle of an answer"
    Abandoned "over HTTP: session given up, nobody came"
    SessionClosed "over HTTP: close frame received"
    SessionGone "over HTTP: session ended while nobody received"
    EndedAtDrain "over HTTP: session told its end at the shutdown"
    // Faults.
    ReleaseFails "fault: no number for a connection that leaves"
    AdoptFails "fault: no slot for a connection that comes"
    ResetAdrift "fault: peer resets while its connection moves"
    MoveThrownAway "fault: connection closed in flight"
    ShortReceive "fault: short receive"
    ShortTake "fault: kernel takes part of a send at a time"
    LateCompletion "fault: late completion"
    StaleCompletion "fault: completion of a former user of the slot"
    ConnectionReset "fault: connection reset by the peer"
    SendRefused "fault: send on a broken connection, nothing taken"
    ReceiveAfterStop "fault: bytes after RecvStop"
    AcceptEnds "fault: multishot accept ends by itself"
    AcceptFails "fault: accept fails"
    Nameless "fault: connection gone before its peer's address is known"
    CloseUnread "fault: close with unread bytes resets the peer"
    ClockJump "fault: monotonic clock jumps"
    WallJump "fault: wall clock jumps, also backwards"
    SpuriousWake "fault: a wait ends without a completion"
    ShardStalls "fault: a shard's thread gets no time for seconds"
    HalfClose "fault: peer ends its direction only"
    Vanish "fault: peer vanishes without a word"
    SlowReader "fault: reader that reads slowly or not at all"
    Malformed "fault: malformed input"
    Sealed "sealed: handshake over"
    SealedEnd "sealed: the server's direction ended by a record"
    SealedAlert "sealed: a record that cannot be opened answered by an alert"
    EndedByRecord "sealed: peer ends its direction by a record alone"
    SealedBlocked "sealed: no room in the pool for what a link would seal"
    SealedCancelled "sealed: send of sealed bytes cancelled"
    MailboxFull "bound: mailbox class full"
    BlocksFull "bound: message blocks all in flight"
    SegmentsShort "bound: segment pool without room"
    SlowConsumer "bound: slow consumer meets its policy"
    DroppedOldest "bound: message dropped for a slow consumer, as the oldest"
    Conflated "bound: message dropped for a slow consumer, as a newer one waits"
    ProducerPaused "bound: producer not read without room"
    CapacityRefused "bound: connection answered 503"
    MoveRefused "bound: connection in flight answered 503 without a slot"
    Deadline "bound: connection ended by a deadline"
}

/// Counters of all events, and of what was refused by the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts {
    events: [u64; Event::ALL.len()],
    refused: BTreeMap<Refusal, u64>,
}

impl Default for Counts {
    fn default() -> Counts {
        Counts { events: [0; Event::ALL.len()], refused: BTreeMap::new() }
    }
}

impl Counts {
    /// Counts an event.
    pub fn note(&mut self, event: Event) {
        self.add(event, 1);
    }

    /// Counts several events.
    pub fn add(&mut self, event: Event, times: u64) {
        self.events[event as usize] += times;
    }

    /// How often it has happened.
    pub fn of(&self, event: Event) -> u64 {
        self.events[event as usize]
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &Counts) {
        for (mine, theirs) in self.events.iter_mut().zip(other.events) {
            *mine += theirs;
        }
        for (refusal, times) in &other.refused {
            *self.refused.entry(*refusal).or_default() += times;
        }
    }

    /// Adds what all shards of a run have refused.
    pub(super) fn refuse(&mut self, metrics: &Metrics) {
        for (refusal, times) in metrics.refusals() {
            *self.refused.entry(refusal).or_default() += times;
        }
    }

    /// How often something was refused for this reason.
    pub fn refused(&self, refusal: Refusal) -> u64 {
        self.refused.get(&refusal).copied().unwrap_or(0)
    }

    /// The table, one event or reason a line.
    pub fn table(&self) -> String {
        let event = |event: &Event| format!("{:>12}  {}\n", self.of(*event), event.name());
        let refusal = |(refusal, times): (&Refusal, &u64)| {
            format!("{times:>12}  refused: {}\n", refusal.label())
        };
        Event::ALL.iter().map(event).chain(self.refused.iter().map(refusal)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_add_up_and_every_event_has_its_line() {
        let (mut all, mut one) = (Counts::default(), Counts::default());
        one.note(Event::PeerFin);
        one.add(Event::Deadline, 3);
        all.merge(&one);
        all.merge(&one);
        assert_eq!((all.of(Event::PeerFin), all.of(Event::Deadline)), (2, 6));
        assert_eq!(all.table().lines().count(), Event::ALL.len());
        let metrics = Metrics::new(2);
        metrics.shard(1).refuse(Refusal::HttpHost);
        all.refuse(&metrics);
        one.merge(&all);
        assert_eq!(one.refused(Refusal::HttpHost), 1);
        assert!(all.table().contains("           2  row: peer FIN\n"));
    }
}

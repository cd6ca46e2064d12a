#![forbid(unsafe_code)]
//! From the queue of a link to the wire where the connection is sealed: what goes out in one send
//! is sealed into extents of its own, and leaves the link at once. So a link is cut and shed at
//! units, as ever, and what is in flight is counted in bytes of the wire.

use super::link::{Link, Way};
use crate::engine::net::Transports;
use crate::ids::Slot;
use crate::mem::segment::{Full, Log, Segments};

/// Seals at most `max` bytes of a link, behind what its connection's layer owes by itself; of a
/// link that ends, the end of our direction after its last byte. What is sealed with bytes of a
/// link fits one segment: where the pool is low a client gets its part of what is left, and not
/// nothing. `scratch` is to gather in.
pub(super) fn seal(
    (state, segments): (&mut Link, &mut Segments),
    transports: &mut Transports,
    slot: Slot,
    max: u32,
    scratch: &mut Vec<u8>,
) -> Result<(), Full> {
    let may_seal = transports.may_seal(slot);
    let is_last = |len: u32| may_seal && state.way == Way::Ending && len == state.waiting();
    let wanted = if may_seal { state.waiting().min(max) } else { 0 };
    let (mut len, mut most) = (wanted, transports.most(slot, wanted as usize, is_last(wanted)));
    if most == 0 {
        return Ok(());
    }
    let over = most.saturating_sub(segments.fits_one());
    if over > 0 && wanted > 0 {
        // N bytes of plaintext less are at least N bytes less when they are sealed.
        len = wanted.saturating_sub(over as u32);
        most = transports.most(slot, len as usize, is_last(len));
    }
    if most == 0 || !segments.has_room(Log::Private, most) {
        return Err(Full);
    }
    let is_last = is_last(len);
    transports.seal(slot, state.front(len, segments, scratch), is_last);
    state.part_with(len, segments);
    transports.launch(slot, segments);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::Encoding;
    use crate::engine::net::Net;
    use crate::ids::ListenerId;
    use crate::mem::region::Owner;
    use crate::time::Instant;
    use crate::transport::{Error, MakeTransport, Transport};
    use crate::ws;
    use std::sync::Arc;

    /// A layer whose records are a `<`, the plaintext and a `>`; a `!` is its end.
    #[derive(Debug, Default)]
    struct Brackets;

    impl Transport for Brackets {
        fn open(&mut self, _: &mut [u8], _: &mut Vec<u8>) -> Result<(), Error> {
            Ok(())
        }
        fn held(&self) -> usize {
            0
        }
        fn forget(&mut self) {}
        fn is_established(&self) -> bool {
            true
        }
        fn is_ended(&self) -> bool {
            false
        }
        fn owed(&self) -> usize {
            0
        }
        fn take_owed(&mut self, _: &mut Vec<u8>) {}
        fn sealed_max(&self, plain: usize) -> usize {
            plain + 2
        }
        fn seal(&mut self, plain: &[u8], wire: &mut Vec<u8>) {
            wire.push(b'<');
            wire.extend_from_slice(plain);
            wire.push(b'>');
        }
        fn close_max(&self) -> usize {
            1
        }
        fn close(&mut self, wire: &mut Vec<u8>) {
            wire.push(b'!');
        }
    }

    impl MakeTransport for Brackets {
        fn make(&self) -> Box<dyn Transport> {
            Box::new(Brackets)
        }
    }

    const SLOT: Slot = Slot(0);

    /// A sealed connection, a link with three frames of 10, 20 and 30 bytes, the last of them in
    /// another segment, and what they are.
    fn sealed() -> (Net, Link, Segments, Vec<u8>) {
        let transports = Transports::new(vec![Some(Arc::new(Brackets))]);
        let mut net = Net::new(1, Instant(0), transports);
        net.accept(SLOT, ListenerId(0), ([127, 0, 0, 1], 9).into(), 0);
        let mut segments = Segments::new(Owner::new(50 * 6).expect("memory"), 50, 50 * 6);
        let (mut link, mut all) = (Link::default(), Vec::new());
        for len in [10u8, 20, 30] {
            let mut frame = vec![len; usize::from(len)];
            let mut head = [0; 10];
            let head_len = ws::head(ws::Opcode::Binary, true, u64::from(len) - 2, &mut head);
            frame[..head_len].copy_from_slice(&head[..head_len]);
            for extent in segments.append(Log::Shared, &frame).expect("room") {
                link.push(extent, &mut segments);
            }
            all.extend(frame);
        }
        (net, link, segments, all)
    }

    /// Sends all that is sealed.
    fn sends(net: &mut Net, segments: &mut Segments) -> Vec<u8> {
        let mut wire = Vec::new();
        while let Some(range) = net.transports_mut().begin_send(SLOT) {
            wire.extend_from_slice(segments.bytes(range));
            net.transports_mut().end_send(SLOT, range.len, segments);
        }
        wire
    }

    #[test]
    fn what_is_sealed_is_no_longer_the_links_and_what_it_has_begun_is_finished() {
        let (mut net, mut link, mut segments, all) = sealed();
        let mut scratch = Vec::new();
        let transports = net.transports_mut();
        seal((&mut link, &mut segments), transports, SLOT, 12, &mut scratch).expect("room");
        assert_eq!((link.waiting(), transports.unsent(SLOT)), (48, 14));
        link.invariants(true);
        // The second frame has begun, the third has not.
        link.keep_begun(&mut segments, Encoding::PLAIN);
        assert_eq!(link.waiting(), 18);
        let first = [b"<", &all[..12], b">"].concat();
        assert_eq!(sends(&mut net, &mut segments), first);
        link.way = Way::Ending;
        let transports = net.transports_mut();
        seal((&mut link, &mut segments), transports, SLOT, 100, &mut scratch).expect("room");
        seal((&mut link, &mut segments), transports, SLOT, 100, &mut scratch).expect("room");
        let last = [b"<", &all[12..30], b">!"].concat();
        assert_eq!(sends(&mut net, &mut segments), last, "the end, once");
        assert!(link.is_empty() && segments.refcounts() == 0);
    }

    #[test]
    fn several_extents_are_sealed_together() {
        let (mut net, mut link, mut segments, all) = sealed();
        let (transports, mut scratch) = (net.transports_mut(), Vec::new());
        seal((&mut link, &mut segments), transports, SLOT, 40, &mut scratch).expect("room");
        assert_eq!(sends(&mut net, &mut segments), [b"<", &all[..40], b">"].concat());
        let transports = net.transports_mut();
        seal((&mut link, &mut segments), transports, SLOT, 40, &mut scratch).expect("room");
        assert_eq!(sends(&mut net, &mut segments), [b"<", &all[40..], b">"].concat());
        assert!(link.is_empty() && segments.refcounts() == 0);
    }

    #[test]
    fn what_is_sealed_fits_one_segment_and_what_is_left_of_one() {
        let (mut net, mut link, mut segments, all) = sealed();
        link.way = Way::Ending;
        // Of the last free segment 40 bytes are others'.
        let others = segments.append(Log::Private, &[0; 50 * 3]).expect("room");
        let rest = segments.append(Log::Private, &[0; 40]).expect("room");
        let (transports, mut scratch) = (net.transports_mut(), Vec::new());
        seal((&mut link, &mut segments), transports, SLOT, 100, &mut scratch).expect("room");
        assert_eq!(sends(&mut net, &mut segments), [b"<", &all[..7], b">"].concat());
        let transports = net.transports_mut();
        let refused = seal((&mut link, &mut segments), transports, SLOT, 100, &mut scratch);
        assert_eq!(refused, Err(Full), "nothing is left");
        segments.release_all(&others);
        segments.release_all(&rest);
        let transports = net.transports_mut();
        seal((&mut link, &mut segments), transports, SLOT, 100, &mut scratch).expect("room");
        assert_eq!(sends(&mut net, &mut segments), [b"<", &all[7..54], b">"].concat());
        let transports = net.transports_mut();
        seal((&mut link, &mut segments), transports, SLOT, 100, &mut scratch).expect("room");
        assert_eq!(sends(&mut net, &mut segments), [b"<", &all[54..], b">!"].concat());
        assert!(link.is_empty() && segments.refcounts() == 0);
    }

    #[test]
    fn without_room_nothing_is_sealed_and_nothing_is_lost() {
        let (mut net, mut link, mut segments, all) = sealed();
        let others = segments.append(Log::Private, &[0; 50 * 4]).expect("room");
        let (transports, mut scratch) = (net.transports_mut(), Vec::new());
        let refused = seal((&mut link, &mut segments), transports, SLOT, 100, &mut scratch);
        assert_eq!(refused, Err(Full));
        assert_eq!((link.waiting(), transports.unsent(SLOT)), (60, 0));
        segments.release_all(&others);
        seal((&mut link, &mut segments), transports, SLOT, 100, &mut scratch).expect("room");
        assert_eq!(sends(&mut net, &mut segments), [b"<", &all[..48], b">"].concat());
    }
}

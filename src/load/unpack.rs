//! Inflates compressed messages (RFC 7692).
//!
//! A broadcast sends the same bytes to every client of a run. They are inflated only once, so that
//! the load generator is not what is measured.

use crate::ws::{Error, Inflater, Opcode};

/// The inflater of all clients, and its last output.
#[derive(Debug, Default)]
pub struct Unpacked {
    inflater: Inflater,
    packed: Vec<u8>,
    plain: Vec<u8>,
}

impl Unpacked {
    /// The plain form of a whole message of at most `message_max` bytes.
    pub fn plain(&mut self, packed: &[u8], message_max: u32) -> Result<&[u8], Error> {
        if self.packed != packed {
            self.packed.clear();
            self.plain.clear();
            // Text or binary does not matter here.
            self.inflater.begin(Opcode::Binary, message_max);
            self.inflater.feed(packed, &mut self.plain)?;
            self.inflater.finish(&mut self.plain)?;
            self.packed.extend_from_slice(packed);
        }
        Ok(&self.plain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::Compressor;

    #[test]
    fn repeated_messages_are_inflated_to_the_same() {
        let packed = [b"a", b"b"].map(|letter| {
            let mut packed = Vec::new();
            assert!(Compressor::new().compress(&letter.repeat(900), 15, &mut packed));
            packed
        });
        let mut unpacked = Unpacked::default();
        for at in [0, 0, 1, 0, 1, 1] {
            let plain = unpacked.plain(&packed[at], 900).expect("valid");
            assert_eq!(plain, [b"a", b"b"][at].repeat(900));
        }
        assert_eq!(unpacked.plain(&packed[0], 899), Err(Error::MessageTooBig));
        assert_eq!(unpacked.plain(&[0xff], 900), Err(Error::NotDeflate));
        // It still works after a fault.
        assert!(unpacked.plain(&packed[1], 900).is_ok());
    }
}

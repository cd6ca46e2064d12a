//! What came compressed (RFC 7692), in its plain form.
//!
//! A broadcast brings the same bytes to every client of a run: they are inflated once, so that the
//! client, which is all of them, is not what is measured.

use crate::ws::{Error, Inflater, Opcode};

/// The inflater of all clients, and what it made last.
#[derive(Debug, Default)]
pub struct Unpacked {
    inflater: Inflater,
    packed: Vec<u8>,
    plain: Vec<u8>,
}

impl Unpacked {
    /// The plain form of a whole message, which is not to be longer than `message_max`.
    pub fn plain(&mut self, packed: &[u8], message_max: u32) -> Result<&[u8], Error> {
        if self.packed != packed {
            self.packed.clear();
            self.plain.clear();
            // What it is, text or not, is the server's affair.
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
    fn each_message_is_itself_however_often_it_comes() {
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
        // After a fault as before it.
        assert!(unpacked.plain(&packed[1], 900).is_ok());
    }
}

//! A slow inflater for RFC 1951, bit by bit, for messages as in RFC 7692 §7.2.2. It shares no code
//! with the inflater that it is compared with.

/// The result of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inflated {
    /// The bytes before its end, its fault, or the first one past the bound (that one included).
    pub bytes: Vec<u8>,
    /// It is valid and complete.
    pub whole: bool,
}

/// How a message is to be inflated.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of the longest message.
    pub message_max: usize,
    /// How far back it may refer.
    pub reach: usize,
}

/// Inflates a message; `history` came before it.
pub fn inflate(message: &[u8], history: &[u8], bounds: Bounds) -> Inflated {
    // The four bytes that the sender has removed, and a final block as the end mark.
    let bytes = [message, &[0, 0, 0xff, 0xff, 1, 0, 0, 0xff, 0xff]].concat();
    let from = history.len();
    let mut reader = Reader { bytes, at: 0, out: history.to_vec(), start: 0, from, bounds };
    let whole = reader.message(message.len()).is_some();
    Inflated { bytes: reader.out.split_off(from), whole }
}

struct Reader {
    bytes: Vec<u8>,
    /// The next bit.
    at: usize,
    /// The output, after the history.
    out: Vec<u8>,
    /// Nothing before it may be referred to.
    start: usize,
    /// Where the message begins in `out`.
    from: usize,
    bounds: Bounds,
}

impl Reader {
    /// `None`: a fault, too big, or not complete.
    fn message(&mut self, len: usize) -> Option<()> {
        // One or more streams in sequence, each beginning on a byte boundary.
        while self.at != len * 8 && self.at != self.bytes.len() * 8 {
            while !self.block()? {}
            self.at = self.at.next_multiple_of(8);
            self.start = self.out.len();
        }
        Some(())
    }

    fn bits(&mut self, count: usize) -> Option<usize> {
        let mut value = 0;
        for place in 0..count {
            let byte = *self.bytes.get(self.at / 8)?;
            value |= usize::from(byte >> (self.at % 8) & 1) << place;
            self.at += 1;
        }
        Some(value)
    }

    fn put(&mut self, byte: u8) -> Option<()> {
        self.out.push(byte);
        (self.out.len() - self.from <= self.bounds.message_max).then_some(())
    }

    /// One block. Returns whether it is the stream's last.
    fn block(&mut self) -> Option<bool> {
        let last = self.bits(1)? == 1;
        match self.bits(2)? {
            0 => self.stored()?,
            1 => {
                let lengths: Vec<usize> = (0..288)
                    .map(|symbol| match symbol {
                        144..256 => 9,
                        256..280 => 7,
                        _ => 8,
                    })
                    .collect();
                self.codes(&Code::new(&lengths)?, &Code::new(&[5; 32])?)?;
            }
            2 => {
                let (literals, distances) = self.tables()?;
                self.codes(&literals, &distances)?;
            }
            _ => return None,
        }
        Some(last)
    }

    fn stored(&mut self) -> Option<()> {
        self.at = self.at.next_multiple_of(8);
        let len = self.bits(16)?;
        if self.bits(16)? != len ^ 0xffff {
            return None;
        }
        for _ in 0..len {
            let byte = self.bits(8)? as u8;
            self.put(byte)?;
        }
        Some(())
    }

    /// The two codes of a dynamic block (RFC 1951 §3.2.7).
    fn tables(&mut self) -> Option<(Code, Code)> {
        let (literals, distances) = (self.bits(5)? + 257, self.bits(5)? + 1);
        let count = self.bits(4)? + 4;
        if literals > 286 || distances > 30 {
            return None;
        }
        const ORDER: [usize; 19] =
            [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
        let mut of_lengths = [0; 19];
        for place in &ORDER[..count] {
            of_lengths[*place] = self.bits(3)?;
        }
        let code = Code::new(&of_lengths)?;
        if !code.is_complete {
            return None;
        }
        let mut lengths = Vec::new();
        while lengths.len() < literals + distances {
            let (length, times) = match code.symbol(self)? {
                16 => (*lengths.last()?, 3 + self.bits(2)?),
                17 => (0, 3 + self.bits(3)?),
                18 => (0, 11 + self.bits(7)?),
                length => (length, 1),
            };
            lengths.extend(std::iter::repeat_n(length, times));
        }
        let whole = lengths.len() == literals + distances && lengths[256] != 0;
        let (first, second) = lengths.split_at(literals);
        // Only a code of a single symbol, with one bit, may be incomplete.
        let valid = |code: &Code| code.is_complete || code.longest <= 1;
        let codes = (Code::new(first)?, Code::new(second)?);
        (whole && valid(&codes.0) && valid(&codes.1)).then_some(codes)
    }

    /// Literals and references up to the end of the block (RFC 1951 §3.2.5).
    fn codes(&mut self, literals: &Code, distances: &Code) -> Option<()> {
        loop {
            match literals.symbol(self)? {
                literal @ 0..256 => self.put(literal as u8)?,
                256 => return Some(()),
                symbol @ 257..286 => {
                    let len = match symbol - 257 {
                        28 => 258,
                        step => 3 + self.scaled(step, 4)?,
                    };
                    let symbol = distances.symbol(self)?;
                    if symbol >= 30 {
                        return None;
                    }
                    let distance = 1 + self.scaled(symbol, 2)?;
                    if distance > self.bounds.reach || distance > self.out.len() - self.start {
                        return None;
                    }
                    for _ in 0..len {
                        self.put(self.out[self.out.len() - distance])?;
                    }
                }
                _ => return None,
            }
        }
    }

    /// The scale of lengths and distances: `steps` values to each power of two, the first ones
    /// without extra bits.
    fn scaled(&mut self, step: usize, steps: usize) -> Option<usize> {
        if step < 2 * steps {
            return Some(step);
        }
        let extra = step / steps - 1;
        Some(((steps + step % steps) << extra) + self.bits(extra)?)
    }
}

/// A Huffman code by the lengths of its symbols (RFC 1951 §3.2.2).
struct Code {
    /// Symbols in the order of their codes, by length.
    by_length: [Vec<usize>; 16],
    longest: usize,
    is_complete: bool,
}

impl Code {
    /// `None`: more codes than the lengths allow.
    fn new(lengths: &[usize]) -> Option<Code> {
        let mut by_length: [Vec<usize>; 16] = Default::default();
        for (symbol, length) in lengths.iter().enumerate().filter(|(_, length)| **length > 0) {
            by_length[*length].push(symbol);
        }
        let used: usize = (1..16).map(|length| by_length[length].len() << (15 - length)).sum();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        let is_complete = used == 1 << 15;
        (used <= 1 << 15).then_some(Code { by_length, longest, is_complete })
    }

    fn symbol(&self, reader: &mut Reader) -> Option<usize> {
        let (mut code, mut first) = (0, 0);
        for symbols in &self.by_length[1..] {
            code = code * 2 + reader.bits(1)?;
            first *= 2;
            if let Some(symbol) = symbols.get(code - first) {
                return Some(*symbol);
            }
            first += symbols.len();
        }
        None
    }
}

//! The only source of randomness in a simulated run: everything follows from its seed.

/// xoshiro256**, seeded by SplitMix64: small, fast, the same on every machine.
#[derive(Clone, Debug)]
pub struct Random {
    state: [u64; 4],
}

impl Random {
    /// The sequence of a seed.
    pub fn new(seed: u64) -> Random {
        let mut mixed = seed;
        let mut next = || {
            mixed = mixed.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = mixed;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Random { state: [next(), next(), next(), next()] }
    }

    /// The next 64 bits.
    #[expect(clippy::should_implement_trait, reason = "a sequence without an end, not an iterator")]
    pub fn next(&mut self) -> u64 {
        let s = &mut self.state;
        let result = s[1].wrapping_mul(5).rotate_left(7).wrapping_mul(9);
        let shifted = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= shifted;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// A number below `end`, which is not zero.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "there is no number below zero");
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// An index into `len` items.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        assert!(low <= high, "an interval has a lower and an upper end");
        low + self.below(high - low + 1)
    }

    /// True with this probability, in thousandths.
    pub fn chance(&mut self, per_mille: u32) -> bool {
        self.below(1000) < u64::from(per_mille)
    }

    /// One of several items.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.index(items.len())]
    }

    /// Puts items into a random order.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (2..=items.len()).rev() {
            items.swap(end - 1, self.index(end));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_and_another_one_differs() {
        let draw = |seed| (0..8).map(|_| 0).scan(Random::new(seed), |r, _: u8| Some(r.next()));
        let first: Vec<u64> = draw(1).collect();
        assert_eq!(first, draw(1).collect::<Vec<_>>());
        assert_ne!(first, draw(2).collect::<Vec<_>>());
    }

    #[test]
    fn draws_stay_within_their_bounds_and_reach_all_of_them() {
        let mut random = Random::new(7);
        let (mut seen, mut hits) = ([0u32; 5], 0);
        for _ in 0..5_000 {
            seen[random.between(3, 7) as usize - 3] += 1;
            hits += u32::from(random.chance(250));
        }
        assert!(seen.iter().all(|&count| count > 800), "{seen:?}");
        assert!((1_000..1_500).contains(&hits), "{hits}");
        let mut items = [1, 2, 3, 4];
        random.shuffle(&mut items);
        items.sort_unstable();
        assert_eq!(items, [1, 2, 3, 4]);
    }
}

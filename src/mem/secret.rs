#![forbid(unsafe_code)]
//! Secrets of the process: keys of hash tables, and the generator that makes them.
//!
//! Names come from clients. A client that knew a table's key could make names that all fall into
//! one bucket, and a look-up would walk them all. So each table has its own key of 128 bits, and a
//! hash that reveals nothing about its key: SipHash-1-3, a pseudo-random function.

use core::hash::BuildHasher;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use siphasher::sip::SipHasher13;
use siphasher::sip128::{Hasher128, SipHasher24};

/// The key of one table (or of one map from names to numbers). Never printed.
#[derive(Clone, Copy)]
pub struct HashKey(u64, u64);

impl HashKey {
    /// A key made from a number, for tests.
    pub fn known(number: u64) -> HashKey {
        Random::known(number).key()
    }

    /// The hash of a text.
    pub fn hash(&self, text: &str) -> u64 {
        SipHasher13::new_with_keys(self.0, self.1).hash(text.as_bytes())
    }

    /// A hash wide enough that two texts never collide by chance.
    pub fn fingerprint(&self, parts: (&str, &str)) -> u128 {
        use core::hash::Hash;
        let mut hasher = SipHasher24::new_with_keys(self.0, self.1);
        parts.hash(&mut hasher);
        hasher.finish128().as_u128()
    }
}

impl BuildHasher for HashKey {
    type Hasher = SipHasher13;

    fn build_hasher(&self) -> SipHasher13 {
        SipHasher13::new_with_keys(self.0, self.1)
    }
}

impl core::fmt::Debug for HashKey {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("HashKey(…)")
    }
}

/// Generates secrets from one secret: HMAC-SHA256 of a counter. Its output reveals nothing about
/// later output or about the seed. A number takes about a microsecond.
pub struct Random {
    seeded: Hmac<Sha256>,
    drawn: u64,
}

impl Random {
    /// A generator with this seed, which must come from the operating system.
    pub fn new(seed: &[u8; 32]) -> Random {
        let seeded = Hmac::new_from_slice(seed).expect("HMAC takes keys of any length");
        Random { seeded, drawn: 0 }
    }

    /// A generator seeded by a number, where nothing has to be secret (simulator, tests).
    pub fn known(number: u64) -> Random {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        Random::new(&seed)
    }

    fn block(&mut self) -> [u8; 32] {
        self.drawn += 1;
        self.seeded.clone().chain_update(self.drawn.to_le_bytes()).finalize().into_bytes().into()
    }

    /// The next 64 bits.
    pub fn number(&mut self) -> u64 {
        u64::from_le_bytes(self.block()[..8].try_into().expect("eight bytes"))
    }

    /// The next key.
    pub fn key(&mut self) -> HashKey {
        HashKey(self.number(), self.number())
    }
}

impl core::fmt::Debug for Random {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("Random(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_the_seed_and_keys_differ() {
        let mut random = Random::known(7);
        let drawn: Vec<u64> = (0..4).map(|_| random.number()).collect();
        let mut again = Random::known(7);
        assert_eq!(drawn, (0..4).map(|_| again.number()).collect::<Vec<u64>>());
        let mut sorted = drawn.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(sorted.len(), 4);
        assert_ne!(Random::known(8).number(), drawn[0]);
        let (a, b) = (random.key(), random.key());
        assert_ne!(a.hash("/topic/all"), b.hash("/topic/all"));
        assert_ne!(a.fingerprint(("/c", "1")), b.fingerprint(("/c", "1")));
        assert_ne!(a.fingerprint(("/c", "1")), a.fingerprint(("/", "c1")));
        assert_eq!(format!("{a:?} {random:?}"), "HashKey(…) Random(…)");
    }

    /// The hash has its own tests (RFC 4231 §4.2); this tests the counter: HMAC-SHA256(0^32, 1).
    #[test]
    fn a_number_is_the_start_of_an_hmac_of_the_counter() {
        let mac = Hmac::<Sha256>::new_from_slice(&[0; 32]).expect("any length");
        let first = mac.chain_update(1u64.to_le_bytes()).finalize().into_bytes();
        assert_eq!(Random::new(&[0; 32]).number().to_le_bytes(), first[..8]);
    }

    /// Names that collide under one key spread out under another, which the former hash failed.
    #[test]
    fn names_that_collide_under_one_key_do_not_under_another() {
        let (known, secret) = (Random::known(1).key(), Random::known(2).key());
        let names = (0..).map(|n: u32| format!("/topic/{n}"));
        let bucket = |key: &HashKey, name: &str| key.hash(name) & 0xff;
        let meet: Vec<String> = names.filter(|name| bucket(&known, name) == 0).take(512).collect();
        let mut counts = [0; 256];
        meet.iter().for_each(|name| counts[bucket(&secret, name) as usize] += 1);
        // Two in each are expected; sixteen happen once in 10^7 keys.
        assert!(counts.iter().all(|&count| count < 16), "{counts:?}");
    }
}

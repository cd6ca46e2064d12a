#![forbid(unsafe_code)]
//! Stores repeated strings (destinations, subscription ids) once, and names each by a small number.
//! Uses are counted; releasing the last one frees the string.

use hashbrown::HashTable;
use std::sync::Arc;

use super::secret::HashKey;
use super::slab::Slab;

/// Name of an interned string within one interner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Sym(pub u32);

#[derive(Debug)]
struct Entry {
    text: Arc<str>,
    hash: u64,
    count: u32,
}

/// The most memory that a string needs beside its bytes: its entry; its slot in the table, which
/// may just have doubled; the counters of its `Arc`; and the allocator's overhead.
const ENTRY: usize = 2 * (size_of::<Entry>() + size_of::<u32>())
    + 2 * (size_of::<u32>() + 1) * 8 / 7
    + 2 * size_of::<usize>()
    + 16;

/// The interner. Its hash has a secret key, so that no client can aim at a bucket.
#[derive(Debug)]
pub struct Interner {
    entries: Slab<Entry>,
    table: HashTable<u32>,
    key: HashKey,
    bytes: usize,
}

impl Interner {
    /// An empty interner with its hash key.
    pub fn new(key: HashKey) -> Interner {
        Interner { entries: Slab::default(), table: HashTable::new(), key, bytes: 0 }
    }

    /// Bytes of all strings with their entries.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The name of a string that is already interned; not counted as a use.
    pub fn find(&self, text: &str) -> Option<Sym> {
        let hash = self.key.hash(text);
        let entries = &self.entries;
        self.table.find(hash, |&index| &*entries.at(index).text == text).map(|&index| Sym(index))
    }

    /// Interns a string and counts one use.
    pub fn intern(&mut self, text: &str) -> Sym {
        if let Some(sym) = self.find(text) {
            self.entries.at_mut(sym.0).count += 1;
            return sym;
        }
        self.bytes += text.len() + ENTRY;
        let hash = self.key.hash(text);
        let key = self.entries.insert(Entry { text: Arc::from(text), hash, count: 1 });
        let entries = &self.entries;
        self.table.insert_unique(hash, key.index, |&index| entries.at(index).hash);
        Sym(key.index)
    }

    /// Releases one use.
    pub fn release(&mut self, sym: Sym) {
        let entry = self.entries.at_mut(sym.0);
        entry.count -= 1;
        if entry.count > 0 {
            return;
        }
        self.bytes -= entry.text.len() + ENTRY;
        let hash = entry.hash;
        if let Ok(found) = self.table.find_entry(hash, |&index| index == sym.0) {
            found.remove();
        }
        self.entries.remove(sym.0);
    }

    /// The string of a name in use.
    pub fn text(&self, sym: Sym) -> &Arc<str> {
        &self.entries.at(sym.0).text
    }

    /// Count of different strings.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_strings_share_a_name_until_the_last_release() {
        let mut interner = Interner::new(crate::mem::secret::Random::known(7).key());
        let (a, b) = (interner.intern("sub-0"), interner.intern("/topic/all"));
        assert_eq!(interner.intern("sub-0"), a);
        assert_ne!(a, b);
        interner.release(a);
        assert_eq!(&**interner.text(a), "sub-0");
        interner.release(a);
        assert_eq!(interner.find("sub-0"), None);
        assert_eq!(interner.find("/topic/all"), Some(b));
        assert_eq!((interner.len(), interner.bytes()), (1, 10 + ENTRY));
    }
}

#![forbid(unsafe_code)]
//! A slab whose keys have a generation, so that the key of a removed entry finds nothing.

/// Index and generation of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Index in the table.
    pub index: u32,
    /// How often the index was used before.
    pub generation: u32,
}

/// `slab::Slab` with a generation for each index. Generations survive the removal of entries.
#[derive(Debug)]
pub struct Slab<T> {
    entries: slab::Slab<T>,
    generations: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Slab<T> {
        Slab { entries: slab::Slab::new(), generations: Vec::new() }
    }
}

impl<T> Slab<T> {
    /// An empty slab that does not reallocate before it has `capacity` entries. Until entries use
    /// it, the memory costs only address space.
    pub fn with_capacity(entries: usize) -> Slab<T> {
        Slab {
            entries: slab::Slab::with_capacity(entries),
            generations: Vec::with_capacity(entries),
        }
    }

    /// The key that the next `insert` will give.
    pub fn next_key(&self) -> Key {
        let index = self.entries.vacant_key();
        Key { index: index as u32, generation: self.generations.get(index).copied().unwrap_or(0) }
    }

    /// Inserts an entry.
    pub fn insert(&mut self, entry: T) -> Key {
        let key = self.next_key();
        let index = self.entries.insert(entry);
        assert_eq!(index, key.index as usize);
        if index == self.generations.len() {
            self.generations.push(0);
        }
        key
    }

    /// The entry of a key, if it is still there.
    pub fn find(&self, key: Key) -> Option<&T> {
        if self.generations.get(key.index as usize) != Some(&key.generation) {
            return None;
        }
        self.entries.get(key.index as usize)
    }

    /// The entry of a key, if it is still there.
    pub fn find_mut(&mut self, key: Key) -> Option<&mut T> {
        if self.generations.get(key.index as usize) != Some(&key.generation) {
            return None;
        }
        self.entries.get_mut(key.index as usize)
    }

    /// The entry at an index that the caller knows to be in use.
    pub fn at(&self, index: u32) -> &T {
        &self.entries[index as usize]
    }

    /// The entry at an index that the caller knows to be in use.
    pub fn at_mut(&mut self, index: u32) -> &mut T {
        &mut self.entries[index as usize]
    }

    /// The generation of an index that was in use at least once.
    pub fn generation(&self, index: u32) -> u32 {
        self.generations[index as usize]
    }

    /// One more than the largest index that was ever in use.
    pub fn places(&self) -> u32 {
        self.generations.len() as u32
    }

    /// Whether an index is in use.
    pub fn contains(&self, index: u32) -> bool {
        self.entries.contains(index as usize)
    }

    /// Removes an entry; its key finds nothing from now on.
    pub fn remove(&mut self, index: u32) -> T {
        let generation = &mut self.generations[index as usize];
        *generation = generation.wrapping_add(1);
        self.entries.remove(index as usize)
    }

    /// Count of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries with their indexes.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &T)> {
        self.entries.iter().map(|(index, entry)| (index as u32, entry))
    }

    /// All entries with their indexes.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut T)> {
        self.entries.iter_mut().map(|(index, entry)| (index as u32, entry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_a_removed_entry_finds_nothing_in_its_reused_index() {
        let mut slab = Slab::default();
        let first = slab.insert("a");
        assert_eq!(slab.find(first), Some(&"a"));
        assert_eq!(slab.remove(first.index), "a");
        let second = slab.insert("b");
        assert_eq!(second.index, first.index);
        assert_eq!(slab.find(first), None);
        assert_eq!(slab.find_mut(second), Some(&mut "b"));
    }
}

//! A set of items as bits. A word is 64 items, which is what a scan scores at a time: a word of zeros
//! skips them all.

use crate::RetrievalError;
use crate::layout::BLOCK;

/// A set of item ids `1..=items`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitset {
    items: usize,
    words: Vec<u64>,
}

impl Bitset {
    /// No item of `items`.
    pub fn empty(items: usize) -> Bitset {
        Bitset { items, words: vec![0; (items + 1).div_ceil(BLOCK)] }
    }

    /// Every item of `items`.
    pub fn full(items: usize) -> Bitset {
        Bitset::empty(items).complement()
    }

    /// The items named.
    ///
    /// # Errors
    /// An id is not in `1..=items`.
    pub fn from_ids(items: usize, ids: impl IntoIterator<Item = u32>) -> Result<Bitset, RetrievalError> {
        let mut set = Bitset::empty(items);
        for id in ids {
            set.insert(id)?;
        }
        Ok(set)
    }

    /// Adds an item.
    ///
    /// # Errors
    /// `id` is not in `1..=items`.
    pub fn insert(&mut self, id: u32) -> Result<(), RetrievalError> {
        let at = id as usize;
        if at == 0 || at > self.items {
            return Err(RetrievalError::Item { id, items: self.items });
        }
        self.words[at / BLOCK] |= 1 << (at % BLOCK);
        Ok(())
    }

    /// Whether the item is there.
    pub fn contains(&self, id: u32) -> bool {
        self.word(id as usize / BLOCK) >> (id as usize % BLOCK) & 1 == 1
    }

    /// Number of items in the set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Number of items that the set could hold.
    pub fn items(&self) -> usize {
        self.items
    }

    /// The ids, ascending.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.words.iter().enumerate().flat_map(|(block, &word)| bits(word).map(move |bit| (block * BLOCK + bit) as u32))
    }

    /// Items in both sets.
    ///
    /// # Errors
    /// The sets are over different numbers of items.
    pub fn and(&self, other: &Bitset) -> Result<Bitset, RetrievalError> {
        self.combine(other, |a, b| a & b)
    }

    /// Items in either set.
    ///
    /// # Errors
    /// The sets are over different numbers of items.
    pub fn or(&self, other: &Bitset) -> Result<Bitset, RetrievalError> {
        self.combine(other, |a, b| a | b)
    }

    /// The items that are not in the set.
    pub fn complement(&self) -> Bitset {
        let mut words: Vec<u64> = self.words.iter().map(|word| !word).collect();
        for (block, word) in words.iter_mut().enumerate() {
            *word &= real_rows(block, self.items + 1);
        }
        Bitset { items: self.items, words }
    }

    /// Bits of rows `64 * block..`, bit 0 of block 0 being PAD.
    pub(crate) fn word(&self, block: usize) -> u64 {
        self.words.get(block).copied().unwrap_or(0)
    }

    fn combine(&self, other: &Bitset, op: impl Fn(u64, u64) -> u64) -> Result<Bitset, RetrievalError> {
        if self.items != other.items {
            return Err(RetrievalError::Set { set: other.items, items: self.items });
        }
        let words = self.words.iter().zip(&other.words).map(|(&a, &b)| op(a, b)).collect();
        Ok(Bitset { items: self.items, words })
    }
}

/// Bits of a block that are items: not PAD, and not past the last of `rows`.
pub(crate) fn real_rows(block: usize, rows: usize) -> u64 {
    let left = rows.saturating_sub(block * BLOCK);
    let below = if left >= BLOCK { u64::MAX } else { (1 << left) - 1 };
    below & !u64::from(block == 0)
}

/// Positions of the bits set, ascending.
pub(crate) fn bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let bit = (word != 0).then(|| word.trailing_zeros() as usize);
        word &= word.wrapping_sub(1);
        bit
    })
}

//! Which items may be results. A filter is applied inside the scan, so that k results come back
//! whenever k items are allowed.

use crate::bitset::real_rows;
use crate::{Bitset, MAX_WITHOUT, RetrievalError};

/// Items that may be results: in every allow set, in no deny set, and not named in a list.
#[derive(Debug, Clone, Default)]
pub struct Filter<'a> {
    allow: Vec<&'a Bitset>,
    deny: Vec<&'a Bitset>,
    without: &'a [u32],
}

impl<'a> Filter<'a> {
    /// Every item.
    pub fn all() -> Filter<'a> {
        Filter::default()
    }

    /// Only items of `set`; of several such sets, only items that are in all.
    #[must_use]
    pub fn allow(mut self, set: &'a Bitset) -> Filter<'a> {
        self.allow.push(set);
        self
    }

    /// No item of `set` (hidden, expired).
    #[must_use]
    pub fn deny(mut self, set: &'a Bitset) -> Filter<'a> {
        self.deny.push(set);
        self
    }

    /// No item of this list (seen by one user), at most [`MAX_WITHOUT`] ids; ids that no item has are
    /// passed over. Replaces a list given before.
    #[must_use]
    pub fn without(mut self, ids: &'a [u32]) -> Filter<'a> {
        self.without = ids;
        self
    }

    /// Refuses sets made for another number of items, and long lists.
    pub(crate) fn check(&self, items: usize) -> Result<(), RetrievalError> {
        if let Some(set) = self.allow.iter().chain(&self.deny).find(|set| set.items() != items) {
            return Err(RetrievalError::Set { set: set.items(), items });
        }
        if self.without.len() > MAX_WITHOUT {
            return Err(RetrievalError::Without { ids: self.without.len() });
        }
        Ok(())
    }

    /// The sets' bits for 64 rows of a table of `rows`.
    #[inline]
    pub(crate) fn word(&self, block: usize, rows: usize) -> u64 {
        let word = self.allow.iter().fold(real_rows(block, rows), |word, set| word & set.word(block));
        self.deny.iter().fold(word, |word, set| word & !set.word(block))
    }

    /// Whether the list lets an item through that the sets do. Asked for the few rows that reach the
    /// worst result kept.
    #[inline]
    pub(crate) fn list_accepts(&self, id: u32) -> bool {
        !self.without.contains(&id)
    }

    /// Whether an item may be a result.
    pub(crate) fn accepts(&self, id: u32) -> bool {
        self.allow.iter().all(|set| set.contains(id))
            && !self.deny.iter().any(|set| set.contains(id))
            && self.list_accepts(id)
    }
}

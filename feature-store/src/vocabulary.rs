//! The two-way map between external item keys and internal ids.

use crate::StoreError;
use std::collections::HashMap;

/// An item as the catalogue knows it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Item {
    /// External key, unique.
    pub key: String,
    /// What people read.
    pub title: String,
    /// What the text encoder read.
    pub text: String,
}

/// Keys of items `1..=n` and the way back. Immutable once made.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    keys: Vec<String>,
    ids: HashMap<String, u32>,
}

impl Vocabulary {
    /// `keys[i]` is the key of item `i + 1`.
    ///
    /// # Errors
    /// An empty key, a key given twice, or more than `u32::MAX - 1` keys.
    pub fn new(keys: Vec<String>) -> Result<Vocabulary, StoreError> {
        if keys.len() >= u32::MAX as usize {
            return Err(StoreError::invalid("items", "more than 4294967294 items do not fit u32 ids"));
        }
        let mut ids = HashMap::with_capacity(keys.len());
        for (index, key) in keys.iter().enumerate() {
            let id = index as u32 + 1;
            if key.is_empty() {
                return Err(StoreError::invalid(
                    "item key",
                    format!("the key of item {id} is empty; give every item a key"),
                ));
            }
            if let Some(first) = ids.insert(key.clone(), id) {
                return Err(StoreError::invalid(
                    "item key",
                    format!("{key:?} is the key of items {first} and {id}; keep one of them"),
                ));
            }
        }
        Ok(Vocabulary { keys, ids })
    }

    /// Number of items, PAD not counted.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Id of a key.
    pub fn id(&self, key: &str) -> Option<u32> {
        self.ids.get(key).copied()
    }

    /// Key of an id; none for PAD and for ids past the last item.
    pub fn key(&self, id: u32) -> Option<&str> {
        self.keys.get((id as usize).checked_sub(1)?).map(String::as_str)
    }
}

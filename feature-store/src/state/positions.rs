//! How far each source has been applied: source name and partition -> offset of the last record.
//!
//! One table for all users instead of a check by user: it is written in the transaction that writes
//! the records' effects, so the two cannot disagree, it also covers records that touch no user, and
//! it is where a consumer starts again.

use super::{Inner, UserStateStore};
use crate::StoreError;
use std::collections::BTreeMap;

impl UserStateStore {
    /// For each partition of a source, the offset of the last record applied; absent if none was.
    ///
    /// # Errors
    /// The database's failure.
    pub fn positions(&self, source: &str) -> Result<BTreeMap<u32, u64>, StoreError> {
        let inner = &self.inner;
        let prefix = prefix(source);
        let mut found = BTreeMap::new();
        for row in inner.positions.prefix(&prefix) {
            let (key, value) = row.into_inner().map_err(|error| inner.failure(&error))?;
            let partition: [u8; 4] =
                key[prefix.len()..].try_into().map_err(|_| inner.damaged(&format!("a position of {source:?}")))?;
            found.insert(u32::from_be_bytes(partition), inner.number(source, &value)?);
        }
        Ok(found)
    }
}

impl Inner {
    pub(super) fn position(&self, source: &str, partition: u32) -> Result<Option<u64>, StoreError> {
        match self.positions.get(key(source, partition)).map_err(|error| self.failure(&error))? {
            None => Ok(None),
            Some(bytes) => self.number(source, &bytes).map(Some),
        }
    }
}

/// The length comes first, so that no source's keys begin with those of another.
fn prefix(source: &str) -> Vec<u8> {
    let mut key = (source.len() as u64).to_be_bytes().to_vec();
    key.extend_from_slice(source.as_bytes());
    key
}

pub(super) fn key(source: &str, partition: u32) -> Vec<u8> {
    let mut key = prefix(source);
    key.extend_from_slice(&partition.to_be_bytes());
    key
}

//! How far each source has been applied: source name and partition -> offset of the last record.
//!
//! One table for all users instead of a check by user: it is written in the transaction that writes
//! the records' effects, so the two cannot disagree, it also covers records that touch no user, and
//! it is where a consumer starts again.

use super::tables::Table;
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
        inner.tables.each_row(Table::Positions, &prefix, &mut |key, value| {
            let partition: [u8; 4] =
                key[prefix.len()..].try_into().map_err(|_| inner.damaged(&format!("a position of {source:?}")))?;
            found.insert(u32::from_be_bytes(partition), inner.offset(source, value)?);
            Ok(())
        })?;
        Ok(found)
    }
}

impl Inner {
    /// A position as stored.
    pub(super) fn offset(&self, source: &str, bytes: &[u8]) -> Result<u64, StoreError> {
        let bytes = bytes.try_into().map_err(|_| self.damaged(&format!("a position of {source:?}")))?;
        Ok(u64::from_be_bytes(bytes))
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

//! Reading users: one history, one whole record, or all of them in turn.

use super::hidden::HiddenState;
use super::record::{Head, Origin, decode_block};
use super::{HistoryEntry, Inner, UserStateStore};
use crate::StoreError;
use fjall::Readable as _;

/// Names one state of one user's history; it never comes back once the history has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Revision {
    /// Number of this user among all that were ever made, so that one deleted and made again differs.
    pub created: u64,
    /// Events applied since then.
    pub events: u64,
}

/// All that is kept about a user, read at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRecord {
    /// Oldest first.
    pub history: Vec<HistoryEntry>,
    /// The history's revision.
    pub revision: Revision,
    /// `revision.events` of the last event that did not go to the end of the history. A hidden state
    /// not older than that is brought up to date by one step for each entry added since.
    pub reordered_at: u64,
    /// The last event that came from a source with offsets.
    pub applied: Option<Origin>,
    /// A hidden state, which may be another Bundle's or an older revision's.
    pub hidden: Option<HiddenState>,
}

/// The newest part of a user's history: what an event touches, so reading it costs the same at a history of
/// 10 and of 10,000.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewestEntries {
    /// The history's revision.
    pub revision: Revision,
    /// As [`UserRecord::reordered_at`].
    pub reordered_at: u64,
    /// At most 63 of the newest entries, oldest first.
    pub entries: Vec<HistoryEntry>,
}

impl UserStateStore {
    /// Most entries that a history keeps.
    pub fn max_history(&self) -> usize {
        self.inner.max_history
    }

    /// The newest part of a user's history; `None` for a user never seen.
    ///
    /// # Errors
    /// As [`UserStateStore::history`].
    pub fn newest(&self, user_id: &str) -> Result<Option<NewestEntries>, StoreError> {
        let inner = &self.inner;
        let Some(head) = inner.head(user_id)? else { return Ok(None) };
        let mut entries = Vec::with_capacity(head.entries.len());
        let read = head.entries.read_into(&mut entries);
        read.ok_or_else(|| inner.damaged(&format!("the newest history of user {user_id:?}")))?;
        entries.drain(..entries.len().saturating_sub(inner.max_history));
        Ok(Some(NewestEntries { revision: head.revision(), reordered_at: head.reordered_at, entries }))
    }

    /// A user's history, oldest first; empty for a user never seen.
    ///
    /// # Errors
    /// The database's failure, or a record that is unreadable.
    pub fn history(&self, user_id: &str) -> Result<Vec<HistoryEntry>, StoreError> {
        let snapshot = self.inner.database.snapshot();
        match self.inner.head_at(&snapshot, user_id)? {
            Some(head) => self.inner.history_of(&snapshot, user_id, &head),
            None => Ok(Vec::new()),
        }
    }

    /// A user's whole record; `None` for a user never seen.
    ///
    /// # Errors
    /// As [`UserStateStore::history`].
    pub fn user(&self, user_id: &str) -> Result<Option<UserRecord>, StoreError> {
        let inner = &self.inner;
        let snapshot = inner.database.snapshot();
        let Some(head) = inner.head_at(&snapshot, user_id)? else { return Ok(None) };
        Ok(Some(UserRecord {
            history: inner.history_of(&snapshot, user_id, &head)?,
            revision: head.revision(),
            reordered_at: head.reordered_at,
            hidden: inner.hidden_at(&snapshot, user_id)?,
            applied: head.applied,
        }))
    }

    /// Calls `each` with every user and their history, in order of user key, as they were at one
    /// moment; writers go on meanwhile.
    ///
    /// # Errors
    /// As [`UserStateStore::history`], or what `each` returns.
    pub fn for_each_user<E: From<StoreError>>(
        &self,
        mut each: impl FnMut(&str, Vec<HistoryEntry>) -> Result<(), E>,
    ) -> Result<(), E> {
        let inner = &self.inner;
        let snapshot = inner.database.snapshot();
        for row in snapshot.iter(&inner.heads) {
            let (key, value) = row.into_inner().map_err(|error| inner.failure(&error))?;
            let user = std::str::from_utf8(&key).map_err(|_| inner.damaged("a user's key"))?;
            let head = Head::decode(&value).ok_or_else(|| inner.damaged(&format!("the record of user {user:?}")))?;
            let history = inner.history_of(&snapshot, user, &head)?;
            each(user, history)?;
        }
        Ok(())
    }
}

impl Head {
    pub(super) fn revision(&self) -> Revision {
        Revision { created: self.created, events: self.events }
    }
}

impl Inner {
    pub(super) fn head(&self, user: &str) -> Result<Option<Head>, StoreError> {
        let bytes = self.heads.get(user).map_err(|error| self.failure(&error))?;
        bytes.map(|bytes| self.decode_head(user, &bytes)).transpose()
    }

    fn head_at(&self, snapshot: &fjall::Snapshot, user: &str) -> Result<Option<Head>, StoreError> {
        let bytes = snapshot.get(&self.heads, user).map_err(|error| self.failure(&error))?;
        bytes.map(|bytes| self.decode_head(user, &bytes)).transpose()
    }

    fn decode_head(&self, user: &str, bytes: &[u8]) -> Result<Head, StoreError> {
        Head::decode(bytes).ok_or_else(|| self.damaged(&format!("the record of user {user:?}")))
    }

    /// Blocks and head together, cut to the newest `max_history`.
    fn history_of(&self, snapshot: &fjall::Snapshot, user: &str, head: &Head) -> Result<Vec<HistoryEntry>, StoreError> {
        let mut history = Vec::new();
        for number in head.first_block..head.first_block + head.blocks {
            let bytes = snapshot.get(&self.blocks, block_key(user, number)).map_err(|error| self.failure(&error))?;
            self.read_block(user, number, bytes.as_deref(), &mut history)?;
        }
        head.entries
            .read_into(&mut history)
            .ok_or_else(|| self.damaged(&format!("the newest history of user {user:?}")))?;
        history.drain(..history.len().saturating_sub(self.max_history));
        Ok(history)
    }

    /// Appends a block's entries to `out`.
    pub(super) fn read_block(
        &self,
        user: &str,
        number: u64,
        bytes: Option<&[u8]>,
        out: &mut Vec<HistoryEntry>,
    ) -> Result<(), StoreError> {
        let block = bytes.and_then(decode_block);
        block
            .and_then(|entries| entries.read_into(out))
            .ok_or_else(|| self.damaged(&format!("block {number} of the history of user {user:?}")))
    }
}

/// Key of a block: length, user, number, so that a user's blocks lie together and in order.
pub(super) fn block_key(user: &str, number: u64) -> Vec<u8> {
    let mut key = (user.len() as u32).to_be_bytes().to_vec();
    key.extend_from_slice(user.as_bytes());
    key.extend_from_slice(&number.to_be_bytes());
    key
}

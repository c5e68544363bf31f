//! Reading users: one history, one whole record, or all of them in turn.

use super::record::{Head, Origin, decode_block};
use super::tables::{Flow, Reads, Table};
use super::{ATTEMPTS, HistoryEntry, Inner, UserStateStore};
use crate::StoreError;

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
    /// `revision.events` of the last event that did not go to the end of the history. What a model
    /// made of a revision not older than that is brought up to date by one step for each entry added since.
    pub reordered_at: u64,
    /// The last event that came from a source with offsets.
    pub applied: Option<Origin>,
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
        let Some(bytes) = inner.tables.get(Table::Heads, user_id.as_bytes())? else { return Ok(None) };
        let head = inner.decode_head(user_id, &bytes)?;
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
        let moment = self.inner.tables.moment();
        let found = self.inner.read_user(self.inner.at(moment.as_deref()), user_id)?;
        Ok(found.map_or_else(Vec::new, |(_, history)| history))
    }

    /// A user's whole record; `None` for a user never seen.
    ///
    /// # Errors
    /// As [`UserStateStore::history`].
    pub fn user(&self, user_id: &str) -> Result<Option<UserRecord>, StoreError> {
        let inner = &self.inner;
        let moment = inner.tables.moment();
        let read = inner.read_user(inner.at(moment.as_deref()), user_id)?;
        let Some((head, history)) = read else { return Ok(None) };
        Ok(Some(UserRecord {
            history,
            revision: head.revision(),
            reordered_at: head.reordered_at,
            applied: head.applied,
        }))
    }

    /// Calls `each` with every user and their history, in order of user key; writers go on meanwhile. In a
    /// folder all are as they were at one moment, on a server each is by itself.
    ///
    /// # Errors
    /// As [`UserStateStore::history`], or what `each` returns.
    pub fn for_each_user<E: From<StoreError>>(
        &self,
        mut each: impl FnMut(&str, Vec<HistoryEntry>) -> Result<(), E>,
    ) -> Result<(), E> {
        let inner = &self.inner;
        let moment = inner.tables.moment();
        let moment = inner.at(moment.as_deref());
        let mut stopped = Ok(());
        moment.each_key(Table::Heads, &mut |key| {
            stopped = inner.text_key(key).map_err(E::from).and_then(|user| {
                // Gone since the keys were listed.
                let Some((_, history)) = inner.read_user(moment, user)? else { return Ok(()) };
                each(user, history)
            });
            if stopped.is_err() { Flow::Break(()) } else { Flow::Continue(()) }
        })?;
        stopped
    }
}

impl Head {
    pub(super) fn revision(&self) -> Revision {
        Revision { created: self.created, events: self.events }
    }
}

impl Inner {
    /// Reads of a moment, or of now.
    fn at<'a>(&'a self, moment: Option<&'a dyn Reads>) -> &'a dyn Reads {
        moment.unwrap_or(&*self.tables)
    }

    pub(super) fn decode_head(&self, user: &str, bytes: &[u8]) -> Result<Head, StoreError> {
        Head::decode(bytes).ok_or_else(|| self.damaged(&format!("the record of user {user:?}")))
    }

    fn text_key<'k>(&self, key: &'k [u8]) -> Result<&'k str, StoreError> {
        std::str::from_utf8(key).map_err(|_| self.damaged("a user's key"))
    }

    /// Head and history of a user, of one moment.
    fn read_user(&self, moment: &dyn Reads, user: &str) -> Result<Option<(Head, Vec<HistoryEntry>)>, StoreError> {
        for _ in 0..ATTEMPTS {
            let Some(bytes) = moment.get(Table::Heads, user.as_bytes())? else { return Ok(None) };
            let head = self.decode_head(user, &bytes)?;
            let history = self.history_of(moment, user, &head);
            // Blocks change only with the head, and no head comes twice.
            let whole = moment.of_one_moment()
                || head.blocks == 0
                || moment.get(Table::Heads, user.as_bytes())?.as_ref() == Some(&bytes);
            if whole {
                return Ok(Some((head, history?)));
            }
        }
        Err(self.busy(&format!("reading user {user:?}")))
    }

    /// Blocks and head together, cut to the newest `max_history`.
    fn history_of(&self, moment: &dyn Reads, user: &str, head: &Head) -> Result<Vec<HistoryEntry>, StoreError> {
        let mut history = Vec::new();
        let numbers = head.first_block..head.first_block + head.blocks;
        let keys: Vec<Vec<u8>> = numbers.clone().map(|number| block_key(user, number)).collect();
        let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
        for (number, bytes) in numbers.zip(moment.get_many(Table::Blocks, &keys)?) {
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

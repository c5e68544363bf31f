//! User state: each user's bounded history in one embedded database file (redb).
//!
//! Is: durable when `append` returns, atomic per call, safe after a crash at any moment.
//! Is not: shared between processes; a second opener is refused with a clear error.
//! Rules: a history is ordered by time, ties by arrival, so a late event takes its place in time;
//! past `max_history` the oldest entries go; an event id already in the history is dropped.

use crate::{Event, StoreError};
use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// User key -> JSON of `Vec<HistoryEntry>`.
const HISTORIES: TableDefinition<&str, &[u8]> = TableDefinition::new("histories.v1");

/// Most entries a store may be told to keep for a user.
const MAX_HISTORY_LIMIT: usize = 10_000;

/// One past event of a user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// External item key.
    #[serde(rename = "i")]
    pub item_id: String,
    /// Milliseconds since the Unix epoch.
    #[serde(rename = "t")]
    pub timestamp_ms: i64,
    /// Producer's event id.
    #[serde(rename = "e", default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
}

/// What one `append` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Events now in a history (or older than a full one keeps).
    pub applied: usize,
    /// Events dropped because their id was already there.
    pub duplicates: usize,
}

/// The embedded store.
pub struct UserStateStore {
    database: Database,
    path: PathBuf,
    max_history: usize,
}

impl UserStateStore {
    /// Opens or makes the database file. Histories keep their `max_history` newest entries.
    ///
    /// # Errors
    /// The file is no database of this kind, another process has it open, or `max_history` is not
    /// in `1..=10000`.
    pub fn open(path: &Path, max_history: usize) -> Result<UserStateStore, StoreError> {
        if !(1..=MAX_HISTORY_LIMIT).contains(&max_history) {
            return Err(StoreError::invalid("max_history", format!("{max_history} is not in 1..={MAX_HISTORY_LIMIT}")));
        }
        if let Some(parent) = path.parent().filter(|p| !p.as_os_str().is_empty()) {
            std::fs::create_dir_all(parent).map_err(StoreError::io(parent))?;
        }
        let database = Database::create(path).map_err(|e| state(path, e))?;
        let store = UserStateStore { database, path: path.to_path_buf(), max_history };
        // Make the table now, so that readers never meet a database without it.
        let write = store.database.begin_write().map_err(|e| state(path, e))?;
        write.open_table(HISTORIES).map_err(|e| state(path, e))?;
        write.commit().map_err(|e| state(path, e))?;
        Ok(store)
    }

    /// A user's history, oldest first; empty for a user never seen.
    pub fn history(&self, user_id: &str) -> Result<Vec<HistoryEntry>, StoreError> {
        let read = self.database.begin_read().map_err(|e| self.state(e))?;
        let table = read.open_table(HISTORIES).map_err(|e| self.state(e))?;
        match table.get(user_id).map_err(|e| self.state(e))? {
            Some(bytes) => self.decode(user_id, bytes.value()),
            None => Ok(Vec::new()),
        }
    }

    /// Applies events in one durable transaction: all of them or, on an error, none.
    ///
    /// # Errors
    /// An event that [`Event::validate`] refuses, or the database's failure.
    pub fn append(&self, events: &[Event]) -> Result<Applied, StoreError> {
        let mut by_user: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
        for event in events {
            event.validate()?;
            by_user.entry(&event.user_id).or_default().push(event);
        }
        let mut done = Applied { applied: 0, duplicates: 0 };
        let write = self.database.begin_write().map_err(|e| self.state(e))?;
        {
            let mut table = write.open_table(HISTORIES).map_err(|e| self.state(e))?;
            for (user, events) in by_user {
                let mut history = match table.get(user).map_err(|e| self.state(e))? {
                    Some(bytes) => self.decode(user, bytes.value())?,
                    None => Vec::new(),
                };
                for event in events {
                    if insert(&mut history, event) { done.applied += 1 } else { done.duplicates += 1 }
                }
                let surplus = history.len().saturating_sub(self.max_history);
                history.drain(..surplus);
                let bytes = serde_json::to_vec(&history).map_err(|e| self.state(e))?;
                table.insert(user, bytes.as_slice()).map_err(|e| self.state(e))?;
            }
        }
        write.commit().map_err(|e| self.state(e))?;
        Ok(done)
    }

    /// Forgets a user; true if there was something to forget.
    pub fn delete(&self, user_id: &str) -> Result<bool, StoreError> {
        let write = self.database.begin_write().map_err(|e| self.state(e))?;
        let removed = {
            let mut table = write.open_table(HISTORIES).map_err(|e| self.state(e))?;
            table.remove(user_id).map_err(|e| self.state(e))?.is_some()
        };
        write.commit().map_err(|e| self.state(e))?;
        Ok(removed)
    }

    /// Number of users with state.
    pub fn users(&self) -> Result<u64, StoreError> {
        let read = self.database.begin_read().map_err(|e| self.state(e))?;
        let table = read.open_table(HISTORIES).map_err(|e| self.state(e))?;
        table.len().map_err(|e| self.state(e))
    }

    fn decode(&self, user: &str, bytes: &[u8]) -> Result<Vec<HistoryEntry>, StoreError> {
        serde_json::from_slice(bytes)
            .map_err(|e| self.state(format!("the history of user {user:?} is unreadable: {e}")))
    }

    fn state(&self, reason: impl ToString) -> StoreError {
        state(&self.path, reason)
    }
}

impl std::fmt::Debug for UserStateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserStateStore({})", self.path.display())
    }
}

/// Puts an event in its place in time; false if its id is already there.
fn insert(history: &mut Vec<HistoryEntry>, event: &Event) -> bool {
    if event.event_id.is_some() && history.iter().any(|entry| entry.event_id == event.event_id) {
        return false;
    }
    let at = history.partition_point(|entry| entry.timestamp_ms <= event.timestamp_ms);
    history.insert(
        at,
        HistoryEntry {
            item_id: event.item_id.clone(),
            timestamp_ms: event.timestamp_ms,
            event_id: event.event_id.clone(),
        },
    );
    true
}

fn state(path: &Path, reason: impl ToString) -> StoreError {
    StoreError::State { path: path.to_path_buf(), reason: reason.to_string() }
}

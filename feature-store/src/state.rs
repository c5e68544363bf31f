//! User state: each user's bounded history, and the items a stream has changed, in one embedded
//! database (fjall, a folder).
//!
//! Is: durable when a write returns, atomic per call, safe after a crash at any moment, cheap to
//! clone, shared by threads. Is not: shared between processes; a second opener is refused.
//!
//! Rules: a history is ordered by time, ties by arrival, so a late event takes its place in time;
//! past `max_history` the oldest entries go; an event id among the user's last 64 is dropped. What
//! comes from a source with offsets ([`UserStateStore::apply`]) changes nothing the second time: the
//! source's positions are written in the transaction that writes its effects.

mod codec;
mod contents;
mod hidden;
mod history;
mod items;
mod positions;
mod record;
mod users;
mod write;

pub use contents::{AddedItem, NewItem};
pub use hidden::{HiddenState, MAX_HIDDEN_BYTES};
pub use items::ItemState;
pub use record::Origin;
pub use users::{NewestEntries, Revision, UserRecord};
pub use write::{BatchOutcome, SourceRecord};

use crate::{Event, StagedDir, StoreError, StreamEvent};
use fjall::{Database, Keyspace, KeyspaceCreateOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use write::Writer;

/// Most entries a store may be told to keep for a user.
const MAX_HISTORY_LIMIT: usize = 10_000;
/// Memory for blocks of the database that were read, in bytes.
const CACHE_BYTES: u64 = 64 << 20;
/// Written into every store: another version's store is refused, not misread.
const FORMAT: &str = "recommender user state, format 2\n";
/// What to do about a store that cannot be read.
const WAY_OUT: &str = "restore a copy of the folder, or remove it and replay the stream";
/// The file that holds it.
const FORMAT_FILE: &str = "format";
const USERS_KEY: &str = "users";
const CREATED_KEY: &str = "created";

/// One past event of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HistoryEntry {
    /// External item key.
    pub item_id: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

/// What one `append` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Events now in a history (or older than a full one keeps).
    pub applied: usize,
    /// Events dropped because their id was already there.
    pub duplicates: usize,
}

/// The embedded store. Clones share it; it closes with the last of them.
#[derive(Clone)]
pub struct UserStateStore {
    inner: Arc<Inner>,
}

/// What the clones share.
struct Inner {
    database: Database,
    heads: Keyspace,
    blocks: Keyspace,
    hidden: Keyspace,
    items: Keyspace,
    added: Keyspace,
    contents: Keyspace,
    positions: Keyspace,
    meta: Keyspace,
    path: PathBuf,
    max_history: usize,
    /// One writer at a time: a write reads what it changes.
    writing: Mutex<()>,
    items_generation: AtomicU64,
}

impl UserStateStore {
    /// Opens or makes the database folder. Histories keep their `max_history` newest entries.
    ///
    /// # Errors
    /// The path is no database of this kind and version, another process has it open, or
    /// `max_history` is not in `1..=10000`.
    pub fn open(path: &Path, max_history: usize) -> Result<UserStateStore, StoreError> {
        if !(1..=MAX_HISTORY_LIMIT).contains(&max_history) {
            return Err(StoreError::invalid("max_history", format!("{max_history} is not in 1..={MAX_HISTORY_LIMIT}")));
        }
        if !check_format(path)? {
            create(path)?;
        }
        let database = open_database(path)?;
        let keyspace = |name: &str| {
            let options = || KeyspaceCreateOptions::default().expect_point_read_hits(true);
            database.keyspace(name, options).map_err(|error| failure(path, &error))
        };
        let inner = Inner {
            heads: keyspace("heads")?,
            blocks: keyspace("blocks")?,
            hidden: keyspace("hidden")?,
            items: keyspace("items")?,
            added: keyspace("added")?,
            contents: keyspace("contents")?,
            positions: keyspace("positions")?,
            meta: keyspace("meta")?,
            database,
            path: path.to_path_buf(),
            max_history,
            writing: Mutex::new(()),
            items_generation: AtomicU64::new(0),
        };
        Ok(UserStateStore { inner: Arc::new(inner) })
    }

    /// Applies interactions in one durable transaction: all of them or, on an error, none.
    ///
    /// # Errors
    /// An event that [`Event::validate`] refuses, or the database's failure.
    pub fn append(&self, events: &[Event]) -> Result<Applied, StoreError> {
        for event in events {
            event.validate()?;
        }
        let mut writer = Writer::begin(&self.inner);
        for event in events {
            writer.interaction(event, None)?;
        }
        let done = writer.commit()?;
        Ok(Applied { applied: done.applied, duplicates: done.duplicates })
    }

    /// Applies events of any kind in one durable transaction: all of them or, on an error, none.
    /// They come from no source with offsets, so only event ids tell a repeat.
    ///
    /// # Errors
    /// An event that [`StreamEvent::validate`] refuses, or the database's failure.
    pub fn record(&self, events: &[StreamEvent]) -> Result<BatchOutcome, StoreError> {
        events.iter().try_for_each(StreamEvent::validate)?;
        let mut writer = Writer::begin(&self.inner);
        writer.read_users(events.iter())?;
        for event in events {
            writer.event(event, None)?;
        }
        writer.commit()
    }

    /// Applies a batch of records from a source with offsets, in one durable transaction: all of
    /// them or, on an error, none. Records at or before the source's stored position are skipped,
    /// so a batch may come again, whole or in part, from anyone, and changes nothing.
    ///
    /// # Errors
    /// An event that [`StreamEvent::validate`] refuses, or the database's failure.
    pub fn apply(&self, source: &str, records: &[SourceRecord]) -> Result<BatchOutcome, StoreError> {
        for record in records {
            record.events.iter().try_for_each(StreamEvent::validate)?;
        }
        let mut writer = Writer::begin(&self.inner);
        writer.source(source, records)?;
        writer.commit()
    }

    /// Forgets a user, durably; true if there was something to forget.
    ///
    /// # Errors
    /// The database's failure.
    pub fn delete(&self, user_id: &str) -> Result<bool, StoreError> {
        let mut writer = Writer::begin(&self.inner);
        let found = writer.delete_user(user_id)?;
        writer.commit()?;
        Ok(found)
    }

    /// Number of users with state.
    ///
    /// # Errors
    /// The database's failure.
    pub fn users(&self) -> Result<u64, StoreError> {
        self.inner.counter(USERS_KEY)
    }

    /// Grows whenever an item's state changes: a cache of [`UserStateStore::hidden_items`] asks it
    /// whether to read again.
    pub fn items_generation(&self) -> u64 {
        self.inner.items_generation.load(Ordering::Acquire)
    }
}

impl Inner {
    /// A number kept in the meta table; 0 if it was never written.
    fn counter(&self, key: &str) -> Result<u64, StoreError> {
        match self.meta.get(key).map_err(|error| self.failure(&error))? {
            None => Ok(0),
            Some(bytes) => self.number(key, &bytes),
        }
    }

    fn number(&self, name: &str, bytes: &[u8]) -> Result<u64, StoreError> {
        let bytes = bytes.try_into().map_err(|_| self.damaged(&format!("the number {name:?}")))?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn failure(&self, error: &fjall::Error) -> StoreError {
        failure(&self.path, error)
    }

    /// A record that does not decode though the database's own checksums hold.
    fn damaged(&self, what: &str) -> StoreError {
        StoreError::State { path: self.path.clone(), reason: format!("{what} is unreadable; {WAY_OUT}") }
    }
}

impl std::fmt::Debug for UserStateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserStateStore({})", self.inner.path.display())
    }
}

/// Whether there is a store of this format; false where there is nothing yet.
fn check_format(path: &Path) -> Result<bool, StoreError> {
    if path.is_file() {
        return Err(StoreError::corrupt(
            path,
            "is a file, and user state is a folder; a file of format 1 cannot be read: name a new path and ingest the \
             events again",
        ));
    }
    match std::fs::read(path.join(FORMAT_FILE)) {
        Ok(found) if found == FORMAT.as_bytes() => Ok(true),
        Ok(found) => Err(StoreError::corrupt(
            path,
            format!(
                "is of {:?}, and this version reads {:?}; name a new path and ingest again, or {WAY_OUT}",
                String::from_utf8_lossy(&found).trim(),
                FORMAT.trim()
            ),
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StoreError::io(path)(error)),
    }
}

/// Makes an empty store, which appears whole or not at all: the database itself would leave a folder
/// that it refuses later if it were killed while making it.
fn create(path: &Path) -> Result<(), StoreError> {
    let staged = StagedDir::create(path, FORMAT_FILE)?;
    drop(open_database(staged.path())?);
    let marker = staged.path().join(FORMAT_FILE);
    std::fs::write(&marker, FORMAT).map_err(StoreError::io(&marker))?;
    staged.commit()
}

fn open_database(path: &Path) -> Result<Database, StoreError> {
    Database::builder(path).cache_size(CACHE_BYTES).open().map_err(|error| match error {
        fjall::Error::Locked => StoreError::State {
            path: path.to_path_buf(),
            reason: "is open in another process; stop it, or name another store".to_owned(),
        },
        other => failure(path, &other),
    })
}

fn failure(path: &Path, error: &fjall::Error) -> StoreError {
    // Kept as the system's own error, so that a full disk is not taken for bad input.
    if let Some(source) = system_error(error) {
        let source = std::io::Error::new(source.kind(), source.to_string());
        return StoreError::Io { path: path.to_path_buf(), source };
    }
    let reason = match error {
        fjall::Error::Poisoned => {
            "an earlier write failed, so nothing more is accepted; free the disk and start again".to_owned()
        }
        other => format!("is damaged ({other}); {WAY_OUT}"),
    };
    StoreError::State { path: path.to_path_buf(), reason }
}

/// The operating system's error behind the database's, unless it only says that a file is not what it was:
/// cut short, missing, or with places in it that cannot be.
fn system_error(error: &fjall::Error) -> Option<&std::io::Error> {
    use std::io::ErrorKind as Kind;
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref::<std::io::Error>() {
            let damage =
                matches!(found.kind(), Kind::UnexpectedEof | Kind::NotFound | Kind::InvalidData | Kind::InvalidInput);
            return (!damage).then_some(found);
        }
        cause = error.source();
    }
    None
}

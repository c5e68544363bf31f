//! User state: each user's bounded history, and the items a stream has changed, in one database: a folder
//! of its own (fjall), or a Redis or Valkey server that several processes share.
//!
//! Is: durable when a write returns, as far as the server is set to; atomic per call ([`UserStateStore::apply`] on a
//! server: per part); safe after a crash at any moment; cheap to clone; shared by threads. A folder is not shared between processes: a second
//! opener is refused.
//!
//! Rules: a history is ordered by time, ties by arrival, so a late event takes its place in time;
//! past `max_history` the oldest entries go; an event id among the user's last 64 is dropped, and of a message of
//! several events their one id counts once. A store keeps its `max_history`: opening it raises the number or is refused,
//! so no program cuts what another one keeps. What comes from a source with offsets ([`UserStateStore::apply`]) changes
//! nothing the second time: the source's positions are written in the transaction that writes its effects.

mod codec;
mod contents;
mod embedded;
mod history;
mod items;
mod location;
mod positions;
mod record;
mod server;
mod shared;
mod tables;
mod users;
mod write;

pub use contents::{AddedItem, NewItem};
pub use items::ItemState;
pub use location::{StateLocation, StateServer};
pub use record::Origin;
pub use users::{NewestEntries, Revision, UserRecord};
pub use write::{BatchOutcome, SourceRecord};

use crate::{Event, StoreError, StreamEvent};
use embedded::Embedded;
use shared::Shared;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use tables::Tables;

/// Most entries a store may be told to keep for a user.
pub const MAX_HISTORY_LIMIT: usize = 10_000;
/// Written into every store: another version's store is refused, not misread.
const FORMAT: &str = "recommender user state, format 2\n";
/// What to do about a store that cannot be read.
const WAY_OUT: &str = "restore a copy of the store, or remove it and replay the stream";
/// How often a transaction runs anew, or a read of several rows, because another process changed what it read.
const ATTEMPTS: u32 = 30;
/// Most events of a source in one transaction on a server, which does nothing else meanwhile (README.md has how
/// long); a record with more has one to itself.
const SHARED_PART: usize = 512;

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

/// The store. Clones share it; it closes with the last of them.
#[derive(Clone)]
pub struct UserStateStore {
    inner: Arc<Inner>,
}

/// What the clones share.
struct Inner {
    tables: Box<dyn Tables>,
    shared: bool,
    max_history: usize,
    /// Opened to be read: nothing is written.
    reading: bool,
}

impl UserStateStore {
    /// Opens or makes a database folder. Histories keep their `max_history` newest entries, which the store notes.
    ///
    /// # Errors
    /// The path is no database of this kind and version, another process has it open, `max_history` is not in
    /// `1..=10000`, or it is less than the store keeps, which would cut histories for good.
    pub fn open(path: &Path, max_history: usize) -> Result<UserStateStore, StoreError> {
        UserStateStore::open_at(&StateLocation::Folder(path.to_path_buf()), max_history)
    }

    /// Opens or makes a store, wherever it is. Histories keep their `max_history` newest entries; processes that
    /// share a server should agree on it, since one that is running goes on with its own when another raises it.
    ///
    /// # Errors
    /// As [`UserStateStore::open`], or the server does not answer, refuses, or may throw rows away.
    pub fn open_at(location: &StateLocation, max_history: usize) -> Result<UserStateStore, StoreError> {
        let tables = open_tables(location, max_history)?;
        let kept = tables.raise_max_history(max_history as u64)?;
        if kept > max_history as u64 {
            let reason = format!(
                "{max_history} is less than the {kept} entries that {} keeps for a user, and would cut histories for \
                 good; give {kept}, or apply the events to a new store",
                tables.place().display()
            );
            return Err(StoreError::invalid("max_history", reason));
        }
        Ok(UserStateStore::of(tables, location, max_history, false))
    }

    /// Opens or makes a store whose histories keep as many entries as the store says; `new` in one that does not say,
    /// as a new one.
    ///
    /// # Errors
    /// As [`UserStateStore::open_at`].
    pub fn open_as_kept(location: &StateLocation, new: usize) -> Result<UserStateStore, StoreError> {
        let tables = open_tables(location, new)?;
        let kept = match tables.max_history()? {
            0 => tables.raise_max_history(new as u64)?,
            kept => kept,
        };
        Ok(UserStateStore::of(tables, location, usize::try_from(kept).unwrap_or(usize::MAX), false))
    }

    /// Opens a store to read at most the `newest` entries of each history, however many it keeps; a write is refused.
    /// One that is absent is made, empty.
    ///
    /// # Errors
    /// As [`UserStateStore::open_at`].
    pub fn open_to_read(location: &StateLocation, newest: usize) -> Result<UserStateStore, StoreError> {
        Ok(UserStateStore::of(open_tables(location, newest)?, location, newest, true))
    }

    fn of(tables: Box<dyn Tables>, location: &StateLocation, max_history: usize, reading: bool) -> UserStateStore {
        let shared = matches!(location, StateLocation::Server(_));
        UserStateStore { inner: Arc::new(Inner { tables, shared, max_history, reading }) }
    }

    /// Whether other processes may have it open too.
    pub fn shared(&self) -> bool {
        self.inner.shared
    }

    /// How a crash of the database's machine could lose what was acknowledged, for a log; `None` if it cannot.
    pub fn caution(&self) -> Option<&str> {
        self.inner.tables.caution()
    }

    /// Applies interactions in one durable transaction: all of them or, on an error, none.
    ///
    /// # Errors
    /// An event that [`Event::validate`] refuses, or the database's failure.
    pub fn append(&self, events: &[Event]) -> Result<Applied, StoreError> {
        for event in events {
            event.validate()?;
        }
        let ((), done) = self.inner.transact(|writer| {
            writer.read_users(events.iter().map(|event| event.user_id.as_str()))?;
            events.iter().try_for_each(|event| writer.interaction(event, None, true).map(drop))
        })?;
        Ok(Applied { applied: done.applied, duplicates: done.duplicates })
    }

    /// Applies events of any kind in one durable transaction: all of them or, on an error, none.
    /// They come from no source with offsets, so only event ids tell a repeat.
    ///
    /// # Errors
    /// An event that [`StreamEvent::validate`] refuses, or the database's failure.
    pub fn record(&self, events: &[StreamEvent]) -> Result<BatchOutcome, StoreError> {
        events.iter().try_for_each(StreamEvent::validate)?;
        let ((), done) = self.inner.transact(|writer| {
            writer.read_users(events.iter().filter_map(StreamEvent::user))?;
            events.iter().try_for_each(|event| writer.event(event, None))
        })?;
        Ok(done)
    }

    /// Applies a batch of records from a source with offsets, durably: in a folder all of them or, on an error,
    /// none; on a server perhaps the first of them ([`UserStateStore::apply_after`]). Records at or before the
    /// source's stored position are skipped, so a batch may come again, whole or in part, from anyone, and changes
    /// nothing.
    ///
    /// # Errors
    /// An event that [`StreamEvent::validate`] refuses, the database's failure, or [`StoreError::Behind`] if the
    /// server lost one part while the next was applied.
    pub fn apply(&self, source: &str, records: &[SourceRecord]) -> Result<BatchOutcome, StoreError> {
        self.apply_after(source, records, &BTreeMap::new())
    }

    /// [`UserStateStore::apply`] by one who knows how far partitions were applied (`known`: partition -> offset): a
    /// store that has less than that has lost writes, and going on would leave a gap. On a server a large batch is
    /// applied in parts, each with its positions, so that others get their turn in between.
    ///
    /// # Errors
    /// As [`UserStateStore::apply`], or [`StoreError::Behind`].
    pub fn apply_after(
        &self,
        source: &str,
        records: &[SourceRecord],
        known: &BTreeMap<u32, u64>,
    ) -> Result<BatchOutcome, StoreError> {
        for record in records {
            record.events.iter().try_for_each(StreamEvent::validate)?;
        }
        let most = if self.inner.shared { SHARED_PART } else { usize::MAX };
        let (mut total, mut known, mut rest) = (BatchOutcome::default(), known.clone(), records);
        while !rest.is_empty() {
            let (part, later) = rest.split_at(part_len(rest, most));
            self.apply_part(source, part, &mut known, &mut total)?;
            rest = later;
        }
        Ok(total)
    }

    /// One transaction, or, where others keep changing the same users, one for each half. What it applied is known
    /// to the next one.
    fn apply_part(
        &self,
        source: &str,
        records: &[SourceRecord],
        known: &mut BTreeMap<u32, u64>,
        total: &mut BatchOutcome,
    ) -> Result<(), StoreError> {
        match self.inner.transact(|writer| writer.source(source, records, known)) {
            Err(StoreError::Busy { .. }) if records.len() > 1 => {
                let (first, rest) = records.split_at(records.len() / 2);
                self.apply_part(source, first, known, total)?;
                return self.apply_part(source, rest, known, total);
            }
            done => total.add(done?.1),
        }
        for record in records {
            let known = known.entry(record.partition).or_default();
            *known = (*known).max(record.offset);
        }
        Ok(())
    }

    /// Forgets a user, durably; true if there was something to forget.
    ///
    /// # Errors
    /// The database's failure.
    pub fn delete(&self, user_id: &str) -> Result<bool, StoreError> {
        let (found, _) = self.inner.transact(|writer| writer.delete_user(user_id))?;
        Ok(found)
    }

    /// Number of users with state.
    ///
    /// # Errors
    /// The database's failure.
    pub fn users(&self) -> Result<u64, StoreError> {
        self.inner.tables.users()
    }

    /// Grows whenever an item's state changes: a cache of what [`UserStateStore::for_each_item`] gave asks
    /// it whether to read again. What another process changed is seen within a fifth of a second.
    ///
    /// # Errors
    /// The database's failure.
    pub fn items_generation(&self) -> Result<u64, StoreError> {
        self.inner.tables.items_generation()
    }
}

/// The database at a place, if histories may be so long.
fn open_tables(location: &StateLocation, max_history: usize) -> Result<Box<dyn Tables>, StoreError> {
    if !(1..=MAX_HISTORY_LIMIT).contains(&max_history) {
        return Err(StoreError::invalid("max_history", format!("{max_history} is not in 1..={MAX_HISTORY_LIMIT}")));
    }
    let tables: Box<dyn Tables> = match location {
        StateLocation::Folder(path) => Box::new(Embedded::open(path)?),
        StateLocation::Server(server) => Box::new(Shared::open(server)?),
    };
    Ok(tables)
}

/// How many of the first records have at most `most` events together; one at least.
fn part_len(records: &[SourceRecord], most: usize) -> usize {
    let mut events = 0_usize;
    let past = records.iter().position(|record| {
        events += record.events.len().max(1);
        events > most
    });
    past.unwrap_or(records.len()).max(1)
}

impl Inner {
    /// Refuses a write to a store that was opened to be read.
    fn check_writing(&self) -> Result<(), StoreError> {
        if !self.reading {
            return Ok(());
        }
        let reason = "was opened to be read, so nothing is written".to_owned();
        Err(StoreError::State { path: self.tables.place().to_path_buf(), reason })
    }

    /// A record that does not decode though the database's own checksums hold.
    fn damaged(&self, what: &str) -> StoreError {
        let reason = format!("{what} is unreadable; {WAY_OUT}");
        StoreError::State { path: self.tables.place().to_path_buf(), reason }
    }

    /// Others were faster [`ATTEMPTS`] times.
    fn busy(&self, what: &str) -> StoreError {
        StoreError::Busy { store: self.tables.place().display().to_string(), what: what.to_owned() }
    }
}

impl std::fmt::Debug for UserStateStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "UserStateStore({})", self.inner.tables.place().display())
    }
}

//! What the store asks of a database: tables of bytes, reads of one moment, and commits that are made whole
//! or not at all. Two databases do it: one in a folder of its own (`embedded.rs`), for one process, and a
//! Redis or Valkey server (`shared.rs`), for several.
//!
//! A transaction reads, decides and commits. With one process a lock keeps others out meanwhile
//! ([`Tables::alone`]); with several, a commit names what was read ([`Commit::read`]) and is refused if that is not so
//! any more, and the transaction runs again.

use crate::StoreError;
use std::path::Path;
use std::sync::MutexGuard;

/// The tables; keys and values are in the file named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Table {
    /// User key -> newest history (`record.rs`).
    Heads,
    /// User and number -> older history (`record.rs`).
    Blocks,
    /// Item key -> what was said about it (`items.rs`).
    Items,
    /// Item key -> numbers of its changes (`contents.rs`).
    Added,
    /// Item key -> vectors (`contents.rs`).
    Contents,
    /// Source and partition -> offset (`positions.rs`).
    Positions,
}

impl Table {
    /// In the order of their numbers, which `as usize` gives.
    pub(super) const ALL: [Table; 6] =
        [Table::Heads, Table::Blocks, Table::Items, Table::Added, Table::Contents, Table::Positions];

    pub(super) fn name(self) -> &'static str {
        match self {
            Table::Heads => "heads",
            Table::Blocks => "blocks",
            Table::Items => "items",
            Table::Added => "added",
            Table::Contents => "contents",
            Table::Positions => "positions",
        }
    }
}

/// Series of numbers of which none is given twice; some may be left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Series {
    /// Users made.
    Created,
    /// Changes of items with vectors; one that is taken later is larger.
    ContentChanges,
}

impl Series {
    pub(super) fn name(self) -> &'static str {
        match self {
            Series::Created => "created",
            Series::ContentChanges => "content changes",
        }
    }
}

/// Name of the number of entries that a history keeps, beside the format and the series.
pub(super) const MAX_HISTORY: &str = "max history";

/// Shared bytes, of the kind that the embedded database gives and takes without a copy.
pub(super) type Bytes = fjall::Slice;

/// A row's key, and its value or that there is none.
pub(super) type Row = (Table, Bytes, Option<Bytes>);

/// What a transaction changes, if what it read is still so.
#[derive(Debug, Default)]
pub(super) struct Commit {
    /// Rows that must be as they were read.
    pub(super) read: Vec<Row>,
    /// Rows to write or to remove.
    pub(super) write: Vec<Row>,
    /// Users that appeared, less those that went.
    pub(super) users_more: i64,
    /// Whether any item changed.
    pub(super) items_changed: bool,
}

impl Commit {
    pub(super) fn put(&mut self, table: Table, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        self.write.push((table, key.into(), Some(value.into())));
    }

    pub(super) fn remove(&mut self, table: Table, key: impl Into<Bytes>) {
        self.write.push((table, key.into(), None));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.write.is_empty()
    }
}

/// Reading by key.
pub(super) trait Reads {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError>;

    /// As many values as keys, in one call to the database.
    fn get_many(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Calls `each` with every key of a table, in order, until it says stop.
    fn each_key(&self, table: Table, each: &mut dyn FnMut(&[u8]) -> Flow) -> Result<(), StoreError>;

    /// Whether all reads are of one moment. If not, what belongs together must be seen to.
    fn of_one_moment(&self) -> bool;
}

/// Takes key and value of a row.
pub(super) type EachRow<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'a;

/// Whether to go on.
pub(super) type Flow = std::ops::ControlFlow<()>;

/// A database.
pub(super) trait Tables: Reads + Send + Sync {
    /// Reads of this moment; none where the database has no snapshots, so that every read is of now.
    fn moment(&self) -> Option<Box<dyn Reads + '_>> {
        None
    }

    /// Calls `each` with the rows whose keys begin with `prefix`, in order.
    fn each_row(&self, table: Table, prefix: &[u8], each: &mut EachRow<'_>) -> Result<(), StoreError>;

    /// Keeps other writers out, where the database needs that; else commits can be refused.
    fn alone(&self) -> Option<MutexGuard<'_, ()>>;

    /// Takes `count` numbers of a series, which grows by as much; gives what it was. Users made are numbered from
    /// that on, changes of contents from one past it.
    fn take(&self, series: Series, count: u64) -> Result<u64, StoreError>;

    /// Makes a change, durable when this returns; false if what it read has changed.
    fn commit(&self, commit: Commit) -> Result<bool, StoreError>;

    /// Users with a head.
    fn users(&self) -> Result<u64, StoreError>;

    /// Grows with every commit that changed items.
    fn items_generation(&self) -> Result<u64, StoreError>;

    /// Most entries that a history keeps, as the store itself says; 0 if it does not say.
    fn max_history(&self) -> Result<u64, StoreError>;

    /// Raises that number to `asked`, durably, unless it is as large already; gives what it is then.
    fn raise_max_history(&self, asked: u64) -> Result<u64, StoreError>;

    /// Where it is, for errors.
    fn place(&self) -> &Path;

    /// What whoever runs it should know about how safe its data is there.
    fn caution(&self) -> Option<&str> {
        None
    }
}

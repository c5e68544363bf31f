//! The database in a folder (fjall): durable when a commit returns, safe after a crash at any moment, one process
//! at a time. A commit is a batch of the database, synced.

use super::tables::{Bytes, Commit, EachRow, Flow, MAX_HISTORY, Reads, Series, Table, Tables};
use super::{FORMAT, WAY_OUT};
use crate::{StagedDir, StoreError};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable as _, Snapshot};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Memory for blocks of the database that were read, in bytes.
const CACHE_BYTES: u64 = 64 << 20;
/// The file that holds the format.
const FORMAT_FILE: &str = "format";
const USERS_KEY: &str = "users";

pub(super) struct Embedded {
    database: Database,
    /// By [`Table`].
    tables: Vec<Keyspace>,
    meta: Keyspace,
    path: PathBuf,
    /// One writer at a time: a write reads what it changes.
    writing: Mutex<()>,
    items_generation: AtomicU64,
    /// By [`Series`]: the last number taken. Written with the next commit, under the lock.
    taken: [AtomicU64; 2],
}

impl Embedded {
    /// Opens or makes the database folder.
    pub(super) fn open(path: &Path) -> Result<Embedded, StoreError> {
        // Another program may make it meanwhile: then that one's store is there, and is opened or found open.
        let there = check_format(path)? || create(path)? || check_format(path)?;
        if !there {
            let reason = format!("exists and holds no {FORMAT_FILE}, so it is no user state; name another folder");
            return Err(StoreError::corrupt(path, reason));
        }
        let database = open_database(path)?;
        let keyspace = |name: &str| {
            let options = || KeyspaceCreateOptions::default().expect_point_read_hits(true);
            database.keyspace(name, options).map_err(|error| failure(path, &error))
        };
        let opened = Embedded {
            tables: Table::ALL.into_iter().map(|table| keyspace(table.name())).collect::<Result<_, _>>()?,
            meta: keyspace("meta")?,
            database,
            path: path.to_path_buf(),
            writing: Mutex::new(()),
            items_generation: AtomicU64::new(0),
            taken: Default::default(),
        };
        for series in [Series::Created, Series::ContentChanges] {
            opened.taken[series as usize].store(opened.number(series.name())?, Ordering::Relaxed);
        }
        Ok(opened)
    }

    fn table(&self, table: Table) -> &Keyspace {
        &self.tables[table as usize]
    }

    fn now(&self) -> Moment<'_> {
        Moment { of: self, snapshot: self.database.snapshot() }
    }

    /// A number kept in the meta table; 0 if it was never written.
    fn number(&self, key: &str) -> Result<u64, StoreError> {
        let Some(bytes) = self.meta.get(key).map_err(|error| self.failure(&error))? else { return Ok(0) };
        let bytes = (&*bytes).try_into().map_err(|_| {
            let reason = format!("the number {key:?} is unreadable; {WAY_OUT}");
            StoreError::State { path: self.path.clone(), reason }
        })?;
        Ok(u64::from_be_bytes(bytes))
    }

    fn failure(&self, error: &fjall::Error) -> StoreError {
        failure(&self.path, error)
    }
}

impl Reads for Embedded {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.table(table).get(key).map_err(|error| self.failure(&error))
    }

    fn get_many(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.iter().map(|key| self.get(table, key)).collect()
    }

    fn each_key(&self, table: Table, each: &mut dyn FnMut(&[u8]) -> Flow) -> Result<(), StoreError> {
        self.now().each_key(table, each)
    }

    fn of_one_moment(&self) -> bool {
        false
    }
}

/// The database as it was at one moment; writers go on meanwhile.
struct Moment<'a> {
    of: &'a Embedded,
    snapshot: Snapshot,
}

impl Reads for Moment<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        self.snapshot.get(self.of.table(table), key).map_err(|error| self.of.failure(&error))
    }

    fn get_many(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StoreError> {
        keys.iter().map(|key| self.get(table, key)).collect()
    }

    fn each_key(&self, table: Table, each: &mut dyn FnMut(&[u8]) -> Flow) -> Result<(), StoreError> {
        for row in self.snapshot.iter(self.of.table(table)) {
            let key = row.key().map_err(|error| self.of.failure(&error))?;
            if each(&key).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn of_one_moment(&self) -> bool {
        true
    }
}

impl Tables for Embedded {
    fn moment(&self) -> Option<Box<dyn Reads + '_>> {
        Some(Box::new(self.now()))
    }

    fn each_row(&self, table: Table, prefix: &[u8], each: &mut EachRow<'_>) -> Result<(), StoreError> {
        for row in self.table(table).prefix(prefix) {
            let (key, value) = row.into_inner().map_err(|error| self.failure(&error))?;
            each(&key, &value)?;
        }
        Ok(())
    }

    fn alone(&self) -> Option<MutexGuard<'_, ()>> {
        // It guards no value: a writer that panicked has left nothing half-written.
        Some(self.writing.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn take(&self, series: Series, count: u64) -> Result<u64, StoreError> {
        Ok(self.taken[series as usize].fetch_add(count, Ordering::Relaxed))
    }

    fn commit(&self, commit: Commit) -> Result<bool, StoreError> {
        if commit.is_empty() {
            return Ok(true);
        }
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        for (table, key, value) in commit.write {
            match value {
                Some(value) => batch.insert(self.table(table), key, value),
                None => batch.remove(self.table(table), key),
            }
        }
        if commit.users_more != 0 {
            let users = self.number(USERS_KEY)?.saturating_add_signed(commit.users_more);
            batch.insert(&self.meta, USERS_KEY, users.to_be_bytes());
        }
        for series in [Series::Created, Series::ContentChanges] {
            let taken = self.taken[series as usize].load(Ordering::Relaxed);
            if taken != self.number(series.name())? {
                batch.insert(&self.meta, series.name(), taken.to_be_bytes());
            }
        }
        batch.commit().map_err(|error| self.failure(&error))?;
        if commit.items_changed {
            self.items_generation.fetch_add(1, Ordering::AcqRel);
        }
        Ok(true)
    }

    fn users(&self) -> Result<u64, StoreError> {
        self.number(USERS_KEY)
    }

    fn items_generation(&self) -> Result<u64, StoreError> {
        Ok(self.items_generation.load(Ordering::Acquire))
    }

    fn max_history(&self) -> Result<u64, StoreError> {
        self.number(MAX_HISTORY)
    }

    fn raise_max_history(&self, asked: u64) -> Result<u64, StoreError> {
        let kept = self.number(MAX_HISTORY)?;
        if kept >= asked {
            return Ok(kept);
        }
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&self.meta, MAX_HISTORY, asked.to_be_bytes());
        batch.commit().map_err(|error| self.failure(&error))?;
        Ok(asked)
    }

    fn place(&self) -> &Path {
        &self.path
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
/// that it refuses later if it were killed while making it. False if something is there by now, which stays.
fn create(path: &Path) -> Result<bool, StoreError> {
    let Some(staged) = StagedDir::create_new(path)? else { return Ok(false) };
    drop(open_database(staged.path())?);
    let marker = staged.path().join(FORMAT_FILE);
    std::fs::write(&marker, FORMAT).map_err(StoreError::io(&marker))?;
    staged.commit_new()
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

//! The database on a Redis or Valkey server, which several processes share: each table is one hash, so a commit
//! is one script over a handful of keys, and the server runs a script whole or not at all.
//!
//! ```text
//! {recommender:NAME}:TABLE   hash, a row a field, the bytes of the folder's store
//! {recommender:NAME}:meta    hash: format, max history, items (generation), created and content changes (numbers taken)
//! ```
//! The braces keep all keys on one node of a cluster. There is no lock: a commit carries what was read, and the
//! script refuses it if that has changed. How durable a commit is depends on the server's own settings
//! ([`Tables::caution`]); what it loses in a failover it loses from the end, effects and positions together.
//!
//! Limits: at most [`IDLE`] connections are kept for the next call. A server that did not answer in time (`server.rs`)
//! is left alone for [`PAUSE`], so that not every thread waits for it.

use super::location::StateServer;
use super::server::{check_format, connect, failure, inspect, passes};
use super::tables::{Bytes, Commit, EachRow, Flow, MAX_HISTORY, Reads, Series, Table, Tables};
use crate::StoreError;
use redis::{Connection, RedisError, RedisResult, Script};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most connections kept while nobody uses them.
const IDLE: usize = 16;
/// How long nobody asks a server that did not answer in time.
const PAUSE: Duration = Duration::from_secs(1);
/// How long it may take until a change of items by another process is seen.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Numbers of a series that a process takes ahead, where their order means nothing.
const AHEAD: u64 = 256;
/// Rows that one call for a part of a table asks for.
const PART: usize = 1024;
const GENERATION: &str = "items";

/// Checks what was read, then writes; gives the items' generation, or -1 if something has changed.
/// KEYS: the tables and meta. ARGV: count, (table, field, there, value) each; count, the same; items changed.
const COMMIT: &str = "
local at = 0
local function take() at = at + 1; return ARGV[at] end
for _ = 1, tonumber(take()) do
  local key = KEYS[tonumber(take())]
  local field = take()
  local there = take()
  local value = take()
  local now = redis.call('HGET', key, field)
  if there == '1' then
    if now ~= value then return -1 end
  elseif now then
    return -1
  end
end
for _ = 1, tonumber(take()) do
  local key = KEYS[tonumber(take())]
  local field = take()
  local there = take()
  local value = take()
  if there == '1' then redis.call('HSET', key, field, value) else redis.call('HDEL', key, field) end
end
return redis.call('HINCRBY', KEYS[#KEYS], 'items', take())
";

/// Raises a number of meta, unless it is as large already, and gives it. KEYS: meta. ARGV: field, number.
const RAISE: &str = "
local kept = redis.call('HGET', KEYS[1], ARGV[1])
if kept and tonumber(kept) >= tonumber(ARGV[2]) then return tonumber(kept) end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return tonumber(ARGV[2])
";

/// Keys and values as the server gives them.
type Rows = Vec<(Vec<u8>, Vec<u8>)>;

pub(super) struct Shared {
    client: redis::Client,
    idle: Mutex<Vec<Connection>>,
    /// When the server last let the time for an answer pass.
    silent_at: Mutex<Option<Instant>>,
    /// By [`Table`], and meta last.
    keys: Vec<String>,
    script: Script,
    /// The URL without its password.
    place: PathBuf,
    caution: Option<String>,
    /// Numbers taken ahead for users made.
    created: Mutex<Range<u64>>,
    /// When the items' generation was last asked for, and what it was; none before the first time.
    generation: Mutex<Option<(Instant, u64)>>,
}

impl Shared {
    /// Connects, and makes the store if there is none of that name.
    pub(super) fn open(server: &StateServer) -> Result<Shared, StoreError> {
        let place = PathBuf::from(server.shown());
        let client = redis::Client::open(server.connection_info()?).map_err(|error| failure(&place, &error))?;
        let mut connection = connect(&client).map_err(|error| failure(&place, &error))?;
        let caution = inspect(&mut connection, &place)?;
        let key = |name: &str| format!("{{recommender:{}}}:{name}", server.name());
        let keys: Vec<String> = Table::ALL.iter().map(|table| key(table.name())).chain([key("meta")]).collect();
        check_format(&mut connection, keys.last().expect("meta is there"), &place)?;
        Ok(Shared {
            client,
            idle: Mutex::new(vec![connection]),
            silent_at: Mutex::new(None),
            keys,
            script: Script::new(COMMIT),
            place,
            caution,
            created: Mutex::new(0..0),
            generation: Mutex::new(None),
        })
    }

    fn key(&self, table: Table) -> &str {
        &self.keys[table as usize]
    }

    fn meta(&self) -> &str {
        self.keys.last().expect("meta is there")
    }

    fn failure(&self, error: &RedisError) -> StoreError {
        failure(&self.place, error)
    }

    /// Runs one call on a connection that nobody else uses meanwhile. One that something went wrong on is closed: an
    /// answer that comes too late must not be taken for that of the next question.
    fn call<T>(&self, run: impl FnOnce(&mut Connection) -> RedisResult<T>) -> RedisResult<T> {
        if lock(&self.silent_at).is_some_and(|at| at.elapsed() < PAUSE) {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not answer a moment ago").into());
        }
        let kept = lock(&self.idle).pop();
        let connection = kept.map_or_else(|| connect(&self.client), Ok);
        let done = connection.and_then(|mut connection| Ok((run(&mut connection)?, connection)));
        match done {
            Ok((answer, connection)) => {
                let mut idle = lock(&self.idle);
                if idle.len() < IDLE {
                    idle.push(connection);
                }
                Ok(answer)
            }
            Err(error) => {
                if passes(&error) {
                    // The others lead to the same server as it was; and it may come back without what it gave last.
                    lock(&self.idle).clear();
                    *lock(&self.created) = 0..0;
                }
                *lock(&self.silent_at) = error.is_timeout().then(Instant::now);
                Err(error)
            }
        }
    }

    /// Asks what changes nothing, or nothing that counts: once more where the server has closed an idle connection.
    fn ask<T: redis::FromRedisValue>(&self, command: &redis::Cmd) -> Result<T, StoreError> {
        let answer = match self.call(|connection| command.query(connection)) {
            Err(error) if error.is_connection_dropped() => self.call(|connection| command.query(connection)),
            answer => answer,
        };
        answer.map_err(|error| self.failure(&error))
    }

    /// Calls `each` with the parts of a table as the server gives them: in no order, a row more than once if the
    /// table grows meanwhile.
    fn parts(&self, table: Table, mut each: impl FnMut(Rows)) -> Result<(), StoreError> {
        let mut cursor = 0_u64;
        loop {
            let mut command = redis::cmd("HSCAN");
            command.arg(self.key(table)).arg(cursor).arg("COUNT").arg(PART);
            let (next, rows): (u64, Rows) = self.ask(&command)?;
            each(rows);
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Notes the items' generation, unless a later question has been answered.
    fn saw(&self, asked_at: Instant, generation: u64) {
        let mut kept = lock(&self.generation);
        if kept.is_none_or(|(at, _)| asked_at >= at) {
            *kept = Some((asked_at, generation));
        }
    }
}

impl Reads for Shared {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let found: Option<Vec<u8>> = self.ask(redis::cmd("HGET").arg(self.key(table)).arg(key))?;
        Ok(found.map(Bytes::from))
    }

    fn get_many(&self, table: Table, keys: &[&[u8]]) -> Result<Vec<Option<Bytes>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let found: Vec<Option<Vec<u8>>> = self.ask(redis::cmd("HMGET").arg(self.key(table)).arg(keys))?;
        Ok(found.into_iter().map(|value| value.map(Bytes::from)).collect())
    }

    fn each_key(&self, table: Table, each: &mut dyn FnMut(&[u8]) -> Flow) -> Result<(), StoreError> {
        let mut keys = BTreeSet::new();
        self.parts(table, |rows| keys.extend(rows.into_iter().map(|(key, _)| key)))?;
        let _stopped = keys.iter().try_for_each(|key| each(key));
        Ok(())
    }

    fn of_one_moment(&self) -> bool {
        false
    }
}

impl Tables for Shared {
    fn each_row(&self, table: Table, prefix: &[u8], each: &mut EachRow<'_>) -> Result<(), StoreError> {
        let mut found = BTreeMap::new();
        self.parts(table, |rows| found.extend(rows.into_iter().filter(|(key, _)| key.starts_with(prefix))))?;
        found.iter().try_for_each(|(key, value)| each(key, value))
    }

    fn alone(&self) -> Option<MutexGuard<'_, ()>> {
        None
    }

    fn take(&self, series: Series, count: u64) -> Result<u64, StoreError> {
        let ask = |count: u64| -> Result<u64, StoreError> {
            let last: u64 = self.ask(redis::cmd("HINCRBY").arg(self.meta()).arg(series.name()).arg(count))?;
            Ok(last - count)
        };
        if series == Series::ContentChanges {
            return ask(count);
        }
        // Not held while the server is asked: a call that fails throws the numbers away.
        let mut ahead = std::mem::take(&mut *lock(&self.created));
        if ahead.end - ahead.start < count {
            let taken = count.max(AHEAD);
            let before = ask(taken)?;
            ahead = before..before + taken;
        }
        let before = ahead.start;
        *lock(&self.created) = before + count..ahead.end;
        Ok(before)
    }

    fn commit(&self, commit: Commit) -> Result<bool, StoreError> {
        if commit.is_empty() {
            return Ok(true);
        }
        let mut call = self.script.prepare_invoke();
        for key in &self.keys {
            call.key(key);
        }
        for rows in [&commit.read, &commit.write] {
            call.arg(rows.len());
            for (table, key, value) in rows {
                // Lua counts from 1.
                call.arg(*table as usize + 1)
                    .arg(&**key)
                    .arg(i32::from(value.is_some()))
                    .arg(value.as_deref().unwrap_or_default());
            }
        }
        call.arg(i32::from(commit.items_changed));
        let asked_at = Instant::now();
        // Not asked again on a broken connection: it may have been done.
        let answer = self.call(|connection| call.invoke::<i64>(connection));
        let generation = answer.map_err(|error| self.failure(&error))?;
        let Ok(generation) = u64::try_from(generation) else { return Ok(false) };
        if commit.items_changed {
            self.saw(asked_at, generation);
        }
        Ok(true)
    }

    fn users(&self) -> Result<u64, StoreError> {
        self.ask(redis::cmd("HLEN").arg(self.key(Table::Heads)))
    }

    fn items_generation(&self) -> Result<u64, StoreError> {
        let asked_at = Instant::now();
        if let Some((at, generation)) = *lock(&self.generation)
            && at.elapsed() < LOOK_EVERY
        {
            return Ok(generation);
        }
        let found: Option<u64> = self.ask(redis::cmd("HGET").arg(self.meta()).arg(GENERATION))?;
        self.saw(asked_at, found.unwrap_or(0));
        Ok(lock(&self.generation).map_or(0, |(_, generation)| generation))
    }

    fn max_history(&self) -> Result<u64, StoreError> {
        let found: Option<u64> = self.ask(redis::cmd("HGET").arg(self.meta()).arg(MAX_HISTORY))?;
        Ok(found.unwrap_or(0))
    }

    fn raise_max_history(&self, asked: u64) -> Result<u64, StoreError> {
        let script = Script::new(RAISE);
        let mut call = script.prepare_invoke();
        call.key(self.meta()).arg(MAX_HISTORY).arg(asked);
        self.call(|connection| call.invoke::<u64>(connection)).map_err(|error| self.failure(&error))
    }

    fn place(&self) -> &Path {
        &self.place
    }

    fn caution(&self) -> Option<&str> {
        self.caution.as_deref()
    }
}

/// What is guarded here is whole after every statement, also if a thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

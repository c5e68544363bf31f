//! What a Redis or Valkey server must be, and what its failures mean: how it is connected to, the settings under which
//! it keeps user state, and which failures pass.

use super::{FORMAT, WAY_OUT};
use crate::StoreError;
use redis::{Connection, ErrorKind, RedisError, RedisResult, ServerErrorKind};
use std::io;
use std::path::Path;
use std::time::Duration;

/// Longest wait for a connection and for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on which no answer is waited for longer than [`TIMEOUT`].
pub(super) fn connect(client: &redis::Client) -> RedisResult<Connection> {
    let connection = client.get_connection_with_timeout(TIMEOUT)?;
    connection.set_read_timeout(Some(TIMEOUT))?;
    connection.set_write_timeout(Some(TIMEOUT))?;
    Ok(connection)
}

/// Refuses a server that may throw rows away, and says what a crash of it would lose.
pub(super) fn inspect(connection: &mut Connection, place: &Path) -> Result<Option<String>, StoreError> {
    let info: String = redis::cmd("INFO").query(connection).map_err(|error| failure(place, &error))?;
    let setting = |name: &str| info.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'));
    // Older ones hide the reason why a script failed, so that what passes looks like what does not.
    if let Some(version) = setting("redis_version").filter(|version| major(version) < Some(7)) {
        let reason = format!("is Redis {version}; 7 or any Valkey is needed");
        return Err(StoreError::State { path: place.to_path_buf(), reason });
    }
    if let Some(policy) = setting("maxmemory_policy").filter(|policy| policy.starts_with("allkeys")) {
        let reason =
            format!("has maxmemory-policy {policy}, which throws user state away when memory is short; set noeviction");
        return Err(StoreError::State { path: place.to_path_buf(), reason });
    }
    if setting("aof_enabled") == Some("1") {
        // A server of somebody else's may not tell.
        let told: Result<Vec<String>, RedisError> =
            redis::cmd("CONFIG").arg("GET").arg("appendfsync").query(connection);
        return Ok(match told.as_deref() {
            Ok([_, when]) if when == "always" => None,
            Ok([_, when]) => Some(format!(
                "appendfsync is {when}: a crash of the server's machine may lose the last events; always loses none"
            )),
            _ => Some("the server does not say whether it syncs each write (appendfsync always)".to_owned()),
        });
    }
    Ok(Some(
        "the server keeps no append-only file: when it stops, it may lose user state; set appendonly yes".to_owned(),
    ))
}

/// The first number of a version; Valkey tells one of Redis too.
fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// Gives a new store its format; refuses one of another.
pub(super) fn check_format(connection: &mut Connection, meta: &str, place: &Path) -> Result<(), StoreError> {
    let ask = |connection: &mut Connection| -> Result<String, RedisError> {
        redis::cmd("HSETNX").arg(meta).arg("format").arg(FORMAT.trim()).exec(connection)?;
        redis::cmd("HGET").arg(meta).arg("format").query(connection)
    };
    let found = ask(connection).map_err(|error| failure(place, &error))?;
    if found == FORMAT.trim() {
        return Ok(());
    }
    let reason =
        format!("is of {found:?}, and this version reads {:?}; name another store, or {WAY_OUT}", FORMAT.trim());
    Err(StoreError::State { path: place.to_path_buf(), reason })
}

/// Whether it may go well later, elsewhere or on another connection: no answer, or a server that is not ready.
pub(super) fn passes(error: &RedisError) -> bool {
    use ServerErrorKind as Kind;
    match error.kind() {
        ErrorKind::Io => true,
        ErrorKind::Server(kind) => {
            matches!(kind, Kind::BusyLoading | Kind::TryAgain | Kind::ClusterDown | Kind::MasterDown | Kind::ReadOnly)
        }
        // Memory may be given to it, a disk freed, a replica come back.
        _ => matches!(error.code(), Some("OOM" | "BUSY" | "MISCONF" | "NOREPLICAS")),
    }
}

/// A server that does not answer is the machine's failure; one that refuses is told in its own words.
pub(super) fn failure(place: &Path, error: &RedisError) -> StoreError {
    if passes(error) {
        let source = io::Error::new(io::ErrorKind::NotConnected, error.to_string());
        return StoreError::Unreachable { store: place.display().to_string(), source };
    }
    StoreError::State { path: place.to_path_buf(), reason: format!("the server refused: {error}") }
}

//! Which embedded database carries user state: events of random users among 100,000, whose histories
//! are full, in durable batches and one by one. `cargo run --release --example store_writes -- 10`
//! takes 10 seconds a line and prints the table of this crate's README.md.
//!
//! "whole" rewrites a user's whole history (12 bytes an entry) for an event, as a store of one value
//! a user does; "store" is this crate's `UserStateStore`.

use feature_store::{Event, UserStateStore};
use rand::{Rng as _, SeedableRng as _};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

const USERS: usize = 100_000;
const ENTRY_BYTES: usize = 12;
const TABLE: redb::TableDefinition<&str, &[u8]> = redb::TableDefinition::new("histories");

/// A way to keep histories of `len` entries: takes one durable batch of users, one event each.
type Write = Box<dyn FnMut(&[usize])>;

fn main() {
    let seconds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(10);
    println_row(&["kept as", "history", "batch", "events/s", "p50 ms", "p99 ms", "written B/event"].map(str::to_owned));
    for history in [50, 200] {
        for batch in [1, 256, 4096] {
            for (name, make) in [
                ("redb, whole", redb_whole as fn(&Path, usize) -> Write),
                ("fjall, whole", fjall_whole),
                ("store", store),
            ] {
                let dir = tempfile::tempdir_in(".").expect("the working folder is writable");
                measure(name, make(dir.path(), history), history, batch, Duration::from_secs(seconds));
            }
        }
    }
}

fn measure(name: &str, mut write: Write, history: usize, batch: usize, limit: Duration) {
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let mut users = vec![0_usize; batch];
    let mut times_ms = Vec::new();
    let (started, written) = (Instant::now(), written_bytes());
    while started.elapsed() < limit {
        users.iter_mut().for_each(|user| *user = random.random_range(0..USERS));
        let at = Instant::now();
        write(&users);
        times_ms.push(at.elapsed().as_secs_f64() * 1e3);
    }
    let (seconds, events) = (started.elapsed().as_secs_f64(), (batch * times_ms.len()) as f64);
    times_ms.sort_by(f64::total_cmp);
    println_row(&[
        name.to_owned(),
        history.to_string(),
        batch.to_string(),
        format!("{:.0}", events / seconds),
        format!("{:.2}", times_ms[times_ms.len() / 2]),
        format!("{:.2}", times_ms[times_ms.len() * 99 / 100]),
        format!("{:.0}", (written_bytes() - written) as f64 / events),
    ]);
}

#[expect(clippy::print_stdout, reason = "the table is what the program is for")]
fn println_row(cells: &[String]) {
    println!("| {} |", cells.join(" | "));
}

/// Bytes this process has sent to disk; 0 where the system does not say.
fn written_bytes() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

fn key(user: usize) -> String {
    format!("user-{user:06}")
}

/// Histories with one entry more, the oldest gone.
fn advance(users: &[usize], read: impl Fn(&str) -> Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let mut counts: BTreeMap<usize, usize> = BTreeMap::new();
    users.iter().for_each(|user| *counts.entry(*user).or_default() += 1);
    let advanced = counts.into_iter().map(|(user, events)| {
        let key = key(user);
        let mut history = read(&key);
        history.drain(..events * ENTRY_BYTES);
        history.resize(history.len() + events * ENTRY_BYTES, 9);
        (key, history)
    });
    advanced.collect()
}

fn redb_whole(dir: &Path, history: usize) -> Write {
    use redb::ReadableDatabase as _;
    let database = redb::Database::create(dir.join("state.redb")).expect("a new database");
    let put = move |database: &redb::Database, rows: Vec<(String, Vec<u8>)>| {
        let write = database.begin_write().expect("one writer");
        {
            let mut table = write.open_table(TABLE).expect("one table");
            for (key, value) in rows {
                table.insert(key.as_str(), value.as_slice()).expect("room on disk");
            }
        }
        write.commit().expect("a disk that syncs");
    };
    for users in (0..USERS).collect::<Vec<_>>().chunks(10_000) {
        put(&database, users.iter().map(|user| (key(*user), vec![7; history * ENTRY_BYTES])).collect());
    }
    Box::new(move |users| {
        let rows = advance(users, |key| {
            let table = database.begin_read().expect("a reader").open_table(TABLE).expect("one table");
            table.get(key).expect("a sound page").expect("every user is there").value().to_vec()
        });
        put(&database, rows);
    })
}

fn fjall_whole(dir: &Path, history: usize) -> Write {
    let database = fjall::Database::builder(dir.join("state")).cache_size(64 << 20).open().expect("a new database");
    let options = || fjall::KeyspaceCreateOptions::default().expect_point_read_hits(true);
    let table = database.keyspace("histories", options).expect("one keyspace");
    let put = {
        let (database, table) = (database.clone(), table.clone());
        move |rows: Vec<(String, Vec<u8>)>| {
            let mut batch = database.batch().durability(Some(fjall::PersistMode::SyncData));
            rows.into_iter().for_each(|(key, value)| batch.insert(&table, key, value));
            batch.commit().expect("a disk that syncs");
        }
    };
    for users in (0..USERS).collect::<Vec<_>>().chunks(10_000) {
        put(users.iter().map(|user| (key(*user), vec![7; history * ENTRY_BYTES])).collect());
    }
    Box::new(move |users| {
        put(advance(users, |key| table.get(key).expect("a sound block").expect("every user is there").to_vec()))
    })
}

fn store(dir: &Path, history: usize) -> Write {
    let store = UserStateStore::open(&dir.join("state"), history).expect("a new store");
    let event = |user: usize, step: i64| Event {
        user_id: key(user),
        item_id: format!("{:05}", user % 50_000),
        timestamp_ms: 1_700_000_000_000 + step * 1000,
        event_id: None,
    };
    let mut step = 0;
    for users in (0..USERS).collect::<Vec<_>>().chunks(1000) {
        let full: Vec<Event> =
            users.iter().flat_map(|user| (0..history as i64).map(|step| event(*user, step))).collect();
        store.append(&full).expect("room on disk");
    }
    Box::new(move |users| {
        step += 1;
        let events: Vec<Event> = users.iter().map(|user| event(*user, history as i64 + step)).collect();
        store.append(&events).expect("room on disk");
    })
}

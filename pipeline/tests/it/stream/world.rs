//! Small streams: events, configurations, stores, and a consumer that runs to the end.

use feature_store::{Event, HistoryEntry, StoreError, StreamEvent, UserStateStore};
use pipeline::stream::{
    BatchConfig, Consumer, Format, LogConfig, Outgoing, ProduceConfig, Start, StateConfig, StreamConfig, StreamError,
    StreamMetrics, StreamStats, dead_letter_sink, decoder, open_source, open_source_to_end, outgoing,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Every user with their history.
pub(super) type Histories = BTreeMap<String, Vec<HistoryEntry>>;
pub(super) type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

/// A clock that stands.
pub(super) const NOW_MS: i64 = 1_700_000_000_000;

pub(super) fn clock() -> Clock {
    Arc::new(|| NOW_MS)
}

pub(super) fn interaction(user: &str, item: &str, timestamp_ms: i64) -> StreamEvent {
    StreamEvent::Interaction(Event { user_id: user.into(), item_id: item.into(), timestamp_ms, event_id: None })
}

/// Events of a few users, with deletions and late ones, the same for the same numbers.
pub(super) fn events(count: usize, users: usize) -> Vec<StreamEvent> {
    let made = (0..count).map(|n| {
        let user = format!("u{}", (n * 7919 + n / 13) % users);
        let time_ms = 1_000_000 + n as i64 * 10 - if n % 11 == 0 { 5_000 } else { 0 };
        match n % 97 {
            50 => StreamEvent::UserDelete { user_id: user, timestamp_ms: time_ms },
            _ => interaction(&user, &format!("i{}", n % 1009), time_ms),
        }
    });
    made.collect()
}

pub(super) fn messages(events: &[StreamEvent]) -> Vec<Outgoing> {
    events.iter().map(outgoing).collect()
}

pub(super) fn poison(payload: &[u8]) -> Outgoing {
    Outgoing { key: b"poison".to_vec(), payload: payload.to_vec(), headers: vec![("trace".into(), b"t1".to_vec())] }
}

/// A stream from a log in `dir`.
pub(super) fn log_config(dir: &Path) -> StreamConfig {
    StreamConfig {
        format: Format::Native,
        start: Start::Earliest,
        batch: BatchConfig { max_messages: 64, max_wait_ms: 20 },
        state: StateConfig { path: dir.join("state").into(), max_history: 50 },
        produce: ProduceConfig { acknowledge_ms: 5_000, applied_wait_ms: 2_000, max_in_flight: 1_000 },
        metrics_bind: None,
        kafka: None,
        log: Some(LogConfig { dir: dir.join("events"), segment_bytes: 4096, max_segments: 1000 }),
    }
}

pub(super) fn open(config: &StreamConfig) -> UserStateStore {
    UserStateStore::open_at(&config.state.path, config.state.max_history).unwrap()
}

/// Applies what is there now.
pub(super) fn consume(config: &StreamConfig, store: &UserStateStore) -> Result<StreamStats, StreamError> {
    consume_while(config, store, true, &|| false)
}

/// Applies what comes, until the end or until told to stop.
pub(super) fn consume_while(
    config: &StreamConfig,
    store: &UserStateStore,
    until_end: bool,
    stop: &dyn Fn() -> bool,
) -> Result<StreamStats, StreamError> {
    let clock = clock();
    let metrics = StreamMetrics::default();
    let open = if until_end { open_source_to_end } else { open_source };
    let mut source = open(config, store, &clock)?;
    let mut letters = dead_letter_sink(config, &clock)?;
    let decoder = decoder(config.format);
    let consumer = Consumer { decoder: &*decoder, store, batch: config.batch, metrics: &metrics, clock_ms: &*clock };
    consumer.run(&mut *source, &mut *letters, until_end, stop)?;
    Ok(metrics.stats())
}

pub(super) fn histories(store: &UserStateStore) -> Histories {
    let mut all = Histories::new();
    store
        .for_each_user::<StoreError>(|user, history| {
            all.insert(user.to_owned(), history);
            Ok(())
        })
        .unwrap();
    all
}

/// What the events come to, applied quietly in a store of their own.
pub(super) fn expected(events: &[StreamEvent], max_history: usize) -> Histories {
    let dir = tempfile::tempdir().unwrap();
    let store = UserStateStore::open(&dir.path().join("expected"), max_history).unwrap();
    store.record(events).unwrap();
    histories(&store)
}

/// The segments of a log, in order.
pub(super) fn segments(dir: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    segments.sort();
    segments
}

/// Adds a row to the table of faults survived, if `RECOMMENDER_FAULT_TABLE` names one (deploy/fault-run.sh).
pub(super) fn fault_row(fault: &str, times: impl std::fmt::Display, events: usize) {
    let row = format!("| {fault} | {times} | {events} | state = fresh replay; 0 lost, 0 applied twice |\n");
    if let Some(path) = std::env::var_os("RECOMMENDER_FAULT_TABLE") {
        let file = std::fs::OpenOptions::new().create(true).append(true).open(path);
        file.and_then(|mut file| std::io::Write::write_all(&mut file, row.as_bytes())).unwrap();
    }
}

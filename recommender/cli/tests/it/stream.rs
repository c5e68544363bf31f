//! `ingest --config`: a stream from outside, killed at any moment, ends in the state of one quiet
//! pass. Rounds are few by default; `RECOMMENDER_SLOW_TESTS=1` makes them as many as the issue asks.

use crate::fault_table::{AS_REPLAYED, row};
use crate::program::{Running, command, say_skipped, succeed, text};
use feature_store::{Event, HistoryEntry, StoreError, StreamEvent, UserStateStore};
use pipeline::stream::{StreamConfig, event_sink, outgoing};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

pub(crate) type Histories = BTreeMap<String, Vec<HistoryEntry>>;

pub(crate) fn slow() -> bool {
    std::env::var("RECOMMENDER_SLOW_TESTS").is_ok_and(|value| value == "1")
}

pub(crate) fn config(dir: &Path, source: &str) -> PathBuf {
    let path = dir.join("stream.toml");
    let text = format!(
        "format = \"native\"\nstart = \"earliest\"\n\n[batch]\nmax_messages = 50\nmax_wait_ms = 5\n\n\
         [state]\npath = \"state\"\nmax_history = 40\n\n\
         [produce]\nacknowledge_ms = 2000\napplied_wait_ms = 2000\nmax_in_flight = 1000\n\n{source}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

pub(crate) const LOG: &str = "[log]\ndir = \"events\"\nsegment_bytes = 65536\nmax_segments = 1000\n";

pub(crate) fn kafka(brokers: &str) -> String {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!(
        "[kafka]\nbrokers = \"{brokers}\"\ntopic = \"cli-{nanos}\"\ngroup = \"cli-{nanos}\"\nsource = \"kafka:cli-{nanos}\"\n\
         queue_kib = 4096\nsession_timeout_ms = 6000\n\n[kafka.properties]\n\"heartbeat.interval.ms\" = \"500\"\n\
         \"reconnect.backoff.max.ms\" = \"500\"\n"
    )
}

/// The config as the library reads it, with its paths below `dir`.
pub(crate) fn parsed(path: &Path) -> StreamConfig {
    let mut config: StreamConfig = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    if let Some(log) = &mut config.log {
        log.dir = path.parent().unwrap().join(&log.dir);
    }
    config
}

pub(crate) fn events(from: usize, to: usize) -> Vec<StreamEvent> {
    let made = (from..to).map(|n| {
        let user_id = format!("u{}", (n * 7919) % 37);
        let timestamp_ms = 1_000_000 + n as i64 * 10 - if n % 11 == 0 { 3_000 } else { 0 };
        match n % 301 {
            300 => StreamEvent::UserDelete { user_id, timestamp_ms },
            _ => StreamEvent::Interaction(Event { user_id, item_id: format!("i{n}"), timestamp_ms, event_id: None }),
        }
    });
    made.collect()
}

pub(crate) fn produce(config: &StreamConfig, events: &[StreamEvent]) {
    let clock: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(|| 1_700_000_000_000);
    let messages: Vec<_> = events.iter().map(outgoing).collect();
    event_sink(config, &clock).unwrap().put(&messages).unwrap();
}

pub(crate) fn histories(path: &Path) -> Histories {
    let store = UserStateStore::open_to_read(&path.to_path_buf().into(), 40).unwrap();
    let mut all = Histories::new();
    store
        .for_each_user::<StoreError>(|user, history| {
            all.insert(user.to_owned(), history);
            Ok(())
        })
        .unwrap();
    all
}

pub(crate) fn expected(events: &[StreamEvent]) -> Histories {
    let dir = tempfile::tempdir().unwrap();
    let store = UserStateStore::open(&dir.path().join("state"), 40).unwrap();
    store.record(events).unwrap();
    drop(store);
    histories(&dir.path().join("state"))
}

/// Kills `ingest` with SIGKILL at a moment of its own in each round, while events arrive.
fn killed(dir: &Path, config_path: &Path, rounds: usize) {
    let config = parsed(config_path);
    let mut sent = 0;
    for round in 0..rounds {
        produce(&config, &events(sent, sent + 400));
        sent += 400;
        let mut child = command()
            .args(["ingest", "--config", text(config_path)])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // No two rounds end at the same place: opening, joining, reading, writing.
        std::thread::sleep(Duration::from_millis(20 + (round as u64 * 137) % 900));
        produce(&config, &events(sent, sent + 100));
        sent += 100;
        child.kill().unwrap();
        child.wait().unwrap();
    }
    succeed(["ingest", "--config", text(config_path), "--until-end"]);
    let state = histories(&dir.join("state"));
    let expected = expected(&events(0, sent));
    let wrong: Vec<&String> = expected.keys().filter(|user| state.get(*user) != expected.get(*user)).collect();
    assert!(wrong.is_empty() && state.len() == expected.len(), "after {rounds} kills these users differ: {wrong:?}");
    // A fresh replay of the source comes to the same, and a second one of the same store to nothing.
    let said = succeed(["ingest", "--config", text(config_path), "--until-end"]);
    assert!(said.contains("0 events applied"), "{said}");
    let source = if config.log.is_some() { "log" } else { "topic" };
    row(&format!("consumer of a {source} killed (SIGKILL)"), rounds, sent, AS_REPLAYED);
}

#[test]
fn a_consumer_of_a_log_killed_at_any_moment_loses_and_repeats_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), LOG);
    killed(dir.path(), &path, if slow() { 100 } else { 8 });
}

#[test]
fn a_consumer_of_a_topic_killed_at_any_moment_loses_and_repeats_nothing() {
    let Some(brokers) = std::env::var("RECOMMENDER_KAFKA").ok().filter(|brokers| !brokers.is_empty()) else {
        return say_skipped("RECOMMENDER_KAFKA names no broker (deploy/kafka-local.sh start prints one)");
    };
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), &kafka(&brokers));
    killed(dir.path(), &path, if slow() { 100 } else { 4 });
}

/// A broker of this test's own, stopped when dropped.
struct Broker {
    dir: PathBuf,
}

impl Broker {
    fn run(&self, what: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kafka-local.sh");
        let done = std::process::Command::new(script).args([what, text(&self.dir)]).output().unwrap();
        assert!(done.status.success(), "{what}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).unwrap().trim().to_owned()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/kafka-local.sh");
        let _ = std::process::Command::new(script).args(["kill", text(&self.dir)]).output();
    }
}

/// Events with ids and times of their own, so that a producer may send one again.
fn numbered(from: usize, to: usize) -> Vec<StreamEvent> {
    let event = |n: usize| {
        let (user_id, item_id) = (format!("u{}", n % 37), format!("i{n}"));
        StreamEvent::Interaction(Event {
            user_id,
            item_id,
            timestamp_ms: 1_000_000 + n as i64,
            event_id: Some(format!("e{n}")),
        })
    };
    (from..to).map(event).collect()
}

/// Sends until told to stop, each part again until the broker acknowledged it; gives how many events are.
fn produce_through(config: &StreamConfig, done: &std::sync::atomic::AtomicBool) -> usize {
    let clock: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(|| 1_700_000_000_000);
    let mut sink = event_sink(config, &clock).unwrap();
    let mut sent = 0;
    while !done.load(std::sync::atomic::Ordering::Relaxed) {
        let messages: Vec<_> = numbered(sent, sent + 10).iter().map(outgoing).collect();
        while sink.put(&messages).is_err() {
            std::thread::sleep(Duration::from_millis(100));
        }
        sent += 10;
        std::thread::sleep(Duration::from_millis(5));
    }
    sent
}

/// While a producer (acks=all) and `ingest` run, `fault` is done to their broker; both go on by themselves,
/// and at the end the state is that of all that was acknowledged.
fn survives(name: &str, times: usize, fault: impl Fn(&Broker)) {
    let dir = tempfile::tempdir().unwrap();
    let broker = Broker { dir: dir.path().join("broker") };
    let path = config(dir.path(), &kafka(&broker.run("start")));
    let stream = parsed(&path);
    produce(&stream, &numbered(0, 10));
    let ingest = Running::start(command().args(["ingest", "--config", text(&path)]));
    let done = std::sync::atomic::AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let producer = scope.spawn(|| produce_through(&stream, &done));
        for _ in 0..times {
            std::thread::sleep(Duration::from_millis(700));
            fault(&broker);
        }
        std::thread::sleep(Duration::from_secs(2));
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        producer.join().unwrap()
    });
    // The same process that saw every fault is still there, and stops when asked to.
    std::thread::sleep(Duration::from_secs(3));
    ingest.signal("INT");
    let ended = ingest.wait(LIMIT);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let said = succeed(["ingest", "--config", text(&path), "--until-end"]);
    let state = histories(&dir.path().join("state"));
    assert_eq!(state, expected(&numbered(0, sent)), "{said}");
    // A fresh replay of the topic comes to the same.
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    succeed(["ingest", "--config", text(&path), "--until-end"]);
    assert_eq!(histories(&dir.path().join("state")), state);
    broker.run("stop");
    row(name, times, sent, AS_REPLAYED);
}

#[test]
fn a_broker_killed_and_started_again_loses_nothing() {
    if !slow() {
        return say_skipped("RECOMMENDER_SLOW_TESTS is not 1 (a broker killed twenty times)");
    }
    survives("broker killed (SIGKILL) under acks=all", 20, |broker| {
        broker.run("kill");
        broker.run("start");
    });
}

#[test]
fn a_broker_gone_for_a_minute_is_waited_for() {
    if !slow() {
        return say_skipped("RECOMMENDER_SLOW_TESTS is not 1 (a broker gone for a minute)");
    }
    survives("broker gone for 60 s", 1, |broker| {
        broker.run("stop");
        std::thread::sleep(Duration::from_secs(60));
        broker.run("start");
    });
}

//! A consumer whose state is on a Redis server: one that is away for a while is waited for, and one that comes back
//! without its last writes leaves no gap.

use super::world::{clock, consume_while, events, expected, histories, log_config, messages, open};
use crate::redis_server::RedisServer;
use feature_store::{StoreError, UserStateStore};
use pipeline::stream::{StreamConfig, StreamError, event_sink, open_source};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

fn config(dir: &std::path::Path, server: &RedisServer) -> StreamConfig {
    let mut config = log_config(dir);
    config.state.path = server.url("users").parse().unwrap();
    config
}

fn produce(config: &StreamConfig, events: &[feature_store::StreamEvent]) {
    event_sink(config, &clock()).unwrap().put(&messages(events)).unwrap();
}

/// Waits until everything up to `offset` is applied.
fn wait_for(config: &StreamConfig, store: &UserStateStore, offset: u64) {
    let begun = Instant::now();
    let name = open_source(config, store, &clock()).unwrap().name().to_owned();
    let reached = || store.positions(&name).ok().and_then(|found| found.get(&0).copied());
    while reached() < Some(offset) {
        assert!(begun.elapsed() < LIMIT, "{:?} of {offset}", reached());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Says stop when dropped, so that a failed assertion does not leave a consumer that runs for ever.
struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_server_that_is_away_is_waited_for() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), &server);
    let events = events(2000, 20);
    produce(&config, &events[..1000]);
    let stop = AtomicBool::new(false);
    let store = std::thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let consumer = scope.spawn(|| consume_while(&config, &open(&config), false, &|| stop.load(Ordering::Relaxed)));
        wait_for(&config, &open(&config), 100);
        server.kill();
        produce(&config, &events[1000..]);
        std::thread::sleep(Duration::from_millis(300));
        assert!(!consumer.is_finished(), "{:?}", consumer.join());
        server.restart();
        let store = open(&config);
        wait_for(&config, &store, 1999);
        drop(stopping);
        consumer.join().unwrap().unwrap();
        store
    });
    assert_eq!(histories(&store), expected(&events, 50));
}

/// Events arrive while the server has nothing of what it acknowledged, as a replica that was behind when it took
/// over: at once, or after an outage that the consumer sat out with a batch in hand.
#[test]
fn a_server_that_lost_its_last_writes_is_not_written_over() {
    let check = |outage: bool| {
        let Some(mut server) = RedisServer::start(&[]) else { return };
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), &server);
        let events = events(600, 20);
        produce(&config, &events[..300]);
        let stop = AtomicBool::new(false);
        let error = std::thread::scope(|scope| {
            let _stopping = StopOnDrop(&stop);
            let stopped = || stop.load(Ordering::Relaxed);
            let consumer = scope.spawn(move || consume_while(&config, &open(&config), false, &stopped));
            let config = self::config(dir.path(), &server);
            wait_for(&config, &open(&config), 299);
            if outage {
                server.kill();
                produce(&config, &events[300..]);
                std::thread::sleep(Duration::from_millis(300));
                assert!(!consumer.is_finished(), "{:?}", consumer.join());
                server.forget();
                server.restart();
            } else {
                let client = redis::Client::open(format!("redis://{}", server.address())).unwrap();
                redis::cmd("FLUSHALL").exec(&mut client.get_connection().unwrap()).unwrap();
                produce(&config, &events[300..]);
            }
            consumer.join().unwrap().unwrap_err()
        });
        let behind = matches!(&error, StreamError::Store(StoreError::Behind { offset: 299, stored: None, .. }));
        assert!(behind, "{error}");
        // The next consumer reads what was lost again.
        let config = self::config(dir.path(), &server);
        let store = open(&config);
        consume_while(&config, &store, true, &|| false).unwrap();
        assert_eq!(histories(&store), expected(&events, 50));
    };
    check(false);
    check(true);
}

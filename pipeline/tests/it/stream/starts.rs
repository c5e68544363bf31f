//! Where a stream starts, and that the start stays where it was: over a log that is empty, and of what lies
//! there only in part.

use super::world::{clock, consume, events, interaction, log_config, messages, open, segments};
use feature_store::UserStateStore;
use pipeline::stream::{LogWriter, Outgoing, Start, StreamConfig, event_sink, open_source};
use std::sync::Arc;

fn produce(config: &StreamConfig, messages: &[Outgoing]) {
    event_sink(config, &clock()).unwrap().put(messages).unwrap();
}

fn items(store: &UserStateStore) -> Vec<String> {
    store.history("u").unwrap().into_iter().map(|entry| entry.item_id).collect()
}

/// What comes after the first look at an empty log is applied, though nothing was applied before the next one.
#[test]
fn a_start_on_an_empty_log_is_remembered() {
    let check = |start: Start, then: Start| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = log_config(dir.path());
        config.start = start;
        let log = config.log.clone().unwrap();
        drop(LogWriter::open(&log.dir, log.limits(), clock()).unwrap());
        let store = open(&config);
        drop(open_source(&config, &store, &clock()).unwrap());
        produce(&config, &messages(&[interaction("u", "a", 1), interaction("u", "b", 2)]));
        config.start = then;
        let late: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(|| i64::MAX);
        drop(open_source(&config, &store, &late).unwrap());
        consume(&config, &store).unwrap();
        assert_eq!(items(&store), ["a", "b"], "{start:?}, then {then:?}");
    };
    check(Start::Latest, Start::Latest);
    check(Start::LastS(1), Start::LastS(1));
    check(Start::TimestampMs(5), Start::TimestampMs(5));
    // What begun means does not change with the config.
    check(Start::Latest, Start::LastS(1));
}

/// A start behind the first message, opened twice before anything is applied, and a store that says nothing
/// of what was before it.
#[test]
fn a_start_behind_old_messages_moves_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = log_config(dir.path());
    config.start = Start::Latest;
    produce(&config, &messages(&[interaction("u", "old", 1)]));
    let store = open(&config);
    drop(open_source(&config, &store, &clock()).unwrap());
    produce(&config, &messages(&[interaction("u", "new", 2)]));
    let source = open_source(&config, &store, &clock()).unwrap();
    assert!(source.began().is_empty(), "nothing was applied yet");
    drop(source);
    assert_eq!(consume(&config, &store).unwrap().messages, 1);
    assert_eq!(items(&store), ["new"]);
    assert_eq!(open_source(&config, &store, &clock()).unwrap().began().get(&0), Some(&1));
}

/// Segments that went before they were applied are counted; a new source has lost nothing.
#[test]
fn messages_that_went_unread_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = log_config(dir.path());
    config.log.as_mut().unwrap().max_segments = 2;
    let all = messages(&events(400, 10));
    for message in &all[..5] {
        produce(&config, std::slice::from_ref(message));
    }
    let store = open(&config);
    assert_eq!(consume(&config, &store).unwrap().messages, 5);
    let sink = &mut event_sink(&config, &clock()).unwrap();
    for message in &all[5..] {
        sink.put(std::slice::from_ref(message)).unwrap();
    }
    let left = segments(&config.log.as_ref().unwrap().dir);
    assert_eq!(left.len(), 2);
    let first: u64 = left[0].file_stem().unwrap().to_str().unwrap().parse().unwrap();
    let stats = consume(&config, &store).unwrap();
    assert_eq!((stats.lost, stats.messages), (first - 5, 400 - first));

    let mut new = config.clone();
    new.state.path = dir.path().join("other").into();
    let stats = consume(&new, &open(&new)).unwrap();
    assert_eq!((stats.lost, stats.messages), (0, 400 - first), "the oldest there is is the start");
}

/// A batch is full in bytes too, so that large messages do not add up in memory.
#[test]
fn a_batch_of_large_messages_is_written_before_it_is_full_in_number() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = log_config(dir.path());
    config.log.as_mut().unwrap().segment_bytes = 1 << 26;
    let large: Vec<Outgoing> = (0..20).map(|_| super::world::poison(&[b' '; 1 << 20])).collect();
    produce(&config, &large);
    let stats = consume(&config, &open(&config)).unwrap();
    assert_eq!((stats.messages, stats.invalid, stats.batches), (20, 20, 2));
}

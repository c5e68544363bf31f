//! The consumer over a log: every event counts once, whatever happens between start and end.

use super::world::{
    Histories, NOW_MS, clock, consume, consume_while, events, expected, fault_row, histories, interaction, log_config,
    messages, open, poison,
};
use feature_store::{StoreError, StreamEvent, UserStateStore};
use pipeline::stream::{
    Consumer, LogConfig, LogWriter, Outgoing, Start, StreamConfig, StreamError, StreamMetrics, dead_letter_sink,
    dead_letter_source, decoder, event_sink, open_source, redrive, validate,
};
use std::cell::Cell;
use std::path::Path;

fn produce(config: &StreamConfig, messages: &[Outgoing]) {
    event_sink(config, &clock()).unwrap().put(messages).unwrap();
}

#[test]
fn a_log_is_applied_once_however_often_and_in_however_many_goes() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let events = events(1000, 20);
    for part in events.chunks(137) {
        produce(&config, &messages(part));
        // Stops at a batch, in the middle of what is there.
        let store = open(&config);
        let batches = Cell::new(0);
        let stop = || batches.replace(batches.get() + 1) > 1;
        consume_while(&config, &store, true, &stop).unwrap();
    }
    let store = open(&config);
    consume(&config, &store).unwrap();
    assert_eq!(histories(&store), expected(&events, 50));
    let again = consume(&config, &store).unwrap();
    assert_eq!((again.messages, again.applied), (0, 0));
}

#[test]
fn a_batch_that_fails_is_applied_after_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let events = events(300, 20);
    produce(&config, &messages(&events[..200]));
    produce(&config, &[poison(b"x")]);
    produce(&config, &messages(&events[200..]));
    // The dead letters cannot be written: their folder is a file.
    let dlq = config.log.as_ref().unwrap().dlq();
    std::fs::write(&dlq, "in the way").unwrap();
    let store = open(&config);
    let error = consume(&config, &store).unwrap_err();
    assert!(matches!(error, StreamError::Store(StoreError::Io { .. })), "{error}");
    assert!(histories(&store).len() <= 20);
    std::fs::remove_file(&dlq).unwrap();
    let stats = consume(&config, &store).unwrap();
    assert_eq!((stats.invalid, stats.dead_letters), (1, 1));
    assert_eq!(histories(&store), expected(&events, 50));
}

#[test]
fn duplicates_of_producers_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let mut event = interaction("u", "a", 5);
    if let StreamEvent::Interaction(event) = &mut event {
        event.event_id = Some("e1".into());
    }
    produce(&config, &messages(&[event.clone(), interaction("u", "b", 6), event.clone()]));
    let store = open(&config);
    let stats = consume(&config, &store).unwrap();
    assert_eq!((stats.applied, stats.duplicates), (2, 1));
    produce(&config, &messages(&[event]));
    assert_eq!(consume(&config, &store).unwrap().duplicates, 1, "also in another run");
    assert_eq!(store.history("u").unwrap().len(), 2);
}

#[test]
fn a_poison_message_goes_aside_with_its_bytes_and_comes_back_when_it_is_valid() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = log_config(dir.path());
    let segment = br#"{"type":"track","userId":"u","messageId":"m","timestamp":5,"properties":{"product_id":"p"}}"#;
    produce(&config, &messages(&[interaction("u", "a", 1)]));
    produce(&config, &[poison(segment), poison(b"\xff\x00")]);
    produce(&config, &messages(&[interaction("u", "b", 9)]));
    let store = open(&config);
    let stats = consume(&config, &store).unwrap();
    assert_eq!((stats.applied, stats.invalid, stats.dead_letters), (2, 2, 2));

    let mut letters = dead_letter_source(&config, &store, &clock()).unwrap();
    let mut found = Vec::new();
    letters.poll(&mut found, 10, std::time::Duration::ZERO).unwrap();
    assert_eq!(found.len(), 2);
    assert_eq!((&found[1].payload[..], &found[1].key[..]), (&b"\xff\x00"[..], &b"poison"[..]));
    let header = |name: &str| {
        let value = found[1].headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        String::from_utf8(value.unwrap_or_else(|| panic!("no header {name}"))).unwrap()
    };
    assert_eq!((header("trace").as_str(), header("partition").as_str(), header("offset").as_str()), ("t1", "0", "2"));
    assert!(header("reason").contains("column") && header("source").starts_with("log:"));

    // With the right decoder one of them is valid. It goes back to the log, and is applied from there.
    let redrive_with = |config: &StreamConfig| {
        let mut letters = dead_letter_source(config, &store, &clock()).unwrap();
        let (mut back, mut again) =
            (event_sink(config, &clock()).unwrap(), dead_letter_sink(config, &clock()).unwrap());
        let done =
            redrive(&mut *letters, &mut *back, &mut *again, &*decoder(config.format), &store, &|| false).unwrap();
        (done.sent, done.refused)
    };
    assert_eq!(redrive_with(&config), (0, 2));
    config.format = pipeline::stream::Format::Segment;
    assert_eq!(redrive_with(&config), (1, 1));
    let items =
        |store: &UserStateStore| store.history("u").unwrap().into_iter().map(|entry| entry.item_id).collect::<Vec<_>>();
    assert_eq!(items(&store), ["a", "b"]);
    assert_eq!(consume(&config, &store).unwrap().applied, 1);
    assert_eq!(items(&store), ["a", "p", "b"]);
    assert_eq!(redrive_with(&config), (0, 1));
    assert_eq!(consume(&config, &store).unwrap().applied, 0);
}

#[test]
fn a_start_is_what_was_asked_for_and_stays_so() {
    let check = |start: Start, expect: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let mut config = log_config(dir.path());
        config.start = start;
        let times = [1_000, 2_000, 3_000];
        for (item, time_ms) in ["a", "b", "c"].iter().zip(times) {
            let log = config.log.as_ref().unwrap();
            let at: std::sync::Arc<dyn Fn() -> i64 + Send + Sync> = std::sync::Arc::new(move || time_ms);
            let mut writer = LogWriter::open(&log.dir, log.limits(), at).unwrap();
            pipeline::stream::Sink::put(&mut writer, &messages(&[interaction("u", item, time_ms)])).unwrap();
        }
        let store = open(&config);
        // Opened and left: the start is fixed now, not when the first event is applied.
        let now: std::sync::Arc<dyn Fn() -> i64 + Send + Sync> = std::sync::Arc::new(|| 3_500);
        drop(open_source(&config, &store, &now).unwrap());
        produce(&config, &messages(&[interaction("u", "d", 4_000)]));
        consume(&config, &store).unwrap();
        let found: Vec<String> = store.history("u").unwrap().into_iter().map(|entry| entry.item_id).collect();
        assert_eq!(found, expect, "{start:?}");
    };
    check(Start::Earliest, &["a", "b", "c", "d"]);
    check(Start::Latest, &["d"]);
    check(Start::TimestampMs(2_000), &["b", "c", "d"]);
    check(Start::TimestampMs(2_001), &["c", "d"]);
    check(Start::TimestampMs(9_000), &["d"]);
    check(Start::LastS(1), &["c", "d"]);
}

#[test]
fn a_log_that_was_begun_anew_is_another_source_and_a_shorter_one_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    produce(&config, &messages(&events(30, 3)));
    let copy = dir.path().join("copy");
    let copy_log = |from: &Path, to: &Path| {
        let _ = std::fs::remove_dir_all(to);
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
        }
    };
    let log = config.log.as_ref().unwrap().dir.clone();
    copy_log(&log, &copy);
    produce(&config, &messages(&events(30, 3)));
    let store = open(&config);
    consume(&config, &store).unwrap();
    copy_log(&copy, &log);
    let message = consume(&config, &store).unwrap_err().to_string();
    assert!(message.contains("ends at offset 30") && message.contains("60"), "{message}");
    std::fs::remove_dir_all(&log).unwrap();
    produce(&config, &messages(&[interaction("new", "a", 1)]));
    assert_eq!(consume(&config, &store).unwrap().applied, 1);
}

#[test]
fn a_dry_run_names_what_would_be_refused_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    produce(&config, &messages(&events(98, 3)));
    produce(&config, &[poison(br#"{"user_id":"u"}"#), poison(b"x")]);
    let store = open(&config);
    let mut source = open_source(&config, &store, &clock()).unwrap();
    let found = validate(&mut *source, &*decoder(config.format), &|| false).unwrap();
    assert_eq!((found.messages, found.interactions, found.other_events, found.refused), (100, 97, 1, 2));
    assert_eq!((found.shown[0].0, found.shown[0].1), (0, 98));
    assert!(found.shown[0].2.contains("timestamp_ms") || found.shown[0].2.contains("item_id"), "{:?}", found.shown);
    assert_eq!(histories(&store), Histories::new());
    assert!(!config.log.as_ref().unwrap().dlq().exists());
}

#[test]
fn a_config_that_breaks_a_rule_is_refused_by_field() {
    let dir = tempfile::tempdir().unwrap();
    let good = log_config(dir.path());
    let check = |change: &dyn Fn(&mut StreamConfig), field: &str| {
        let mut config = good.clone();
        change(&mut config);
        let message = config.validate().unwrap_err().to_string();
        assert!(message.contains(field), "{message}");
    };
    check(&|config| config.batch.max_messages = 0, "batch.max_messages: 0");
    check(&|config| config.batch.max_wait_ms = 1_000_000, "batch.max_wait_ms");
    check(&|config| config.log = None, "exactly one");
    check(&|config| config.start = Start::TimestampMs(-1), "start");
    check(&|config| config.log.as_mut().unwrap().segment_bytes = 0, "log.segment_bytes");
    check(&|config| config.log.as_mut().unwrap().segment_bytes = (1 << 30) + 1, "log.segment_bytes");
    check(&|config| config.log.as_mut().unwrap().max_segments = 1, "log.max_segments: 1 is not in 2..");
    for dir in ["..", "/", "events/..", "."] {
        check(&|config| config.log.as_mut().unwrap().dir = dir.into(), &format!("log.dir: {dir:?} ends in no name"));
    }
    for file in ["stream-log.toml", "stream-kafka.toml"] {
        let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(file)).unwrap();
        let config: StreamConfig = toml::from_str(&text).unwrap();
        config.validate().unwrap();
        if let Some(kafka) = &config.kafka {
            for own in ["enable.auto.commit", "message.timeout.ms", "request.required.acks", "metadata.broker.list"] {
                let mut kafka = kafka.clone();
                kafka.properties.insert(own.into(), "1".into());
                check(&|config| (config.kafka, config.log) = (Some(kafka.clone()), None), own);
            }
            let mut kafka = kafka.clone();
            kafka.properties.extend(["linger.ms", "message.max.bytes"].map(|name| (name.into(), "5".into())));
            StreamConfig { kafka: Some(kafka), log: None, ..good.clone() }.validate().unwrap();
        }
    }
}

#[test]
fn dead_letters_lie_beside_the_log_however_its_folder_is_written() {
    let check = |dir: &str, expect: &str| {
        let log = LogConfig { dir: dir.into(), segment_bytes: 1, max_segments: 2 };
        assert_eq!(log.dlq(), Path::new(expect), "{dir}");
    };
    check("events", "events.dlq");
    check("runs/events/", "runs/events.dlq");
    check("runs/events/.", "runs/events.dlq");
    check("../a.b", "../a.b.dlq");
}

/// Producers' clocks: an event from the far future is put aside, by when it was taken and by no clock of
/// the consumer, so that a replay a year later comes to the same; one from the past takes its place.
#[test]
fn events_from_the_future_are_put_aside_and_those_from_the_past_take_their_place() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let day_ms = feature_store::MAX_AHEAD_MS;
    let events = [
        interaction("u", "now", NOW_MS),
        interaction("u", "tomorrow", NOW_MS + day_ms),
        interaction("u", "later", NOW_MS + day_ms + 1),
        interaction("u", "year 292277026596", i64::MAX),
        interaction("u", "1970", 0),
    ];
    produce(&config, &messages(&events));
    let items = |store: &UserStateStore| {
        store.history("u").unwrap().into_iter().map(|entry| entry.item_id).collect::<Vec<String>>()
    };
    let store = open(&config);
    let stats = consume(&config, &store).unwrap();
    assert_eq!((stats.applied, stats.invalid, stats.dead_letters), (3, 2, 2));
    assert_eq!(items(&store), ["1970", "now", "tomorrow"]);
    let mut letters = dead_letter_source(&config, &store, &clock()).unwrap();
    let mut found = Vec::new();
    letters.poll(&mut found, 10, std::time::Duration::ZERO).unwrap();
    let reason = found[0].headers.iter().find(|(name, _)| name == "reason").unwrap().1.clone();
    let reason = String::from_utf8(reason).unwrap();
    assert!(reason.contains("timestamp_ms") && reason.contains("86400 s") && reason.contains("clock"), "{reason}");
    let mut source = open_source(&config, &store, &clock()).unwrap();
    let found = validate(&mut *source, &*decoder(config.format), &|| false).unwrap();
    assert_eq!(found.messages, 0, "all of it was applied");
}

/// The consumer's own clock dates numbers only: jumps of it change no state.
#[test]
fn a_consumer_whose_clock_jumps_comes_to_the_same_state() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let all = events(600, 20);
    produce(&config, &messages(&all));
    let store = open(&config);
    let jumps = std::sync::atomic::AtomicI64::new(0);
    let jumping = || match jumps.fetch_add(1, std::sync::atomic::Ordering::Relaxed) % 3 {
        0 => i64::MAX,
        1 => 0,
        _ => NOW_MS - 3_600_000,
    };
    let metrics = StreamMetrics::default();
    let mut source = open_source(&config, &store, &clock()).unwrap();
    let mut letters = dead_letter_sink(&config, &clock()).unwrap();
    let decoder = decoder(config.format);
    let consumer =
        Consumer { decoder: &*decoder, store: &store, batch: config.batch, metrics: &metrics, clock_ms: &jumping };
    consumer.run(&mut *source, &mut *letters, true, &|| false).unwrap();
    assert_eq!(histories(&store), expected(&all, 50));
    assert!(metrics.stats().checkpoint_age_ms(0) >= 0);
    fault_row("clock of the consumer jumps", jumps.into_inner(), 600);
}

/// A log whose writer's clock went back still starts where it was told to, seen from its first message on.
#[test]
fn a_writer_whose_clock_goes_back_loses_no_message() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = log_config(dir.path());
    let log = config.log.clone().unwrap();
    for (item, time_ms) in [("a", 5_000_i64), ("b", 9_000), ("c", 2_000), ("d", 9_500)] {
        let at: std::sync::Arc<dyn Fn() -> i64 + Send + Sync> = std::sync::Arc::new(move || time_ms);
        let mut writer = LogWriter::open(&log.dir, log.limits(), at).unwrap();
        pipeline::stream::Sink::put(&mut writer, &messages(&[interaction("u", item, time_ms)])).unwrap();
    }
    config.start = Start::TimestampMs(8_000);
    let store = open(&config);
    consume(&config, &store).unwrap();
    let found: Vec<String> = store.history("u").unwrap().into_iter().map(|entry| entry.item_id).collect();
    // From the first message taken at or after the time; what follows it in the log is not asked again.
    assert_eq!(found, ["c", "b", "d"]);
}

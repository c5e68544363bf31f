//! The consumer over a real broker: the same promises, and those about groups and offsets.

use super::broker::topic_config;
use super::world::{
    Histories, clock, consume, consume_while, events, expected, fault_row, histories, interaction, messages, open,
    poison,
};
use feature_store::{SourceRecord, StateLocation, StreamEvent, UserStateStore};
use pipeline::stream::{
    Outgoing, Start, StreamConfig, dead_letter_sink, dead_letter_source, decoder, event_sink, has_dead_letters,
    open_source, redrive, validate,
};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Longest time for anything here.
const LIMIT: Duration = Duration::from_secs(90);

fn produce(config: &StreamConfig, messages: &[Outgoing]) {
    event_sink(config, &clock()).unwrap().put(messages).unwrap();
}

/// A topic of which nobody has heard is made by its first messages.
fn fresh(config: &StreamConfig, name: &str) -> UserStateStore {
    let StateLocation::Folder(path) = &config.state.path else { panic!("tests keep state in a folder") };
    UserStateStore::open(&path.with_file_name(name), config.state.max_history).unwrap()
}

#[test]
fn events_arrive_once_and_a_replay_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut config) = topic_config(dir.path()) else { return };
    let events = events(3000, 40);
    produce(&config, &messages(&events[..2000]));
    let store = open(&config);
    assert_eq!(consume(&config, &store).unwrap().messages, 2000);
    produce(&config, &messages(&events[2000..]));
    assert_eq!(consume(&config, &store).unwrap().messages, 1000, "goes on where it was");
    let state = histories(&store);
    assert_eq!(state, expected(&events, 50));

    // The broker forgets the group: another one starts where the state is, not at the beginning.
    config.kafka.as_mut().unwrap().group.push_str("-2");
    assert_eq!(consume(&config, &store).unwrap().messages, 0);
    // A fresh store is a fresh replay, and comes to the same.
    config.kafka.as_mut().unwrap().group.push_str("-3");
    let replay = fresh(&config, "replay");
    assert_eq!(consume(&config, &replay).unwrap().messages, 3000);
    assert_eq!(histories(&replay), state);
}

#[test]
fn poison_goes_to_the_dead_letters_and_back() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut config) = topic_config(dir.path()) else { return };
    let segment = br#"{"type":"track","userId":"u","timestamp":5,"properties":{"product_id":"p"}}"#;
    produce(&config, &messages(&[interaction("u", "a", 1)]));
    assert!(!has_dead_letters(&config).unwrap(), "nothing was put aside yet");
    produce(&config, &[poison(segment), poison(b"\xff\x00")]);
    produce(&config, &messages(&[interaction("u", "b", 9)]));
    let store = open(&config);
    let mut source = open_source(&config, &store, &clock()).unwrap();
    let found = validate(&mut *source, &*decoder(config.format), &|| false).unwrap();
    drop(source);
    assert_eq!((found.messages, found.interactions, found.refused), (4, 2, 2));
    let stats = consume(&config, &store).unwrap();
    assert_eq!((stats.applied, stats.invalid, stats.dead_letters), (2, 2, 2));

    let mut letters = dead_letter_source(&config, &fresh(&config, "look"), &clock()).unwrap();
    let (mut found, started) = (Vec::new(), Instant::now());
    while found.len() < 2 && started.elapsed() < LIMIT {
        letters.poll(&mut found, 10, Duration::from_millis(200)).unwrap();
    }
    drop(letters);
    let letter = found.iter().find(|letter| letter.payload == b"\xff\x00").expect("the original bytes");
    let header = |name: &str| {
        let value = letter.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
        String::from_utf8(value.unwrap_or_else(|| panic!("no header {name}"))).unwrap()
    };
    assert_eq!((header("trace"), header("source")), ("t1".to_owned(), config.kafka.as_ref().unwrap().source.clone()));
    assert!(header("reason").contains("column") && header("offset").parse::<u64>().is_ok());

    config.format = pipeline::stream::Format::Segment;
    let mut letters = dead_letter_source(&config, &store, &clock()).unwrap();
    let (mut back, mut again) = (event_sink(&config, &clock()).unwrap(), dead_letter_sink(&config, &clock()).unwrap());
    let done = redrive(&mut *letters, &mut *back, &mut *again, &*decoder(config.format), &store, &|| false).unwrap();
    assert_eq!((done.sent, done.refused), (1, 1));
    assert_eq!(consume(&config, &store).unwrap().applied, 1);
    let items: Vec<String> = store.history("u").unwrap().into_iter().map(|entry| entry.item_id).collect();
    assert_eq!(items, ["a", "p", "b"]);
}

#[test]
fn a_start_is_what_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut config) = topic_config(dir.path()) else { return };
    produce(&config, &messages(&[interaction("u", "old", 1)]));
    std::thread::sleep(Duration::from_millis(50));
    let between = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    produce(&config, &messages(&[interaction("u", "new", 2)]));
    let mut check = |start: Start, name: &str, expect: &[&str]| {
        config.start = start;
        config.kafka.as_mut().unwrap().group.push_str(name);
        let store = fresh(&config, name);
        consume(&config, &store).unwrap();
        let items: Vec<String> = store.history("u").unwrap().into_iter().map(|entry| entry.item_id).collect();
        assert_eq!(items, expect, "{start:?}");
        store
    };
    check(Start::Earliest, "earliest", &["old", "new"]);
    check(Start::TimestampMs(between), "timestamp", &["new"]);
    // The start is remembered, though nothing was applied.
    let latest = check(Start::Latest, "latest", &[]);
    produce(&config, &messages(&[interaction("u", "newer", 3)]));
    consume(&config, &latest).unwrap();
    assert_eq!(latest.history("u").unwrap()[0].item_id, "newer");
}

/// Two of three partitions are empty when the source begins: what comes to them before anything was applied counts.
#[test]
fn a_start_on_empty_partitions_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut config) = topic_config(dir.path()) else { return };
    config.start = Start::Latest;
    produce(&config, &messages(&[interaction("u", "old", 1)]));
    let store = open(&config);
    assert_eq!(consume(&config, &store).unwrap().messages, 0);
    let events: Vec<StreamEvent> = (0..30).map(|n| interaction(&format!("u{n}"), "new", n + 1)).collect();
    produce(&config, &messages(&events));
    assert_eq!(consume(&config, &store).unwrap().messages, 30);
}

/// A message as large as its topic takes it is larger as a letter. The library's own limit does not stop it, and
/// what the broker refuses for its size is cut; small letters that travelled with it are whole.
#[test]
fn a_letter_that_is_too_large_is_cut_and_holds_up_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut config) = topic_config(dir.path()) else { return };
    let kafka = config.kafka.as_mut().unwrap();
    kafka.properties.insert("message.max.bytes".to_owned(), "2000000".to_owned());
    let sizes = [1_048_400, 999_880, 5];
    for size in sizes {
        produce(&config, &[poison(&vec![b'x'; size])]);
    }
    let store = open(&config);
    assert_eq!(consume(&config, &store).unwrap().dead_letters, 3);
    let mut letters = dead_letter_source(&config, &fresh(&config, "look"), &clock()).unwrap();
    let (mut found, started) = (Vec::new(), Instant::now());
    while found.len() < 3 && started.elapsed() < LIMIT {
        letters.poll(&mut found, 10, Duration::from_millis(200)).unwrap();
    }
    let mut kept: Vec<(usize, bool)> = found
        .iter()
        .map(|letter| (letter.payload.len(), letter.headers.iter().any(|(name, _)| name == "payload_cut")))
        .collect();
    kept.sort_unstable();
    assert_eq!(kept, [(5, false), (524_200, true), (999_880, false)]);
}

#[test]
fn consumers_come_and_go_and_every_event_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let Some(config) = topic_config(dir.path()) else { return };
    let events = events(12_000, 200);
    produce(&config, &messages(&events[..1000]));
    let store = open(&config);
    let (leave, rebalances) = ([const { AtomicBool::new(false) }; 3], AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let run = |which: usize| {
            let (config, store, leave, rebalances) = (&config, &store, &leave, &rebalances);
            scope.spawn(move || {
                let stop = || leave[which].load(Ordering::Relaxed);
                let stats = consume_while(config, store, false, &stop).unwrap();
                rebalances.fetch_add(stats.rebalances as usize, Ordering::Relaxed);
            })
        };
        run(0);
        for (step, part) in events[1000..].chunks(2200).enumerate() {
            produce(&config, &messages(part));
            match step {
                0 => drop(run(1)),
                1 => drop(run(2)),
                // The first owner leaves while messages are on their way.
                2 => leave[0].store(true, Ordering::Relaxed),
                _ => (),
            }
            std::thread::sleep(Duration::from_millis(700));
        }
        wait_until(&store, &expected(&events, 50));
        leave.iter().for_each(|leave| leave.store(true, Ordering::Relaxed));
    });
    assert_eq!(histories(&store), expected(&events, 50));
    let rebalances = rebalances.into_inner();
    assert!(rebalances >= 4, "the partitions changed hands");
    fault_row("three consumers that come and go (rebalances)", rebalances, 12_000);
}

/// Waits for the last state; a wrong one is told by the assertion that follows.
fn wait_until(store: &UserStateStore, state: &Histories) {
    let started = Instant::now();
    while histories(store) != *state && started.elapsed() < LIMIT {
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_consumer_that_was_taken_for_dead_writes_nothing_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let Some(config) = topic_config(dir.path()) else { return };
    let events = events(500, 10);
    produce(&config, &messages(&events));
    let store = open(&config);
    // It holds messages in hand and stops answering; another one takes over and applies everything.
    let mut zombie = open_source(&config, &store, &clock()).unwrap();
    let (mut in_hand, started) = (Vec::new(), Instant::now());
    while in_hand.len() < 100 && started.elapsed() < LIMIT {
        zombie.poll(&mut in_hand, 100, Duration::from_millis(200)).unwrap();
    }
    let mut other = config.clone();
    other.kafka.as_mut().unwrap().group.push_str("-other");
    consume(&other, &store).unwrap();
    let state = histories(&store);
    assert_eq!(state, expected(&events, 50));
    let decoder = decoder(config.format);
    let late: Vec<SourceRecord> = in_hand
        .iter()
        .map(|message| SourceRecord {
            partition: message.partition,
            offset: message.offset,
            events: decoder.decode(&message.payload).unwrap(),
        })
        .collect();
    let outcome = store.apply(zombie.name(), &late).unwrap();
    assert_eq!((outcome.replayed, outcome.applied), (late.len(), 0));
    assert_eq!(histories(&store), state);
    fault_row("consumer taken for dead writes late", 1, 500);
}

#[test]
fn a_topic_that_was_made_anew_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some(config) = topic_config(dir.path()) else { return };
    produce(&config, &messages(&[interaction("u", "a", 1)]));
    let store = open(&config);
    let source = &config.kafka.as_ref().unwrap().source;
    let ahead: Vec<SourceRecord> = (0..3)
        .map(|partition| SourceRecord { partition, offset: 1_000_000, events: Vec::<StreamEvent>::new() })
        .collect();
    store.apply(source, &ahead).unwrap();
    let message = consume(&config, &store).unwrap_err().to_string();
    assert!(message.contains("made anew") && message.contains("kafka.source"), "{message}");
}

/// A user's events must meet in one partition whoever sends them, so keys are placed as Java's producers
/// place them: (murmur2(key) & 0x7fffffff) % partitions. The hashes are those of Kafka's own tests.
#[test]
fn keys_go_where_javas_producers_send_them() {
    let dir = tempfile::tempdir().unwrap();
    let Some(config) = topic_config(dir.path()) else { return };
    let hashes = [
        ("21", -973_932_308_i32),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
        ("abc", 479_470_107),
    ];
    let messages: Vec<Outgoing> = hashes
        .iter()
        .map(|(key, _)| Outgoing { key: key.as_bytes().to_vec(), payload: vec![], headers: vec![] })
        .collect();
    let places = event_sink(&config, &clock()).unwrap().put(&messages).unwrap();
    let partitions: Vec<u32> = places.iter().map(|place| place.partition).collect();
    // deploy/kafka-local.sh makes topics of three partitions.
    let expect: Vec<u32> = hashes.iter().map(|(_, hash)| (hash & 0x7fff_ffff) as u32 % 3).collect();
    assert_eq!(partitions, expect);
    assert!(places.iter().all(|place| place.offset.is_some()), "{places:?}");
}

#[test]
fn the_lag_of_each_partition_is_what_is_left_to_read() {
    let dir = tempfile::tempdir().unwrap();
    let Some(config) = topic_config(dir.path()) else { return };
    produce(&config, &messages(&events(600, 40)));
    let store = open(&config);
    let mut source = open_source(&config, &store, &clock()).unwrap();
    let (mut read, started) = (Vec::new(), Instant::now());
    while read.len() < 100 && started.elapsed() < LIMIT {
        let most = 100 - read.len();
        source.poll(&mut read, most, Duration::from_millis(200)).unwrap();
    }
    assert_eq!(source.lag().len(), 3, "one number a partition: {:?}", source.lag());
    assert_eq!(source.lag().values().sum::<u64>(), 500);
    while read.len() < 600 && started.elapsed() < LIMIT {
        source.poll(&mut read, 600, Duration::from_millis(200)).unwrap();
    }
    assert_eq!(source.lag().values().sum::<u64>(), 0);
    // What comes while nobody polls for messages is counted by the next numbers.
    produce(&config, &messages(&events(50, 40)));
    while (read.len() < 650 || !source.connected()) && started.elapsed() < LIMIT {
        source.poll(&mut read, 1, Duration::from_millis(500)).unwrap();
    }
    assert!(source.connected() && read.len() == 650, "{} read, connected: {}", read.len(), source.connected());
}

/// Removes all messages of a partition before an offset, as retention does.
fn remove_before(config: &StreamConfig, partition: u32, offset: u64) {
    let kafka = config.kafka.as_ref().unwrap();
    let admin: AdminClient<DefaultClientContext> =
        ClientConfig::new().set("bootstrap.servers", &kafka.brokers).create().unwrap();
    let mut before = TopicPartitionList::new();
    before.add_partition_offset(&kafka.topic, partition as i32, Offset::Offset(offset as i64)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let done = runtime.block_on(admin.delete_records(&before, &AdminOptions::new())).unwrap();
    done.elements().iter().for_each(|element| element.error().unwrap());
}

/// A consumer that is behind, and whose next messages are removed while it runs: it goes on with the oldest there is,
/// and counts what it never saw.
#[test]
fn a_running_consumer_that_retention_overtakes_goes_on_and_counts_the_gap() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mut config) = topic_config(dir.path()) else { return };
    let kafka = config.kafka.as_mut().unwrap();
    // Little is fetched ahead, so that there is something to overtake.
    kafka.queue_kib = 1;
    kafka.properties.insert("fetch.message.max.bytes".to_owned(), "1024".to_owned());
    let mut sink = event_sink(&config, &clock()).unwrap();
    let mut places = Vec::new();
    for n in 0..100 {
        // One key, so one partition; each message is a write of its own.
        let event = interaction("u", &format!("{n}-{}", "x".repeat(200)), n);
        places.extend(sink.put(&messages(&[event])).unwrap());
    }
    let (partition, last) = (places[0].partition, places[99].offset.unwrap());
    let store = open(&config);
    let mut source = open_source(&config, &store, &clock()).unwrap();
    let (mut read, started) = (Vec::new(), Instant::now());
    while read.is_empty() && started.elapsed() < LIMIT {
        source.poll(&mut read, 1, Duration::from_millis(200)).unwrap();
    }
    let first = read[0].offset;
    let applied = SourceRecord { partition, offset: first, events: Vec::new() };
    store.apply(source.name(), &[applied]).unwrap();
    remove_before(&config, partition, last - 4);
    let (mut reached, mut batch) = (first, Vec::new());
    while reached < last && started.elapsed() < LIMIT {
        source.poll(&mut batch, 1, Duration::from_millis(200)).unwrap();
        if let Some(message) = batch.pop() {
            assert!(message.offset > reached, "{} after {reached}", message.offset);
            reached = message.offset;
        }
        batch.clear();
    }
    assert_eq!(reached, last);
    // Counted from what is applied: what was in hand then was not.
    assert_eq!(source.lost(), last - 4 - (first + 1));
}

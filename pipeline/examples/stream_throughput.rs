//! How fast a stream is applied: events of random users among 100,000 through a real broker into the
//! user state, every batch durable, beside what a bare consumer of the same topic reads; and how long
//! an event takes from its producer until the state shows it, at a steady rate.
//!
//! `RECOMMENDER_KAFKA=$(deploy/kafka-local.sh start) cargo run --release --package pipeline \
//!  --example stream_throughput -- 1000000 15` sends a million events, then 5,000 a second for 15 s. A third
//! argument places the state, such as `redis://127.0.0.1:6379?name=bench`; a new folder if absent.

use feature_store::{Event, StreamEvent, UserStateStore};
use pipeline::stream::{
    BatchConfig, Consumer, Format, KafkaConfig, Message, ProduceConfig, Source, Start, StateConfig, StreamConfig,
    StreamMetrics, dead_letter_sink, decoder, event_sink, open_source, outgoing,
};
use rand::{Rng as _, SeedableRng as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const USERS: u32 = 100_000;
const RATE_PER_S: u64 = 5_000;

fn main() {
    let mut args = std::env::args().skip(1).map_while(|arg| arg.parse::<u64>().ok());
    let (events, seconds) = (args.next().unwrap_or(1_000_000), args.next().unwrap_or(15));
    let Ok(brokers) = std::env::var("RECOMMENDER_KAFKA") else {
        say("RECOMMENDER_KAFKA names no broker; deploy/kafka-local.sh start prints one");
        std::process::exit(2);
    };
    let dir = tempfile::tempdir_in(".").expect("the working folder is writable");
    let mut config = config(brokers, dir.path());
    if let Some(place) = std::env::args().nth(3) {
        config.state.path = place.parse().expect("a folder or a URL of a server");
    }
    say(&format!("sending {events} events"));
    let started = Instant::now();
    fill(&config, events);
    say(&format!("producer, acks=all: {:.0} events/s", rate(events, started)));
    say(&format!("bare consumer: {:.0} events/s", bare(&config, dir.path(), events)));
    let store = UserStateStore::open_at(&config.state.path, config.state.max_history).expect("a new store");
    let (applied, batches) = apply(&config, &store);
    say(&format!("applied, durable: {applied:.0} events/s in {batches} batches"));
    let mut waits_ms = latency(&config, &store, seconds);
    waits_ms.sort_by(f64::total_cmp);
    let at = |share: f64| waits_ms[((waits_ms.len() - 1) as f64 * share) as usize];
    let (count, median, p99, most) = (waits_ms.len(), at(0.5), at(0.99), at(1.0));
    say(&format!(
        "event to state at {RATE_PER_S}/s: p50 {median:.1} ms, p99 {p99:.1} ms, most {most:.1} ms of {count}"
    ));
}

#[expect(clippy::print_stdout, reason = "the numbers are what the program is for")]
fn say(line: &str) {
    println!("{line}");
}

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as i64)
}

fn config(brokers: String, dir: &Path) -> StreamConfig {
    let topic = format!("throughput-{}", now_ms());
    StreamConfig {
        format: Format::Native,
        start: Start::Earliest,
        batch: BatchConfig { max_messages: 16_384, max_wait_ms: 50 },
        state: StateConfig { path: dir.join("state").into(), max_history: 200 },
        produce: ProduceConfig { acknowledge_ms: 5_000, applied_wait_ms: 1_000, max_in_flight: 10_000 },
        metrics_bind: None,
        kafka: Some(KafkaConfig {
            brokers,
            group: topic.clone(),
            source: format!("kafka:{topic}"),
            topic,
            queue_kib: 65_536,
            session_timeout_ms: 10_000,
            security: None,
            properties: Default::default(),
        }),
        log: None,
    }
}

fn event(random: &mut rand::rngs::StdRng) -> StreamEvent {
    StreamEvent::Interaction(Event {
        user_id: format!("user-{:06}", random.random_range(0..USERS)),
        item_id: random.random_range(0..50_000_u32).to_string(),
        timestamp_ms: now_ms(),
        event_id: Some(format!("{:032x}", random.random::<u128>())),
    })
}

fn fill(config: &StreamConfig, events: u64) {
    let mut sink = event_sink(config, &clock()).expect("a producer");
    let mut random = rand::rngs::StdRng::seed_from_u64(7);
    let mut left = events;
    while left > 0 {
        let part = left.min(20_000);
        let messages: Vec<_> = (0..part).map(|_| outgoing(&event(&mut random))).collect();
        sink.put(&messages).expect("a broker that acknowledges");
        left -= part;
    }
}

fn clock() -> Arc<dyn Fn() -> i64 + Send + Sync> {
    Arc::new(now_ms)
}

fn rate(events: u64, started: Instant) -> f64 {
    events as f64 / started.elapsed().as_secs_f64()
}

/// Reads everything and drops it. The clock starts with the first message, as it does for `apply`.
fn bare(config: &StreamConfig, dir: &Path, events: u64) -> f64 {
    let mut config = config.clone();
    if let Some(kafka) = &mut config.kafka {
        kafka.group.push_str("-bare");
    }
    let store = UserStateStore::open(&dir.join("bare"), 1).expect("a new store");
    let mut source = open_source(&config, &store, &clock()).expect("a consumer");
    let (mut batch, mut read): (Vec<Message>, u64) = (Vec::new(), 0);
    let mut started = Instant::now();
    while read < events {
        source.poll(&mut batch, 16_384, Duration::from_millis(100)).expect("a broker that answers");
        if read == 0 {
            started = Instant::now();
        }
        read += batch.len() as u64;
        batch.clear();
    }
    rate(events, started)
}

/// Applies everything there is; events a second from the first batch on.
fn apply(config: &StreamConfig, store: &UserStateStore) -> (f64, u64) {
    let metrics = StreamMetrics::default();
    let started = std::cell::Cell::new(None);
    let stop = || {
        if started.get().is_none() && metrics.stats().batches > 0 {
            started.set(Some((Instant::now(), metrics.stats().messages)));
        }
        false
    };
    run(config, store, &metrics, true, &stop);
    let stats = metrics.stats();
    let (at, before) = started.get().expect("more than one batch");
    (rate(stats.messages - before, at), stats.batches)
}

fn run(
    config: &StreamConfig,
    store: &UserStateStore,
    metrics: &StreamMetrics,
    until_end: bool,
    stop: &dyn Fn() -> bool,
) {
    let clock = clock();
    let mut source: Box<dyn Source> = open_source(config, store, &clock).expect("a consumer");
    let mut letters = dead_letter_sink(config, &clock).expect("a producer");
    let consumer =
        Consumer { decoder: &*decoder(config.format), store, batch: config.batch, metrics, clock_ms: &*clock };
    consumer.run(&mut *source, &mut *letters, until_end, stop).expect("a broker that answers");
}

/// At a steady rate, how long until the state shows an event: one in flight at a time is timed.
fn latency(config: &StreamConfig, store: &UserStateStore, seconds: u64) -> Vec<f64> {
    let (done, metrics) = (AtomicBool::new(false), StreamMetrics::default());
    std::thread::scope(|scope| {
        scope.spawn(|| run(config, store, &metrics, false, &|| done.load(Ordering::Relaxed)));
        scope.spawn(|| steady(config, &done));
        let mut sink = event_sink(config, &clock()).expect("a producer");
        // Joining the group takes a moment.
        std::thread::sleep(Duration::from_secs(3));
        let (mut waits_ms, until) = (Vec::new(), Instant::now() + Duration::from_secs(seconds));
        for probe in 0.. {
            if Instant::now() >= until {
                break;
            }
            let user = format!("probe-{probe}");
            let event = Event { user_id: user.clone(), item_id: "1".into(), timestamp_ms: now_ms(), event_id: None };
            let sent = Instant::now();
            sink.put(&[outgoing(&StreamEvent::Interaction(event))]).expect("a broker that acknowledges");
            while store.history(&user).expect("a sound store").is_empty() {
                std::thread::sleep(Duration::from_micros(500));
            }
            waits_ms.push(sent.elapsed().as_secs_f64() * 1e3);
            std::thread::sleep(Duration::from_millis(7));
        }
        done.store(true, Ordering::Relaxed);
        waits_ms
    })
}

/// Sends [`RATE_PER_S`] events a second, in a hundred parts.
fn steady(config: &StreamConfig, done: &AtomicBool) {
    let mut sink = event_sink(config, &clock()).expect("a producer");
    let mut random = rand::rngs::StdRng::seed_from_u64(8);
    let mut next = Instant::now();
    while !done.load(Ordering::Relaxed) {
        let messages: Vec<_> = (0..RATE_PER_S / 100).map(|_| outgoing(&event(&mut random))).collect();
        sink.put(&messages).expect("a broker that acknowledges");
        next += Duration::from_millis(10);
        std::thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}

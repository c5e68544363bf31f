//! The producer of requests: one write for many, in order, bounded, and no answer before it is durable.

use super::world::{clock, interaction, log_config, messages};
use pipeline::stream::{
    LogReader, Outgoing, Place, ProduceError, Producer, Sink, StreamConfig, StreamError, event_sink,
};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Longest wait for anything here.
const LIMIT: Duration = Duration::from_secs(60);

/// What a test knows of its sink, and tells it.
#[derive(Default)]
struct Gate {
    /// Writes begun.
    begun: AtomicUsize,
    /// Writes that may go on.
    open: AtomicUsize,
    fail: AtomicBool,
    writes: Mutex<Vec<usize>>,
}

/// A sink whose writes wait at a gate.
struct Gated {
    gate: Arc<Gate>,
    next: u64,
}

impl Sink for Gated {
    fn put(&mut self, messages: &[Outgoing]) -> Result<Vec<Place>, StreamError> {
        let number = self.gate.begun.fetch_add(1, Ordering::SeqCst);
        let begun = Instant::now();
        while self.gate.open.load(Ordering::SeqCst) <= number {
            assert!(begun.elapsed() < LIMIT, "nobody opened the gate");
            std::thread::sleep(Duration::from_millis(1));
        }
        if self.gate.fail.load(Ordering::SeqCst) {
            return Err(StreamError::Config { field: "test", reason: "told to fail".into() });
        }
        self.gate.writes.lock().unwrap().push(messages.len());
        let from = self.next;
        self.next += messages.len() as u64;
        Ok((from..self.next).map(|offset| Place { partition: 0, offset: Some(offset) }).collect())
    }
}

fn gated(config: &StreamConfig) -> (Arc<Producer>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let sink = Gated { gate: Arc::clone(&gate), next: 0 };
    (Arc::new(Producer::over(Box::new(sink), config).unwrap()), gate)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LIMIT, "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn one(n: usize) -> Vec<Outgoing> {
    messages(&[interaction("u", &format!("i{n}"), n as i64)])
}

#[test]
fn requests_of_one_moment_share_a_write_and_each_gets_its_own_places() {
    let dir = tempfile::tempdir().unwrap();
    let (producer, gate) = gated(&log_config(dir.path()));
    runtime().block_on(async {
        let put = |count: usize| {
            let (producer, messages) = (Arc::clone(&producer), (0..count).flat_map(one).collect());
            tokio::spawn(async move { producer.put(messages).await })
        };
        let first = put(1);
        until("the first write", || gate.begun.load(Ordering::SeqCst) == 1).await;
        // The first write holds the sink; the others gather behind it.
        let mut others = Vec::new();
        for (count, on_their_way) in [(2, 3), (3, 6), (1, 7)] {
            others.push(put(count));
            until("a request", || producer.in_flight() == on_their_way).await;
            // From the room to the queue is a step more.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert!(!first.is_finished(), "no answer before it is durable");
        gate.open.store(9, Ordering::SeqCst);
        let offsets = |places: Vec<Place>| places.iter().map(|place| place.offset.unwrap()).collect::<Vec<_>>();
        assert_eq!(offsets(first.await.unwrap().unwrap()), [0]);
        let mut found = Vec::new();
        for other in others {
            found.push(offsets(other.await.unwrap().unwrap()));
        }
        assert_eq!(found, [vec![1, 2], vec![3, 4, 5], vec![6]]);
    });
    assert_eq!(*gate.writes.lock().unwrap(), [1, 6]);
}

#[test]
fn what_is_on_its_way_is_bounded_and_room_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = log_config(dir.path());
    config.produce.max_in_flight = 3;
    let (producer, gate) = gated(&config);
    gate.fail.store(true, Ordering::SeqCst);
    runtime().block_on(async {
        let waiting = {
            let producer = Arc::clone(&producer);
            tokio::spawn(async move { producer.put((0..3).flat_map(one).collect()).await })
        };
        until("the first write", || gate.begun.load(Ordering::SeqCst) == 1).await;
        let full = producer.put(one(9)).await.unwrap_err();
        assert_eq!(full, ProduceError::Full { limit: 3 });
        assert!(full.to_string().contains("produce.max_in_flight"), "{full}");
        gate.open.store(9, Ordering::SeqCst);
        let failed = waiting.await.unwrap().unwrap_err();
        let told = matches!(&failed, ProduceError::Unacknowledged { reason } if reason.contains("told to fail"));
        assert!(told, "{failed}");
        gate.fail.store(false, Ordering::SeqCst);
        assert_eq!(producer.put(one(1)).await.unwrap().len(), 1, "a failure does not end the producer");
    });
    assert_eq!(producer.in_flight(), 0);
}

#[test]
fn a_turn_that_comes_too_late_is_refused_unsent() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = log_config(dir.path());
    config.produce.acknowledge_ms = 1_000;
    let (producer, gate) = gated(&config);
    runtime().block_on(async {
        let put = |n| {
            let producer = Arc::clone(&producer);
            tokio::spawn(async move { producer.put(one(n)).await })
        };
        let first = put(1);
        until("the first write", || gate.begun.load(Ordering::SeqCst) == 1).await;
        let late = put(2);
        until("the second request", || producer.in_flight() == 2).await;
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        gate.open.store(9, Ordering::SeqCst);
        assert!(first.await.unwrap().is_ok());
        assert!(matches!(late.await.unwrap(), Err(ProduceError::Late { waited_ms: 1_000.. })));
    });
    assert_eq!(*gate.writes.lock().unwrap(), [1]);
}

#[test]
fn over_a_log_every_acknowledged_event_is_there_in_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let config = log_config(dir.path());
    let producer = Arc::new(Producer::start(&config, &clock()).unwrap());
    let second = event_sink(&config, &clock()).err().expect("one writer at a time").to_string();
    assert!(second.contains("another process"), "{second}");
    let places: Vec<(usize, Place)> = runtime().block_on(async {
        let puts = (0..200).map(|n| {
            let producer = Arc::clone(&producer);
            tokio::spawn(async move { (n, producer.put(one(n)).await.unwrap()[0]) })
        });
        let puts: Vec<_> = puts.collect();
        let mut places = Vec::new();
        for put in puts {
            places.push(put.await.unwrap());
        }
        places
    });
    drop(producer);
    let mut reader = LogReader::open(&config.log.as_ref().unwrap().dir, 0).unwrap();
    let mut there = Vec::new();
    while let Some(message) = reader.next_message().unwrap() {
        there.push(message.payload);
    }
    assert_eq!(there.len(), 200);
    for (n, place) in places {
        assert_eq!(there[place.offset.unwrap() as usize], one(n)[0].payload);
    }
    event_sink(&config, &clock()).expect("the lock is given back");
}

//! The producer of requests: one write for many, in order, bounded, and no answer before it is durable.

use super::world::{clock, interaction, log_config, messages};
use pipeline::stream::{
    LogReader, Outgoing, Place, ProduceError, Producer, Sink, StreamConfig, StreamError, event_sink,
};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A sink that waits for a word before each write, and fails if the word says so.
struct Gated {
    words: mpsc::Receiver<bool>,
    writes: Arc<Mutex<Vec<usize>>>,
    next: u64,
}

impl Sink for Gated {
    fn put(&mut self, messages: &[Outgoing]) -> Result<Vec<Place>, StreamError> {
        if !self.words.recv().unwrap() {
            return Err(StreamError::Config { field: "test", reason: "told to fail".into() });
        }
        self.writes.lock().unwrap().push(messages.len());
        let from = self.next;
        self.next += messages.len() as u64;
        Ok((from..self.next).map(|offset| Place { partition: 0, offset: Some(offset) }).collect())
    }
}

fn gated(config: &StreamConfig) -> (Arc<Producer>, mpsc::Sender<bool>, Arc<Mutex<Vec<usize>>>) {
    let (word, words) = mpsc::channel();
    let writes = Arc::new(Mutex::new(Vec::new()));
    let sink = Gated { words, writes: Arc::clone(&writes), next: 0 };
    (Arc::new(Producer::over(Box::new(sink), config).unwrap()), word, writes)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap()
}

fn one(n: usize) -> Vec<Outgoing> {
    messages(&[interaction("u", &format!("i{n}"), n as i64)])
}

#[test]
fn requests_of_one_moment_share_a_write_and_each_gets_its_own_places() {
    let dir = tempfile::tempdir().unwrap();
    let (producer, word, writes) = gated(&log_config(dir.path()));
    runtime().block_on(async {
        let put = |count: usize| {
            let (producer, messages) = (Arc::clone(&producer), (0..count).flat_map(one).collect());
            tokio::spawn(async move { producer.put(messages).await })
        };
        let first = put(1);
        // The first write holds the sink; the others gather behind it.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let mut others = Vec::new();
        for count in [2, 3, 1] {
            others.push(put(count));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(!first.is_finished(), "no answer before it is durable");
        word.send(true).unwrap();
        word.send(true).unwrap();
        let offsets = |places: Vec<Place>| places.iter().map(|place| place.offset.unwrap()).collect::<Vec<_>>();
        assert_eq!(offsets(first.await.unwrap().unwrap()), [0]);
        let mut found = Vec::new();
        for other in others {
            found.push(offsets(other.await.unwrap().unwrap()));
        }
        assert_eq!(found, [vec![1, 2], vec![3, 4, 5], vec![6]]);
    });
    assert_eq!(*writes.lock().unwrap(), [1, 6]);
}

#[test]
fn what_is_on_its_way_is_bounded_and_room_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = log_config(dir.path());
    config.produce.max_in_flight = 3;
    let (producer, word, _) = gated(&config);
    runtime().block_on(async {
        let waiting = {
            let producer = Arc::clone(&producer);
            tokio::spawn(async move { producer.put((0..3).flat_map(one).collect()).await })
        };
        tokio::time::sleep(Duration::from_millis(50)).await;
        let full = producer.put(one(9)).await.unwrap_err();
        assert_eq!(full, ProduceError::Full { limit: 3 });
        assert!(full.to_string().contains("produce.max_in_flight"), "{full}");
        word.send(false).unwrap();
        let failed = waiting.await.unwrap().unwrap_err();
        assert!(
            matches!(&failed, ProduceError::Unacknowledged { reason } if reason.contains("told to fail")),
            "{failed}"
        );
        word.send(true).unwrap();
        assert_eq!(producer.put(one(1)).await.unwrap().len(), 1, "a failure does not end the producer");
    });
}

#[test]
fn a_turn_that_comes_too_late_is_refused_unsent() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = log_config(dir.path());
    config.produce.acknowledge_ms = 100;
    let (producer, word, writes) = gated(&config);
    runtime().block_on(async {
        let put = |n| {
            let producer = Arc::clone(&producer);
            tokio::spawn(async move { producer.put(one(n)).await })
        };
        let first = put(1);
        tokio::time::sleep(Duration::from_millis(50)).await;
        let late = put(2);
        tokio::time::sleep(Duration::from_millis(200)).await;
        word.send(true).unwrap();
        word.send(true).unwrap();
        assert!(first.await.unwrap().is_ok());
        assert!(matches!(late.await.unwrap(), Err(ProduceError::Late { waited_ms: 100.. })));
    });
    assert_eq!(writes.lock().unwrap().first(), Some(&1));
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

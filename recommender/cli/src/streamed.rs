//! `serve --stream`: the stream as the service sees it. Events of requests go into the topic or log, a
//! consumer on a thread of its own applies them to the service's store, and its numbers are told.

use crate::ingest_stream::consume;
use feature_store::{Event, StreamEvent, UserStateStore};
use pipeline::stream::{Format, Place, ProduceError, Producer, StreamConfig, StreamMetrics, outgoing};
use service::{Awaited, Clock, EventPlace, EventStream, PutError, StreamStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a shared store is asked whether another process has applied an event.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A stream whose consumer runs.
pub(crate) struct RunningStream {
    events: Arc<Streamed>,
    stop: Arc<AtomicBool>,
    consumer: JoinHandle<anyhow::Result<()>>,
}

/// What the service is given.
struct Streamed {
    /// None where the stream carries another format.
    producer: Option<Producer>,
    format: Format,
    metrics: Arc<StreamMetrics>,
    applied_wait: Duration,
    clock_ms: Clock,
}

impl RunningStream {
    /// Opens the stream for events of requests, and applies it while a service answers from `store`.
    ///
    /// # Errors
    /// The stream cannot be written to: another process writes to the log, or a property is wrong. A
    /// broker that does not answer is waited for.
    pub(crate) fn start(config: StreamConfig, store: UserStateStore) -> anyhow::Result<RunningStream> {
        let clock_ms = service::system_clock();
        let native = config.format == Format::Native;
        // First, since it begins a log that the consumer then reads.
        let producer = native.then(|| Producer::start(&config, &clock_ms)).transpose()?;
        let metrics = Arc::new(StreamMetrics::default());
        let events = Arc::new(Streamed {
            producer,
            format: config.format,
            metrics: Arc::clone(&metrics),
            applied_wait: config.produce.applied_wait(),
            clock_ms,
        });
        let stop = Arc::new(AtomicBool::new(false));
        if let Some(kafka) = config.kafka.as_ref().filter(|_| store.shared()) {
            let (store, source) = (store.clone(), kafka.source.clone());
            let (metrics, stop) = (Arc::clone(&metrics), Arc::clone(&stop));
            std::thread::spawn(move || watch_others(&store, &source, &metrics, &stop));
        }
        let asked = Arc::clone(&stop);
        let consumer = std::thread::spawn(move || {
            let _told = ToldOnPanic(Arc::clone(&metrics));
            let done = consume(&config, &store, &metrics, false, &|| asked.load(Ordering::Relaxed));
            match &done {
                Ok(()) => metrics.ended("it was asked to stop"),
                // Recommendations go on from the state as it is.
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "the stream's consumer ended");
                    metrics.ended(error);
                }
            }
            done
        });
        Ok(RunningStream { events, stop, consumer })
    }

    /// For the service.
    pub(crate) fn events(&self) -> Arc<dyn EventStream> {
        Arc::clone(&self.events) as Arc<dyn EventStream>
    }

    /// Stops the consumer once the service has stopped, and says how it ended.
    pub(crate) fn stop(self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        self.consumer.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the stream's consumer ended in a panic")))
    }
}

/// Numbers must not say that a consumer runs which panicked.
struct ToldOnPanic(Arc<StreamMetrics>);

impl Drop for ToldOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.ended("it panicked; the log says where");
        }
    }
}

/// While anyone waits, tells the numbers what the store says is applied, by whomever: where the state is shared,
/// another process may have the partition.
fn watch_others(store: &UserStateStore, source: &str, metrics: &StreamMetrics, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        std::thread::sleep(LOOK_EVERY);
        if metrics.awaited() {
            // A store that does not answer is asked again; who waits has a limit.
            let stored = store.positions(source);
            stored.map_or_else(|error| tracing::debug!(%error, "positions"), |stored| metrics.reached(&stored));
        }
    }
}

impl EventStream for Streamed {
    fn put(&self, events: Vec<Event>) -> Awaited<'_, Result<Vec<EventPlace>, PutError>> {
        let messages = events.into_iter().map(|event| outgoing(&StreamEvent::Interaction(event))).collect();
        Box::pin(async move {
            let Some(producer) = &self.producer else {
                let reason = format!(
                    "the stream of this service carries {:?} messages, not this service's own; send events there",
                    self.format
                );
                return Err(PutError::Foreign(reason));
            };
            let places = producer.put(messages).await.map_err(|error| match error {
                ProduceError::Full { .. } | ProduceError::Late { .. } => PutError::Busy(error.to_string()),
                ProduceError::Unacknowledged { reason } => PutError::Unacknowledged(reason),
            })?;
            Ok(places.into_iter().map(|Place { partition, offset }| EventPlace { partition, offset }).collect())
        })
    }

    fn applied<'a>(&'a self, places: &'a [EventPlace]) -> Awaited<'a, bool> {
        let places: Vec<Place> =
            places.iter().map(|place| Place { partition: place.partition, offset: place.offset }).collect();
        Box::pin(async move { self.metrics.wait_applied(&places, self.applied_wait).await })
    }

    fn status(&self) -> StreamStatus {
        let stats = self.metrics.stats();
        StreamStatus {
            running: stats.started_at_ms.is_some() && stats.ended.is_none(),
            error: stats.ended.clone(),
            connected: stats.connected,
            lag: stats.lag.values().sum(),
            checkpoint_age_s: stats.checkpoint_age_ms((self.clock_ms)()) as f64 / 1e3,
            freshness_s: stats.freshness_ms.map(|freshness_ms| freshness_ms as f64 / 1e3),
            invalid: stats.invalid,
            rebalances: stats.rebalances,
            lag_by_partition: stats.lag,
        }
    }

    fn exposition(&self) -> String {
        self.metrics.stats().exposition((self.clock_ms)())
    }
}

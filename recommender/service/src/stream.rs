//! A stream beside the service: where `POST /v1/events` goes instead of the state, and what is told about
//! its consumer. The service knows neither topics nor logs; who runs one gives it this.
//!
//! What an answer promises, with a stream: 200 says that the event is durable in the stream and that the
//! state holds it, so the next recommendation reflects it; 202 that it is durable and will be applied.

use feature_store::Event;
use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

/// An answer that is waited for.
pub type Awaited<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A stream that takes events and whose consumer, in this process or another one, applies them to the service's store.
pub trait EventStream: Send + Sync {
    /// Puts events into the stream, each valid, in order. They are durable when this gives their places.
    fn put(&self, events: Vec<Event>) -> Awaited<'_, Result<Vec<EventPlace>, PutError>>;

    /// True once the state holds what lies at `places`, false if that takes longer than the stream is
    /// configured to wait.
    fn applied<'a>(&'a self, places: &'a [EventPlace]) -> Awaited<'a, bool>;

    /// How the consumer is doing.
    fn status(&self) -> StreamStatus;

    /// The consumer's numbers in Prometheus' text format, every line ended.
    fn exposition(&self) -> String;
}

/// Where an event lies in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct EventPlace {
    /// Partition of the topic; a log has one, 0.
    pub partition: u32,
    /// Offset there; null where the broker did not say.
    pub offset: Option<u64>,
}

/// Why a stream did not take events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PutError {
    /// Too much is on its way; nothing was sent.
    Busy(String),
    /// Not acknowledged in time. The events may be there all the same.
    Unacknowledged(String),
    /// The stream is not one of this service's events.
    Foreign(String),
}

/// How a stream's consumer is doing.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct StreamStatus {
    /// Whether the consumer runs; if not, recommendations go on from the state as it is.
    pub running: bool,
    /// Why it ended, if it did.
    pub error: Option<String>,
    /// Whether the broker or log answers.
    pub connected: bool,
    /// Messages not yet applied, over all partitions, as far as known.
    pub lag: u64,
    /// The same by partition.
    pub lag_by_partition: BTreeMap<u32, u64>,
    /// Seconds since the last durable write, or the last look that found nothing to write.
    pub checkpoint_age_s: f64,
    /// Seconds from the oldest message of the last write being taken to its effects being visible.
    pub freshness_s: Option<f64>,
    /// Messages put aside since the start.
    pub invalid: u64,
    /// Times that partitions came or went since the start.
    pub rebalances: u64,
}

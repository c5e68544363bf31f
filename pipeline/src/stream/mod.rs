//! The event stream: a topic or a log -> events -> user state, exactly once in effect.
//!
//! ```text
//! producers --> topic (Kafka) --+                       +--> user state (positions, histories, items)
//!               log (one machine)+--> decoder --> batch -+
//!                                                        +--> dead letters (what no decoder takes)
//! ```
//! The state store keeps, in the transaction that writes a batch's effects, how far each partition
//! was applied. So a batch that comes again changes nothing, whoever brings it, and a consumer starts
//! where the state is, not where a broker thinks it is.

mod begun;
mod config;
mod consumer;
mod decode;
mod error;
mod exposition;
mod kafka;
mod letter;
mod log;
mod message;
mod metrics;
mod producer;
mod redrive;
mod security;
mod start;
mod validate;

pub use config::{BatchConfig, KafkaConfig, LogConfig, ProduceConfig, Start, StateConfig, StreamConfig};
pub use consumer::Consumer;
pub use decode::{Decoder, Format, MAX_EVENTS_PER_MESSAGE, Reject, decoder};
pub use error::StreamError;
pub use kafka::{KafkaSink, KafkaSource};
pub use log::{LogLimits, LogReader, LogSource, LogWriter};
pub use message::{MAX_BATCH_BYTES, MAX_PAYLOAD_BYTES, Message, Outgoing, Place, Sink, Source};
pub use metrics::{FRESHNESS_BOUNDS_S, StreamMetrics, StreamStats};
pub use producer::{ProduceError, Producer};
pub use redrive::{Redriven, redrive};
pub use security::{Mechanism, Protocol, SecurityConfig};
pub use start::{
    dead_letter_sink, dead_letter_source, event_sink, has_dead_letters, open_source, open_source_to_end, outgoing,
};
pub use validate::{Findings, MAX_SHOWN, validate};

use std::sync::Arc;

/// A clock: milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

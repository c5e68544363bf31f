//! The configuration of a stream, as TOML. Every value is stated; a key that is not known is an
//! error. pipeline/configs/stream-kafka.toml and stream-log.toml are the commented examples.

use super::StreamError;
use super::decode::Format;
use super::log::LogLimits;
use super::security::SecurityConfig;
use feature_store::StateLocation;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Fewest segments of a log: with one alone, what was written would go as soon as the next is begun.
const MIN_SEGMENTS: u64 = 2;
/// Most bytes of a log's segment: the last one is read whole when the log is opened for writing.
const MAX_SEGMENT_BYTES: u64 = 1 << 30;
/// Most messages a batch may be told to hold.
const MAX_BATCH: usize = 100_000;
/// Longest wait for a batch to fill, in milliseconds.
const MAX_WAIT_MS: u64 = 10_000;
/// Longest time for a broker to acknowledge what a request waits for, in milliseconds.
const MAX_ACKNOWLEDGE_MS: u64 = 60_000;
/// Most events on their way at once.
const MAX_IN_FLIGHT: u64 = 1_000_000;
/// Most memory for messages fetched ahead, in KiB.
const MAX_QUEUE_KIB: u32 = 1 << 20;

/// What to read, how to understand it, and where to keep the state.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamConfig {
    /// Format of the messages.
    pub format: Format,
    /// Where a source starts of which nothing was applied yet.
    pub start: Start,
    /// How messages are gathered into one durable write.
    pub batch: BatchConfig,
    /// The user state store.
    pub state: StateConfig,
    /// What `POST /v1/events` of `serve --stream` waits for.
    pub produce: ProduceConfig,
    /// Address and port at which `ingest` shows its numbers to Prometheus; absent: nowhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics_bind: Option<SocketAddr>,
    /// Read from a topic. Exactly one of `kafka` and `log` is given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kafka: Option<KafkaConfig>,
    /// Read from a log on this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogConfig>,
}

/// Where to start when no position is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With the oldest message there is.
    Earliest,
    /// With the first message that comes after the start. The start is remembered: what comes later, also to a
    /// partition that was empty or is made later, is applied whenever it is read.
    Latest,
    /// With the first message taken at or after this time, in milliseconds since the Unix epoch.
    TimestampMs(i64),
    /// With the first message of the last so many seconds.
    LastS(u64),
}

/// How messages are gathered: a batch is written when it is full or its time is up. It is full with
/// `max_messages`, and with 16 MiB of keys, headers and payloads ([`super::MAX_BATCH_BYTES`]) whatever their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchConfig {
    /// Most messages of a batch.
    pub max_messages: usize,
    /// Longest time from a batch's first message to its write, in milliseconds.
    pub max_wait_ms: u64,
}

/// Events that come by HTTP into the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProduceConfig {
    /// Longest time for the broker to acknowledge an event, in milliseconds; past it the answer is 503.
    pub acknowledge_ms: u64,
    /// Longest wait, after that, for the consumer to have applied it, in milliseconds; past it the answer
    /// is 202. 0 does not wait.
    pub applied_wait_ms: u64,
    /// Events on their way at once; one more is answered 503.
    pub max_in_flight: usize,
}

/// The user state store.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    /// Its folder, or the URL of a Redis or Valkey server.
    pub path: StateLocation,
    /// Newest events kept for a user.
    pub max_history: usize,
}

/// A topic of a Kafka cluster.
///
/// An event more than a day ahead of its message's timestamp is put aside. That timestamp is the broker's own
/// only if the topic's `message.timestamp.type` is LogAppendTime; with CreateTime, Kafka's default, it is what the
/// producer says, so a producer whose clock is wrong dates both, and the rule does not catch it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// Addresses of brokers to start from, with commas between them.
    pub brokers: String,
    /// The topic. What is refused goes to `TOPIC.dlq`.
    pub topic: String,
    /// The consumer group.
    pub group: String,
    /// Name under which positions of this topic are kept. Change it when the topic was removed and
    /// made again, or when another cluster takes over: offsets of the two have nothing in common.
    pub source: String,
    /// Most memory for messages fetched ahead of the store, in KiB.
    pub queue_kib: u32,
    /// Longest silence of a consumer before the group takes its partitions away, in milliseconds.
    pub session_timeout_ms: u32,
    /// TLS and SASL; absent: neither.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub security: Option<SecurityConfig>,
    /// Further librdkafka properties, such as `reconnect.backoff.max.ms`. Those that this program sets itself are
    /// refused; `linger.ms`, `partitioner` and `message.max.bytes` it sets only where they are not here.
    #[serde(default)]
    pub properties: BTreeMap<String, String>,
}

/// A log on this machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogConfig {
    /// Its folder. What is refused goes to a log in `DIR.dlq`.
    pub dir: PathBuf,
    /// Bytes after which a new segment is begun, at most 1 GiB.
    pub segment_bytes: u64,
    /// Segments kept, the one that is written included, at least 2; past that the oldest goes, read or not.
    pub max_segments: usize,
}

/// Properties that this program sets itself, under each of their names: exactly-once rests on them, or another field
/// says what they are (`message.timeout.ms`: `produce.acknowledge_ms`).
const OWN_PROPERTIES: [&str; 15] = [
    "bootstrap.servers",
    "metadata.broker.list",
    "group.id",
    "enable.auto.commit",
    "enable.auto.offset.store",
    "auto.offset.reset",
    "enable.partition.eof",
    "queued.max.messages.kbytes",
    "session.timeout.ms",
    "statistics.interval.ms",
    "acks",
    "request.required.acks",
    "enable.idempotence",
    "message.timeout.ms",
    "delivery.timeout.ms",
];

impl StreamConfig {
    /// Checks what types cannot say.
    ///
    /// # Errors
    /// The first broken rule, with the field, its value and the way out.
    pub fn validate(&self) -> Result<(), StreamError> {
        in_range("batch.max_messages", self.batch.max_messages as u64, MAX_BATCH as u64)?;
        in_range("batch.max_wait_ms", self.batch.max_wait_ms, MAX_WAIT_MS)?;
        self.produce.validate()?;
        if let Start::TimestampMs(time_ms) = self.start
            && time_ms < 0
        {
            return Err(StreamError::config("start", format!("{time_ms} ms is before 1970")));
        }
        match (&self.kafka, &self.log) {
            (Some(kafka), None) => kafka.validate(),
            (None, Some(log)) => log.validate(),
            _ => Err(StreamError::config("kafka, log", "give exactly one of the two: the source of the stream")),
        }
    }
}

impl ProduceConfig {
    fn validate(&self) -> Result<(), StreamError> {
        in_range("produce.acknowledge_ms", self.acknowledge_ms, MAX_ACKNOWLEDGE_MS)?;
        in_range("produce.applied_wait_ms", self.applied_wait_ms.max(1), MAX_WAIT_MS)?;
        in_range("produce.max_in_flight", self.max_in_flight as u64, MAX_IN_FLIGHT)
    }

    /// Longest time for the broker to acknowledge.
    pub fn acknowledge(&self) -> Duration {
        Duration::from_millis(self.acknowledge_ms)
    }

    /// Longest wait for the consumer after that.
    pub fn applied_wait(&self) -> Duration {
        Duration::from_millis(self.applied_wait_ms)
    }
}

impl KafkaConfig {
    fn validate(&self) -> Result<(), StreamError> {
        for (field, value) in [
            ("kafka.brokers", &self.brokers),
            ("kafka.topic", &self.topic),
            ("kafka.group", &self.group),
            ("kafka.source", &self.source),
        ] {
            if value.is_empty() || value.len() > 1024 {
                return Err(StreamError::config(field, format!("has {} bytes; give 1 to 1024", value.len())));
            }
        }
        in_range("kafka.queue_kib", u64::from(self.queue_kib), u64::from(MAX_QUEUE_KIB))?;
        in_range("kafka.session_timeout_ms", u64::from(self.session_timeout_ms), 300_000)?;
        if let Some(security) = &self.security {
            security.validate()?;
        }
        for own in OWN_PROPERTIES {
            if self.properties.contains_key(own) {
                let reason = format!("sets {own:?}, which this program sets itself; leave it out");
                return Err(StreamError::config("kafka.properties", reason));
            }
        }
        Ok(())
    }

    /// Makes the relative paths of files start at `base`.
    pub fn resolve_paths(&mut self, base: &Path) {
        if let Some(security) = &mut self.security {
            security.resolve_paths(base);
        }
    }

    /// Name of the topic of refused messages.
    pub fn dlq(&self) -> String {
        format!("{}.dlq", self.topic)
    }
}

impl LogConfig {
    /// Folder of the log of refused messages.
    pub fn dlq(&self) -> PathBuf {
        // Beside the log, also where the path ends in a slash.
        let mut name = self.dir.file_name().unwrap_or_default().to_owned();
        name.push(".dlq");
        self.dir.with_file_name(name)
    }

    fn validate(&self) -> Result<(), StreamError> {
        in_range("log.segment_bytes", self.segment_bytes, MAX_SEGMENT_BYTES)?;
        between("log.max_segments", self.max_segments as u64, MIN_SEGMENTS, 1_000_000)?;
        if self.dir.file_name().is_none() {
            let reason = format!("{:?} ends in no name of a folder; give one, such as \"events\"", self.dir);
            return Err(StreamError::config("log.dir", reason));
        }
        Ok(())
    }

    /// The log's sizes.
    pub fn limits(&self) -> LogLimits {
        LogLimits { segment_bytes: self.segment_bytes, max_segments: self.max_segments }
    }
}

impl BatchConfig {
    /// The wait as a duration.
    pub fn max_wait(&self) -> Duration {
        Duration::from_millis(self.max_wait_ms)
    }
}

pub(super) fn in_range(field: &'static str, value: u64, most: u64) -> Result<(), StreamError> {
    between(field, value, 1, most)
}

fn between(field: &'static str, value: u64, least: u64, most: u64) -> Result<(), StreamError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(StreamError::config(field, format!("{value} is not in {least}..={most}")))
}

//! A real broker, where one was started: `deploy/kafka-local.sh start` prints the address that
//! `RECOMMENDER_KAFKA` holds. `.ci/run` does both.

use super::world::log_config;
use crate::support::say_skipped;
use pipeline::stream::{KafkaConfig, StreamConfig};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A stream of a topic of its own, or none with a word on stderr.
pub(super) fn topic_config(dir: &Path) -> Option<StreamConfig> {
    let Some(brokers) = std::env::var("RECOMMENDER_KAFKA").ok().filter(|brokers| !brokers.is_empty()) else {
        say_skipped("RECOMMENDER_KAFKA names no broker (deploy/kafka-local.sh start prints one)");
        return None;
    };
    static TOPICS: AtomicU32 = AtomicU32::new(0);
    let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let topic = format!("events-{started}-{}", TOPICS.fetch_add(1, Ordering::Relaxed));
    let kafka = KafkaConfig {
        brokers,
        group: format!("group-{topic}"),
        source: format!("kafka:{topic}"),
        topic,
        queue_kib: 4096,
        session_timeout_ms: 6000,
        security: None,
        properties: BTreeMap::from([("heartbeat.interval.ms".to_owned(), "500".to_owned())]),
    };
    Some(StreamConfig { kafka: Some(kafka), log: None, ..log_config(dir) })
}

//! Kafka: a topic as a source and as a sink, through librdkafka.
//!
//! The group decides who reads which partition, and nothing else: where to read is what the state
//! store says. Offsets committed to the broker are for people and dashboards.

mod context;
mod sink;
mod source;

pub use sink::KafkaSink;
pub use source::KafkaSource;

use super::config::KafkaConfig;
use rdkafka::ClientConfig;

/// What every client of a cluster is told.
fn client(config: &KafkaConfig) -> ClientConfig {
    let mut client = ClientConfig::new();
    for (name, value) in &config.properties {
        client.set(name, value);
    }
    client.set("bootstrap.servers", &config.brokers);
    client
}

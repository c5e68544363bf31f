//! Questions to a broker about a topic: whether it is there, how many partitions it has, and why nobody answered.

use super::context::Context;
use super::{passes, refusal};
use crate::stream::StreamError;
use crate::stream::config::KafkaConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use std::time::Duration;

/// Longest wait for the broker's answer.
const ANSWER: Duration = Duration::from_secs(10);
/// Events of the library that are read to find out why it does not connect.
const EVENTS: usize = 64;
/// Wait for each: on a busy machine the reason comes after the question has failed.
const EVENT: Duration = Duration::from_millis(20);

/// How many partitions a topic has; none if it does not exist.
///
/// # Errors
/// No broker answered within 10 s, or let us in.
pub(super) fn ask(
    consumer: &BaseConsumer<Context>,
    config: &KafkaConfig,
    topic: &str,
) -> Result<Option<usize>, StreamError> {
    partition_count(consumer, topic).map_err(|error| {
        // Why it did not connect lies among the events, which a question does not read.
        for _ in 0..EVENTS {
            let _ = consumer.poll(EVENT);
        }
        let told = consumer.context().shared().last_told.clone();
        if let Some(kept_out) = kept_out(config, told.as_ref()) {
            return kept_out;
        }
        if !passes(&error) {
            return refusal(format!("topic {topic:?}"), &error);
        }
        StreamError::Unreachable {
            brokers: config.brokers.clone(),
            waited_s: ANSWER.as_secs(),
            reason: told.map_or_else(|| error.to_string(), |(_, reason)| reason),
        }
    })
}

/// As [`ask`], with the library's own failure.
pub(super) fn partition_count(consumer: &BaseConsumer<Context>, topic: &str) -> Result<Option<usize>, KafkaError> {
    let known = consumer.fetch_metadata(Some(topic), ANSWER)?;
    let Some(found) = known.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
    match found.error().map(RDKafkaErrorCode::from) {
        None => Ok(Some(found.partitions().len())),
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => Ok(None),
        Some(code) => Err(KafkaError::MetadataFetch(code)),
    }
}

/// The refusal, if what the library told last means that credentials or certificates are wrong. A handshake that fails
/// is told as the end of a connection at times.
pub(super) fn kept_out(config: &KafkaConfig, told: Option<&(RDKafkaErrorCode, String)>) -> Option<StreamError> {
    use RDKafkaErrorCode as Code;
    let (code, reason) = told?;
    let refused = [Code::Authentication, Code::SaslAuthenticationFailed, Code::SSL, Code::UnsupportedSASLMechanism];
    let handshake = config.security.is_some() && reason.contains("SSL");
    (refused.contains(code) || handshake).then(|| {
        let brokers = &config.brokers;
        let way_out = "correct its protocol, files, username or password";
        StreamError::config("kafka.security", format!("{brokers} did not let us in ({reason}); {way_out}"))
    })
}

/// Says that a topic is not there.
pub(super) fn absent(config: &KafkaConfig, topic: &str) -> StreamError {
    let way_out = "does not exist; create it or send a first event to it, or correct kafka.topic";
    StreamError::kafka(format!("topic {topic:?} at {}", config.brokers), way_out)
}

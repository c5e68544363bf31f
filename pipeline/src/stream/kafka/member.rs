//! A consumer as this project wants it, as a member of a group or to ask only, and its messages as this project's own.

use super::context::{Context, Places};
use super::{client, refusal};
use crate::stream::StreamError;
use crate::stream::config::KafkaConfig;
use crate::stream::message::Message;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use std::time::Duration;

/// How often the library counts how much is left to read.
const COUNT_EVERY: Duration = Duration::from_secs(1);

/// Joins a group for a topic.
///
/// # Errors
/// A property that librdkafka does not know or take.
pub(super) fn member(
    config: &KafkaConfig,
    topic: &str,
    group: &str,
    places: Places,
) -> Result<BaseConsumer<Context>, StreamError> {
    let refuse = |error: KafkaError| refusal(format!("topic {topic:?}"), &error);
    let mut settings = settings(config)?;
    settings.set("group.id", group);
    let consumer: BaseConsumer<Context> = settings.create_with_context(Context::of(places)).map_err(refuse)?;
    consumer.subscribe(&[topic]).map_err(refuse)?;
    Ok(consumer)
}

/// A client that joins no group: it asks about topics.
///
/// # Errors
/// As of [`member`].
pub(super) fn asking(config: &KafkaConfig) -> Result<BaseConsumer<Context>, StreamError> {
    let made = settings(config)?.create_with_context(Context::without_places());
    made.map_err(|error: KafkaError| refusal(format!("topic {:?}", config.topic), &error))
}

fn settings(config: &KafkaConfig) -> Result<ClientConfig, StreamError> {
    let mut client = client(config)?;
    client
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // The store says where to read. An offset that the broker does not have is an error, after which the consumer
        // joins anew and counts the gap.
        .set("auto.offset.reset", "error")
        .set("enable.partition.eof", "true")
        .set("statistics.interval.ms", COUNT_EVERY.as_millis().to_string())
        .set("queued.max.messages.kbytes", config.queue_kib.to_string())
        .set("session.timeout.ms", config.session_timeout_ms.to_string());
    Ok(client)
}

/// A message with what the library lends of it copied.
pub(super) fn own(message: &BorrowedMessage<'_>) -> Message {
    let headers = message.headers().map_or(Vec::new(), |headers| {
        headers.iter().map(|header| (header.key.to_owned(), header.value.unwrap_or_default().to_vec())).collect()
    });
    Message {
        partition: message.partition() as u32,
        offset: message.offset() as u64,
        taken_ms: message.timestamp().to_millis(),
        key: message.key().unwrap_or_default().to_vec(),
        payload: message.payload().unwrap_or_default().to_vec(),
        headers,
    }
}

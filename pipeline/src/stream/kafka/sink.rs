//! A topic as a sink: what it has taken is on all in-sync replicas.

use super::client;
use crate::stream::StreamError;
use crate::stream::config::KafkaConfig;
use crate::stream::message::{Outgoing, Sink};
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Longest time for messages to be acknowledged. librdkafka tries again until then.
const ANSWER: Duration = Duration::from_secs(60);
/// Wait for room in the producer's queue, or for the next answer.
const ROOM: Duration = Duration::from_millis(20);

/// A producer of one topic.
pub struct KafkaSink {
    producer: BaseProducer<Deliveries>,
    topic: String,
}

/// Collects the first failure since the last look.
#[derive(Default)]
struct Deliveries {
    failure: Mutex<Option<KafkaError>>,
}

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
            failure.get_or_insert_with(|| error.clone());
        }
    }
}

impl KafkaSink {
    /// A producer of the events' topic, as `POST /v1/events` or a test needs it.
    ///
    /// # Errors
    /// A property that librdkafka does not know or take.
    pub fn events(config: &KafkaConfig) -> Result<KafkaSink, StreamError> {
        KafkaSink::open(config, config.topic.clone())
    }

    /// A producer of the dead letters' topic.
    ///
    /// # Errors
    /// As [`KafkaSink::events`].
    pub fn dead_letters(config: &KafkaConfig) -> Result<KafkaSink, StreamError> {
        KafkaSink::open(config, config.dlq())
    }

    fn open(config: &KafkaConfig, topic: String) -> Result<KafkaSink, StreamError> {
        let mut client = client(config);
        client
            .set("acks", "all")
            // The broker drops what a retry sends twice, and keeps a key's order.
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.timeout.ms", (ANSWER.as_millis() - 1000).to_string());
        let producer = client.create_with_context(Deliveries::default());
        let producer = producer.map_err(|error| StreamError::kafka(format!("topic {topic:?}"), error))?;
        Ok(KafkaSink { producer, topic })
    }

    fn send(&self, message: &Outgoing) -> Result<(), KafkaError> {
        let headers = message
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let mut record = BaseRecord::to(&self.topic).key(&message.key).payload(&message.payload).headers(headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                // The queue has a limit: wait until some of it is acknowledged.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(ROOM);
                }
                Err((error, _)) => return Err(error),
            }
        }
    }
}

impl Sink for KafkaSink {
    fn put(&mut self, messages: &[Outgoing]) -> Result<(), StreamError> {
        let refuse = |error: KafkaError| StreamError::kafka(format!("topic {:?}", self.topic), error);
        for message in messages {
            self.send(message).map_err(refuse)?;
        }
        // Not `flush`, which looks for answers every 100 ms only: an event in a request waits for this.
        let until = Instant::now() + ANSWER;
        while self.producer.in_flight_count() > 0 {
            if Instant::now() >= until {
                return Err(refuse(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)));
            }
            self.producer.poll(ROOM);
        }
        let failure = self.producer.context().failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.map_or(Ok(()), |error| Err(refuse(error)))
    }
}

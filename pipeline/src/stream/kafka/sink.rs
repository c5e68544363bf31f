//! A topic as a sink: what it has taken is on all in-sync replicas.

use super::{client, refusal};
use crate::stream::StreamError;
use crate::stream::config::KafkaConfig;
use crate::stream::message::{Outgoing, Place, Sink};
use rdkafka::Message as _;
use rdkafka::client::ClientContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _, ProducerContext};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Longest time for messages to be acknowledged where nobody waits for the answer. librdkafka tries
/// again until then.
const PATIENT: Duration = Duration::from_secs(60);
/// What the library may need beyond that to say that it gave up.
const GRACE: Duration = Duration::from_secs(1);
/// Wait for room in the producer's queue, or for the next answer.
const ROOM: Duration = Duration::from_millis(20);

/// A producer of one topic.
pub struct KafkaSink {
    producer: BaseProducer<Deliveries>,
    topic: String,
    answer: Duration,
}

/// What became of the messages of one call.
#[derive(Default)]
struct Round {
    /// Number of the call: an answer to an earlier one comes too late.
    number: u64,
    places: Vec<Option<Place>>,
    answered: usize,
    failure: Option<KafkaError>,
}

/// Collects the broker's answers.
#[derive(Default)]
struct Deliveries {
    round: Mutex<Round>,
}

impl Deliveries {
    fn round(&self) -> MutexGuard<'_, Round> {
        self.round.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Deliveries {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "the producer waits for the broker");
    }
}

impl ProducerContext for Deliveries {
    /// Number of the call, and the message's place in it.
    type DeliveryOpaque = Box<(u64, usize)>;

    fn delivery(&self, result: &DeliveryResult<'_>, of: Self::DeliveryOpaque) {
        let mut round = self.round();
        let (number, at) = *of;
        if number != round.number {
            return;
        }
        round.answered += 1;
        match result {
            Ok(taken) => {
                let place = Place { partition: taken.partition() as u32, offset: u64::try_from(taken.offset()).ok() };
                round.places[at] = Some(place);
            }
            Err((error, _)) if round.failure.is_none() => round.failure = Some(error.clone()),
            Err(_) => (),
        }
    }
}

impl KafkaSink {
    /// A producer of the events' topic.
    ///
    /// # Errors
    /// A property that librdkafka does not know or take.
    pub fn events(config: &KafkaConfig) -> Result<KafkaSink, StreamError> {
        KafkaSink::open(config, config.topic.clone(), PATIENT)
    }

    /// A producer of the events' topic for somebody who waits: `answer` is the longest time until
    /// messages count as not taken.
    ///
    /// # Errors
    /// As [`KafkaSink::events`].
    pub fn events_within(config: &KafkaConfig, answer: Duration) -> Result<KafkaSink, StreamError> {
        KafkaSink::open(config, config.topic.clone(), answer)
    }

    /// A producer of the dead letters' topic.
    ///
    /// # Errors
    /// As [`KafkaSink::events`].
    pub fn dead_letters(config: &KafkaConfig) -> Result<KafkaSink, StreamError> {
        KafkaSink::open(config, config.dlq(), PATIENT)
    }

    fn open(config: &KafkaConfig, topic: String, answer: Duration) -> Result<KafkaSink, StreamError> {
        let mut client = client(config)?;
        client
            .set("acks", "all")
            // The broker drops what a retry sends twice, and keeps a key's order.
            .set("enable.idempotence", "true")
            .set("linger.ms", "1")
            .set("message.timeout.ms", answer.as_millis().to_string());
        if !config.properties.contains_key("partitioner") {
            // As Java's producers do: a user's events must meet in one partition, whoever sends them.
            client.set("partitioner", "murmur2_random");
        }
        let producer = client.create_with_context(Deliveries::default());
        let producer = producer.map_err(|error| refusal(format!("topic {topic:?}"), &error))?;
        Ok(KafkaSink { producer, topic, answer })
    }

    fn send(&self, message: &Outgoing, number: u64, at: usize) -> Result<(), KafkaError> {
        let headers = message
            .headers
            .iter()
            .fold(OwnedHeaders::new(), |headers, (key, value)| headers.insert(Header { key, value: Some(value) }));
        let mut record = BaseRecord::with_opaque_to(&self.topic, Box::new((number, at)))
            .key(&message.key)
            .payload(&message.payload)
            .headers(headers);
        loop {
            match self.producer.send(record) {
                Ok(()) => return Ok(()),
                // The queue has a limit: wait until some of it is acknowledged or given up.
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                    record = back;
                    self.producer.poll(ROOM);
                }
                Err((error, _)) => return Err(error),
            }
        }
    }

    /// Forgets the answers of earlier calls; gives the number of this one.
    fn begin(&self, messages: usize) -> u64 {
        let mut round = self.producer.context().round();
        *round = Round { number: round.number + 1, places: vec![None; messages], ..Round::default() };
        round.number
    }
}

impl Sink for KafkaSink {
    fn put(&mut self, messages: &[Outgoing]) -> Result<Vec<Place>, StreamError> {
        let refuse = |error: KafkaError| refusal(format!("topic {:?}", self.topic), &error);
        let number = self.begin(messages.len());
        for (at, message) in messages.iter().enumerate() {
            self.send(message, number, at).map_err(refuse)?;
        }
        // Not `flush`, which looks for answers every 100 ms only: an event in a request waits for this.
        let until = Instant::now() + self.answer + GRACE;
        while self.producer.context().round().answered < messages.len() {
            if Instant::now() >= until {
                return Err(refuse(KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)));
            }
            self.producer.poll(ROOM);
        }
        let mut round = self.producer.context().round();
        if let Some(failure) = round.failure.take() {
            return Err(refuse(failure));
        }
        Ok(round.places.drain(..).flatten().collect())
    }
}

//! A topic as a sink: what it has taken is on all in-sync replicas.

use super::{client, passes, refusal};
use crate::stream::StreamError;
use crate::stream::config::KafkaConfig;
use crate::stream::letter::smaller;
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
/// Wait for answers after which it is told that there are none.
const SILENCE: Duration = Duration::from_secs(5);
/// Longest dead letter that the library sends where the config says nothing, in bytes. Its own default is below what
/// brokers take: the topic's `max.message.bytes` is to decide.
const LETTER_BYTES: usize = 64 << 20;

/// A producer of one topic.
pub struct KafkaSink {
    producer: BaseProducer<Deliveries>,
    topic: String,
    answer: Duration,
    /// Whether what is too large is cut, as dead letters are: refused, it would hold up the stream.
    cuts: bool,
}

/// What became of the messages of one call.
#[derive(Default)]
struct Round {
    /// Number of the call: an answer to an earlier one comes too late.
    number: u64,
    /// None for what has no answer yet, or is too large.
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
            Err((error, _)) if too_large(error) => (),
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
        KafkaSink::open(config, config.topic.clone(), PATIENT, false)
    }

    /// A producer of the events' topic for somebody who waits: `answer` is the longest time until
    /// messages count as not taken.
    ///
    /// # Errors
    /// As [`KafkaSink::events`].
    pub fn events_within(config: &KafkaConfig, answer: Duration) -> Result<KafkaSink, StreamError> {
        KafkaSink::open(config, config.topic.clone(), answer, false)
    }

    /// A producer of the dead letters' topic. A letter that the topic does not take for its size is cut, which a
    /// header says.
    ///
    /// # Errors
    /// As [`KafkaSink::events`].
    pub fn dead_letters(config: &KafkaConfig) -> Result<KafkaSink, StreamError> {
        KafkaSink::open(config, config.dlq(), PATIENT, true)
    }

    fn open(config: &KafkaConfig, topic: String, answer: Duration, cuts: bool) -> Result<KafkaSink, StreamError> {
        let mut client = client(config)?;
        client
            .set("acks", "all")
            // The broker drops what a retry sends twice, and keeps a key's order.
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", answer.as_millis().to_string());
        // What the config says under any of these names holds.
        let open = |names: &[&str]| !names.iter().any(|name| config.properties.contains_key(*name));
        if open(&["linger.ms", "queue.buffering.max.ms"]) {
            client.set("linger.ms", "1");
        }
        if open(&["partitioner"]) {
            // As Java's producers do: a user's events must meet in one partition, whoever sends them.
            client.set("partitioner", "murmur2_random");
        }
        if cuts && open(&["message.max.bytes"]) {
            client.set("message.max.bytes", LETTER_BYTES.to_string());
        }
        let producer = client.create_with_context(Deliveries::default());
        let producer = producer.map_err(|error| refusal(format!("topic {topic:?}"), &error))?;
        Ok(KafkaSink { producer, topic, answer, cuts })
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

    /// Sends messages and waits for the answers: where each lies, none for one that is too large.
    fn deliver(&self, messages: &[Outgoing]) -> Result<Vec<Option<Place>>, StreamError> {
        let number = self.begin(messages.len());
        for (at, message) in messages.iter().enumerate() {
            match self.send(message, number, at) {
                // Refused by the library itself, so no answer comes.
                Err(error) if too_large(&error) => self.producer.context().round().answered += 1,
                sent => sent.map_err(|error| self.refused(&error))?,
            }
        }
        self.wait_for(messages.len())?;
        let mut round = self.producer.context().round();
        match round.failure.take() {
            Some(failure) => Err(self.refused(&failure)),
            None => Ok(std::mem::take(&mut round.places)),
        }
    }

    /// Waits until so many messages are answered.
    fn wait_for(&self, messages: usize) -> Result<(), StreamError> {
        // Not `flush`, which looks for answers every 100 ms only: an event in a request waits for this.
        let since = Instant::now();
        let mut told = false;
        while self.producer.context().round().answered < messages {
            if since.elapsed() >= self.answer + GRACE {
                return Err(self.refused(&KafkaError::Flush(RDKafkaErrorCode::OperationTimedOut)));
            }
            if !told && since.elapsed() >= SILENCE {
                told = true;
                tracing::warn!(
                    topic = self.topic,
                    "the topic does not acknowledge messages: it does not exist, or its brokers do not answer; waiting"
                );
            }
            self.producer.poll(ROOM);
        }
        Ok(())
    }

    /// Sends a dead letter once more that is too large or went with one that is: by itself, and cut until it is
    /// taken.
    fn deliver_cut(&self, whole: &Outgoing) -> Result<Place, StreamError> {
        let mut letter = whole.clone();
        loop {
            if let Some(Some(place)) = self.deliver(std::slice::from_ref(&letter))?.pop() {
                return Ok(place);
            }
            let payload = whole.payload.len();
            letter = smaller(&letter, payload).ok_or_else(|| self.refused(&TOO_LARGE))?;
            let kept = letter.payload.len();
            tracing::warn!(topic = self.topic, payload, kept, "a dead letter is too large for its topic: it is cut");
        }
    }

    /// A failure with the topic's name and the way out.
    fn refused(&self, error: &KafkaError) -> StreamError {
        use RDKafkaErrorCode as Code;
        let mut reason = error.to_string();
        if let Some(Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition) =
            error.rdkafka_error_code()
        {
            reason.push_str("; create the topic, or let the brokers create topics");
        }
        StreamError::Kafka { what: format!("topic {:?}", self.topic), reason, passes: passes(error) }
    }
}

/// What a message is refused with that is too large.
const TOO_LARGE: KafkaError = KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge);

/// Whether the library or the broker refuses a message for its size. A broker refuses all that travelled with it.
fn too_large(error: &KafkaError) -> bool {
    error.rdkafka_error_code() == Some(RDKafkaErrorCode::MessageSizeTooLarge)
}

impl Sink for KafkaSink {
    fn put(&mut self, messages: &[Outgoing]) -> Result<Vec<Place>, StreamError> {
        let places = self.deliver(messages)?;
        let placed = places.into_iter().zip(messages).map(|(place, message)| match place {
            Some(place) => Ok(place),
            None if self.cuts => self.deliver_cut(message),
            None => Err(self.refused(&TOO_LARGE)),
        });
        placed.collect()
    }
}

//! A topic as a source: one member of a consumer group, or, for dead letters, all partitions.
//!
//! A broker that does not answer is waited for, and said to be; a source whose run has an end (a dry
//! run, `--until-end`, `--redrive`) waits 10 s for it and then gives up.

use super::ask::{absent, ask, kept_out, partition_count};
use super::context::{Context, Places};
use super::member::{asking, member, own};
use super::{overtaken, passes, refusal};
use crate::stream::config::{KafkaConfig, Start};
use crate::stream::message::{MAX_BATCH_BYTES, Message, Source};
use crate::stream::{Clock, StreamError};
use feature_store::UserStateStore;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Silence in the midst of such a run after which the broker is asked whether it is there.
const SILENCE: Duration = Duration::from_secs(20);
/// Between two attempts to join again.
const PAUSE: Duration = Duration::from_millis(500);
/// Between two questions how many partitions the topic has.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Between two warnings of the same wait.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// A consumer of one topic.
pub struct KafkaSource {
    consumer: BaseConsumer<Context>,
    config: KafkaConfig,
    topic: String,
    group: String,
    places: Places,
    /// Whether the run has an end, so that waiting has one too.
    to_end: bool,
    /// Partitions whose end was seen, and not left since.
    ended: BTreeSet<u32>,
    /// How many partitions the topic has; none until all that are ours have ended.
    partitions: Option<usize>,
    /// Since when nothing but failures came.
    failing_since: Option<Instant>,
    warned_at: Option<Instant>,
    /// When the topic was last asked for its partitions.
    asked_at: Option<Instant>,
    /// Whether it was looked whether the dead letters have a topic.
    letters_looked_for: bool,
    /// Rebalances of consumers before this one.
    rebalances_before: u64,
}

impl KafkaSource {
    /// Joins the group. Positions come from `store`; `clock_ms` (milliseconds since the Unix epoch)
    /// says what "the last so many seconds" of `start` means.
    ///
    /// # Errors
    /// A property that librdkafka does not know or take. A broker that does not answer is no error:
    /// it is waited for.
    pub fn open(
        config: &KafkaConfig,
        start: Start,
        store: &UserStateStore,
        clock_ms: Clock,
    ) -> Result<KafkaSource, StreamError> {
        let places = Places { store: store.clone(), source: config.source.clone(), start, clock_ms };
        KafkaSource::join(config, config.topic.clone(), config.group.clone(), places)
    }

    /// [`KafkaSource::open`] for a run that has an end.
    ///
    /// # Errors
    /// Also a broker that does not answer within 10 s, or a topic that does not exist.
    pub fn open_to_end(
        config: &KafkaConfig,
        start: Start,
        store: &UserStateStore,
        clock_ms: Clock,
    ) -> Result<KafkaSource, StreamError> {
        KafkaSource::open(config, start, store, clock_ms)?.with_end()
    }

    /// Whether there is a topic of dead letters; it is made with the first of them. Joins no group.
    ///
    /// # Errors
    /// The topic of the stream does not exist either, or no broker answers within 10 s.
    pub fn has_dead_letters(config: &KafkaConfig) -> Result<bool, StreamError> {
        let client = asking(config)?;
        if ask(&client, config, &config.dlq())?.is_some() {
            return Ok(true);
        }
        match ask(&client, config, &config.topic)? {
            Some(_) => Ok(false),
            None => Err(absent(config, &config.topic)),
        }
    }

    /// Joins the group `GROUP.dlq` of the topic of dead letters, from its oldest letter on, up to its end.
    ///
    /// # Errors
    /// As [`KafkaSource::open_to_end`].
    pub fn dead_letters(
        config: &KafkaConfig,
        store: &UserStateStore,
        clock_ms: Clock,
    ) -> Result<KafkaSource, StreamError> {
        let (group, source) = (format!("{}.dlq", config.group), format!("{}.dlq", config.source));
        let places = Places { store: store.clone(), source, start: Start::Earliest, clock_ms };
        KafkaSource::join(config, config.dlq(), group, places)?.with_end()
    }

    fn join(config: &KafkaConfig, topic: String, group: String, places: Places) -> Result<KafkaSource, StreamError> {
        Ok(KafkaSource {
            consumer: member(config, &topic, &group, places.clone())?,
            config: config.clone(),
            topic,
            group,
            places,
            to_end: false,
            ended: BTreeSet::new(),
            partitions: None,
            failing_since: None,
            warned_at: None,
            asked_at: None,
            letters_looked_for: false,
            rebalances_before: 0,
        })
    }

    /// From now on waiting has an end.
    fn with_end(mut self) -> Result<KafkaSource, StreamError> {
        self.to_end = true;
        match self.ask()? {
            Some(_) => Ok(self),
            None => Err(absent(&self.config, &self.topic)),
        }
    }

    fn ask(&self) -> Result<Option<usize>, StreamError> {
        ask(&self.consumer, &self.config, &self.topic)
    }

    fn refusal(&self, error: &KafkaError) -> StreamError {
        refusal(format!("topic {:?}", self.topic), error)
    }

    /// Deals with what callbacks left behind during a poll.
    fn after_poll(&mut self, batch: &mut Vec<Message>) -> Result<(), StreamError> {
        let mut shared = self.consumer.context().shared();
        if !shared.revoked.is_empty() {
            let revoked = std::mem::take(&mut shared.revoked);
            batch.retain(|message| !revoked.contains(&message.partition));
            self.ended.retain(|partition| !revoked.contains(partition));
        }
        let failure = shared.failure.take();
        drop(shared);
        match failure {
            // Partitions that could not be taken over: the broker went away meanwhile. Joining anew asks
            // for them again.
            Some(failure) if failure.passes() => {
                self.note(&failure.to_string());
                self.join_again(batch)
            }
            Some(failure) => Err(failure),
            None => Ok(()),
        }
    }

    /// Leaves and joins. Nothing in hand was applied, so it is read again from the stored positions.
    fn join_again(&mut self, batch: &mut Vec<Message>) -> Result<(), StreamError> {
        batch.clear();
        std::thread::sleep(PAUSE);
        self.rebalances_before = self.rebalances();
        self.ended.clear();
        let gaps = std::mem::take(&mut self.consumer.context().shared().gaps);
        self.consumer = member(&self.config, &self.topic, &self.group, self.places.clone())?;
        // Nothing calls back before the first poll.
        self.consumer.context().shared().gaps = gaps;
        Ok(())
    }

    /// What a failed poll means: an end, something that passes, or the end of the consumer.
    fn failed_poll(&mut self, error: KafkaError, batch: &mut Vec<Message>) -> Result<(), StreamError> {
        match error {
            KafkaError::PartitionEOF(partition) => {
                self.failing_since = None;
                self.ended.insert(partition as u32);
                if let Some(span) = self.consumer.context().shared().assigned.get_mut(&(partition as u32)) {
                    span.end = span.next;
                }
                Ok(())
            }
            other if passes(&other) => {
                self.note(&other.to_string());
                Ok(())
            }
            other if overtaken(&other) => {
                self.note(&other.to_string());
                self.join_again(batch)
            }
            other => {
                let told = self.consumer.context().shared().last_told.clone();
                Err(kept_out(&self.config, told.as_ref()).unwrap_or_else(|| self.refusal(&other)))
            }
        }
    }

    /// Says that something is waited for, and since when.
    fn note(&mut self, reason: &str) {
        self.failing_since.get_or_insert_with(Instant::now);
        if self.warned_at.is_none_or(|at| at.elapsed() >= WARN_EVERY) {
            self.warned_at = Some(Instant::now());
            let (topic, brokers) = (&self.topic, &self.config.brokers);
            tracing::warn!(
                topic,
                brokers,
                reason,
                "the topic cannot be read from kafka.brokers: trying again until it can"
            );
        }
    }

    /// A run that has an end does not wait for ever.
    fn look_at_silence(&mut self) -> Result<(), StreamError> {
        if self.to_end && self.failing_since.is_some_and(|since| since.elapsed() >= SILENCE) {
            if self.ask()?.is_none() {
                return Err(StreamError::kafka(format!("topic {:?}", self.topic), "does not exist any more"));
            }
            self.failing_since = None;
        }
        Ok(())
    }

    /// At the end of what is ours: whether that is all there is. A run that has an end asks until the two
    /// agree, since an answer may fail and partitions may be made later.
    fn look_at_partitions(&mut self) {
        let lately = self.asked_at.is_some_and(|at| at.elapsed() < ASK_EVERY);
        let open = if self.to_end { !self.at_end() } else { self.partitions.is_none() };
        if !lately && open && self.idle() {
            self.asked_at = Some(Instant::now());
            self.partitions = partition_count(&self.consumer, &self.topic).unwrap_or(self.partitions);
        }
    }

    /// Says once, when the broker first answers, that there is no topic of dead letters. No refusal: brokers that may
    /// create topics make it with the first letter, and nobody tells us whether they may.
    fn look_for_letters(&mut self) {
        let letters = self.config.dlq();
        if self.letters_looked_for || self.topic == letters || self.rebalances() == 0 {
            return;
        }
        self.letters_looked_for = true;
        if let Ok(None) = partition_count(&self.consumer, &letters) {
            tracing::warn!(
                topic = letters,
                "there is no topic of dead letters: where the brokers do not create topics, the first bad event holds \
                 up the stream until somebody creates it"
            );
        }
    }

    /// Takes a message into the batch unless its partition was taken away by this very poll.
    fn take(&mut self, message: Message, batch: &mut Vec<Message>) -> bool {
        self.failing_since = None;
        let mut shared = self.consumer.context().shared();
        let Some(span) = shared.assigned.get_mut(&message.partition) else { return false };
        span.next = message.offset + 1;
        span.end = span.end.max(span.next);
        drop(shared);
        self.ended.remove(&message.partition);
        batch.push(message);
        true
    }
}

impl Source for KafkaSource {
    fn name(&self) -> &str {
        &self.places.source
    }

    fn began(&self) -> BTreeMap<u32, u64> {
        let shared = self.consumer.context().shared();
        shared.assigned.iter().filter_map(|(partition, span)| Some((*partition, span.applied?))).collect()
    }

    fn poll(&mut self, batch: &mut Vec<Message>, most: usize, wait: Duration) -> Result<(), StreamError> {
        self.look_at_silence()?;
        self.look_at_partitions();
        self.look_for_letters();
        let until = Instant::now() + wait;
        let (mut got, mut bytes) = (0, 0);
        while got < most && bytes < MAX_BATCH_BYTES {
            // Only the first message is waited for; the rest is what lies ready.
            let left = if got == 0 { until.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let polled = self.consumer.poll(left).map(|polled| polled.map(|message| own(&message)));
            self.after_poll(batch)?;
            match polled {
                Some(Ok(message)) => {
                    let size = message.bytes();
                    if self.take(message, batch) {
                        got += 1;
                        bytes += size;
                    }
                }
                Some(Err(error)) => self.failed_poll(error, batch)?,
                None if got > 0 || Instant::now() >= until => break,
                None => (),
            }
        }
        Ok(())
    }

    fn applied(&mut self, reached: &BTreeMap<u32, u64>) -> Result<(), StreamError> {
        let mut offsets = TopicPartitionList::new();
        for (partition, offset) in reached {
            let next = Offset::Offset(i64::try_from(offset + 1).unwrap_or(i64::MAX));
            let added = offsets.add_partition_offset(&self.topic, *partition as i32, next);
            added.map_err(|error| self.refusal(&error))?;
        }
        // The broker's copy is advisory: a refusal, as during a rebalance, costs nothing.
        if let Err(error) = self.consumer.commit(&offsets, CommitMode::Async) {
            tracing::debug!(topic = self.topic, %error, "offsets not committed to the broker");
        }
        Ok(())
    }

    fn at_end(&self) -> bool {
        // Partitions of others do not count as read: a member that was killed holds its own until the
        // group notices.
        self.idle() && self.partitions == Some(self.consumer.context().shared().assigned.len())
    }

    fn idle(&self) -> bool {
        let shared = self.consumer.context().shared();
        shared.rebalances > 0 && shared.assigned.keys().all(|partition| self.ended.contains(partition))
    }

    fn ends(&self) -> BTreeMap<u32, u64> {
        let shared = self.consumer.context().shared();
        shared.assigned.iter().map(|(partition, span)| (*partition, span.end)).collect()
    }

    fn lag(&self) -> BTreeMap<u32, u64> {
        let shared = self.consumer.context().shared();
        shared.assigned.iter().map(|(partition, span)| (*partition, span.end.saturating_sub(span.next))).collect()
    }

    fn rebalances(&self) -> u64 {
        self.rebalances_before + self.consumer.context().shared().rebalances
    }

    fn lost(&self) -> u64 {
        self.consumer.context().shared().gaps.lost
    }

    fn connected(&self) -> bool {
        self.consumer.context().shared().brokers_up.is_some_and(|up| up > 0)
    }
}

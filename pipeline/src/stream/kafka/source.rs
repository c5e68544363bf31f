//! A topic as a source: one member of a consumer group, or, for dead letters, all partitions.

use super::client;
use super::context::Context;
use crate::stream::StreamError;
use crate::stream::config::{KafkaConfig, Start};
use crate::stream::message::{Message, Source};
use feature_store::UserStateStore;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Longest wait for the broker to say whether a topic exists.
const TOPIC_ANSWER: Duration = Duration::from_secs(10);
/// How often the broker is asked how much is left to read.
const LAG_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for that answer: it is for the numbers only.
const LAG_ANSWER: Duration = Duration::from_millis(500);

/// A consumer of one topic.
pub struct KafkaSource {
    consumer: BaseConsumer<Context>,
    name: String,
    topic: String,
    /// Partitions whose end was seen, and not left since.
    ended: BTreeSet<u32>,
    /// How many partitions the topic has; none until all that are ours have ended.
    partitions: Option<usize>,
    /// Offset of the next message of each partition.
    next: BTreeMap<u32, u64>,
    lag: BTreeMap<u32, u64>,
    lag_at: Option<Instant>,
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
        clock_ms: Box<dyn Fn() -> i64 + Send + Sync>,
    ) -> Result<KafkaSource, StreamError> {
        KafkaSource::join(config, &config.topic, &config.group, &config.source, start, store, clock_ms)
    }

    /// Joins the group `GROUP.dlq` of the topic of dead letters, from its oldest letter on.
    ///
    /// # Errors
    /// As [`KafkaSource::open`], and a topic that does not exist: nothing was put aside yet.
    pub fn dead_letters(
        config: &KafkaConfig,
        store: &UserStateStore,
        clock_ms: Box<dyn Fn() -> i64 + Send + Sync>,
    ) -> Result<KafkaSource, StreamError> {
        let (group, source) = (format!("{}.dlq", config.group), format!("{}.dlq", config.source));
        let letters = KafkaSource::join(config, &config.dlq(), &group, &source, Start::Earliest, store, clock_ms)?;
        letters.insist_on_topic()?;
        Ok(letters)
    }

    fn join(
        config: &KafkaConfig,
        topic: &str,
        group: &str,
        source: &str,
        start: Start,
        store: &UserStateStore,
        clock_ms: Box<dyn Fn() -> i64 + Send + Sync>,
    ) -> Result<KafkaSource, StreamError> {
        let refuse = |error: KafkaError| StreamError::kafka(format!("topic {topic:?}"), error);
        let mut client = client(config);
        client
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            // The store says where to read. An offset that the broker does not have is an error.
            .set("auto.offset.reset", "error")
            .set("enable.partition.eof", "true")
            .set("queued.max.messages.kbytes", config.queue_kib.to_string())
            .set("session.timeout.ms", config.session_timeout_ms.to_string());
        let context = Context::new(store.clone(), source.to_owned(), start, clock_ms);
        let consumer: BaseConsumer<Context> = client.create_with_context(context).map_err(refuse)?;
        consumer.subscribe(&[topic]).map_err(refuse)?;
        Ok(KafkaSource {
            consumer,
            name: source.to_owned(),
            topic: topic.to_owned(),
            ended: BTreeSet::new(),
            partitions: None,
            next: BTreeMap::new(),
            lag: BTreeMap::new(),
            lag_at: None,
        })
    }

    /// A topic that does not exist would be waited for without end.
    fn insist_on_topic(&self) -> Result<(), StreamError> {
        let refuse = |reason: String| StreamError::kafka(format!("topic {:?}", self.topic), reason);
        match self.partition_count().map_err(|error| refuse(error.to_string()))? {
            Some(_) => Ok(()),
            None => Err(refuse("does not exist; nothing was put aside yet".to_owned())),
        }
    }

    /// How many partitions the topic has; none if it does not exist.
    fn partition_count(&self) -> Result<Option<usize>, KafkaError> {
        let known = self.consumer.fetch_metadata(Some(&self.topic), TOPIC_ANSWER)?;
        let topic = known.topics().iter().find(|topic| topic.name() == self.topic && topic.error().is_none());
        Ok(topic.map(|topic| topic.partitions().len()))
    }

    /// Deals with what callbacks left behind during a poll.
    fn after_poll(&mut self, batch: &mut Vec<Message>) -> Result<(), StreamError> {
        let mut shared = self.consumer.context().shared();
        if !shared.revoked.is_empty() {
            let revoked = std::mem::take(&mut shared.revoked);
            batch.retain(|message| !revoked.contains(&message.partition));
            self.ended.retain(|partition| !revoked.contains(partition));
            self.next.retain(|partition, _| !revoked.contains(partition));
        }
        match shared.failure.take() {
            Some(failure) => Err(StreamError::kafka(format!("topic {:?}", self.topic), failure)),
            None => Ok(()),
        }
    }

    /// What a failed poll means: an end, something that passes, or the end of the consumer.
    fn failed_poll(&mut self, error: KafkaError) -> Result<(), StreamError> {
        match error {
            KafkaError::PartitionEOF(partition) => {
                self.ended.insert(partition as u32);
                if self.idle() && !self.at_end() {
                    // Asked again at the next end if the broker does not say.
                    self.partitions = self.partition_count().unwrap_or(self.partitions);
                }
                Ok(())
            }
            other if passes(&other) => {
                tracing::warn!(topic = self.topic, error = %other, "waiting for the broker");
                Ok(())
            }
            other => Err(StreamError::kafka(format!("topic {:?}", self.topic), other)),
        }
    }

    fn look_at_lag(&mut self) {
        if self.lag_at.is_some_and(|at| at.elapsed() < LAG_EVERY) {
            return;
        }
        self.lag_at = Some(Instant::now());
        for (partition, next) in &self.next {
            if let Ok((_, high)) = self.consumer.fetch_watermarks(&self.topic, *partition as i32, LAG_ANSWER) {
                self.lag.insert(*partition, u64::try_from(high).unwrap_or(0).saturating_sub(*next));
            }
        }
        let next = &self.next;
        self.lag.retain(|partition, _| next.contains_key(partition));
    }
}

impl Source for KafkaSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self, batch: &mut Vec<Message>, most: usize, wait: Duration) -> Result<(), StreamError> {
        let until = Instant::now() + wait;
        let mut got = 0;
        while got < most {
            // Only the first message is waited for; the rest is what lies ready.
            let left = if got == 0 { until.saturating_duration_since(Instant::now()) } else { Duration::ZERO };
            let polled = self.consumer.poll(left).map(|polled| polled.map(|message| own(&message)));
            self.after_poll(batch)?;
            match polled {
                Some(Ok(message)) => {
                    // It may be of a partition that this very poll took away.
                    if self.consumer.context().shared().assigned.contains(&message.partition) {
                        self.ended.remove(&message.partition);
                        self.next.insert(message.partition, message.offset + 1);
                        batch.push(message);
                        got += 1;
                    }
                }
                Some(Err(error)) => self.failed_poll(error)?,
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
            added.map_err(|error| StreamError::kafka(format!("topic {:?}", self.topic), error))?;
        }
        // The broker's copy is advisory: a refusal, as during a rebalance, costs nothing.
        if let Err(error) = self.consumer.commit(&offsets, CommitMode::Async) {
            tracing::debug!(topic = self.topic, %error, "offsets not committed to the broker");
        }
        self.look_at_lag();
        Ok(())
    }

    fn at_end(&self) -> bool {
        // Partitions of others do not count as read: a member that was killed holds its own until the
        // group notices.
        self.idle() && self.partitions == Some(self.consumer.context().shared().assigned.len())
    }

    fn idle(&self) -> bool {
        let shared = self.consumer.context().shared();
        shared.rebalances > 0 && shared.assigned.is_subset(&self.ended)
    }

    fn lag(&self) -> BTreeMap<u32, u64> {
        self.lag.clone()
    }

    fn rebalances(&self) -> u64 {
        self.consumer.context().shared().rebalances
    }
}

fn own(message: &BorrowedMessage<'_>) -> Message {
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

/// Whether librdkafka goes on by itself: brokers come back, topics appear, leaders move.
fn passes(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(
            Code::BrokerTransportFailure
                | Code::AllBrokersDown
                | Code::Resolve
                | Code::OperationTimedOut
                | Code::UnknownTopicOrPartition
                | Code::UnknownTopic
                | Code::LeaderNotAvailable
                | Code::NotLeaderForPartition
                | Code::NotCoordinator
                | Code::CoordinatorNotAvailable
                | Code::CoordinatorLoadInProgress
                | Code::NetworkException
                | Code::RebalanceInProgress
                | Code::PollExceeded
                | Code::FencedLeaderEpoch
                | Code::UnknownLeaderEpoch
        )
    )
}

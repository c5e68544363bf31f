//! What librdkafka calls back: partitions come and go. It calls on the thread that polls, so nothing
//! else of this consumer runs meanwhile.

use crate::stream::config::Start;
use feature_store::{SourceRecord, UserStateStore};
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest wait for the broker's answer while partitions are taken over.
const ANSWER: Duration = Duration::from_secs(10);

/// What a consumer and its callbacks share.
pub(super) struct Context {
    store: UserStateStore,
    source: String,
    start: Start,
    clock_ms: Box<dyn Fn() -> i64 + Send + Sync>,
    shared: Mutex<Shared>,
}

/// What happened in callbacks and is to be dealt with after the poll.
#[derive(Default)]
pub(super) struct Shared {
    /// Partitions that are ours.
    pub(super) assigned: BTreeSet<u32>,
    /// Partitions lost since the last poll: their messages in hand are to be dropped.
    pub(super) revoked: BTreeSet<u32>,
    /// Times that partitions came or went.
    pub(super) rebalances: u64,
    /// Why reading cannot start, if so.
    pub(super) failure: Option<String>,
}

impl Context {
    pub(super) fn new(
        store: UserStateStore,
        source: String,
        start: Start,
        clock_ms: Box<dyn Fn() -> i64 + Send + Sync>,
    ) -> Context {
        Context { store, source, start, clock_ms, shared: Mutex::default() }
    }

    pub(super) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets each partition to where the store says, or where a new source starts.
    fn place(&self, consumer: &BaseConsumer<Context>, partitions: &mut TopicPartitionList) -> Result<(), String> {
        let stored = self.store.positions(&self.source).map_err(|error| error.to_string())?;
        let names: Vec<(String, i32)> =
            partitions.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect();
        for (topic, partition) in names {
            let shown = |error: KafkaError| format!("topic {topic:?} partition {partition}: {error}");
            let (low, high) = consumer.fetch_watermarks(&topic, partition, ANSWER).map_err(shown)?;
            let next = match stored.get(&(partition as u32)) {
                Some(position) => continue_at(&topic, partition, *position, low, high)?,
                None => {
                    let next = self.start_at(consumer, &topic, partition, low, high).map_err(shown)?;
                    self.remember_start(partition as u32, next)?;
                    next
                }
            };
            partitions.set_partition_offset(&topic, partition, Offset::Offset(next)).map_err(shown)?;
        }
        Ok(())
    }

    /// Where a source starts of which nothing was applied.
    fn start_at(
        &self,
        consumer: &BaseConsumer<Context>,
        topic: &str,
        partition: i32,
        low: i64,
        high: i64,
    ) -> KafkaResult<i64> {
        let time_ms = match self.start {
            Start::Earliest => return Ok(low),
            Start::Latest => return Ok(high),
            Start::TimestampMs(time_ms) => time_ms,
            Start::LastS(seconds) => (self.clock_ms)().saturating_sub_unsigned(seconds.saturating_mul(1000)).max(0),
        };
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(topic, partition, Offset::Offset(time_ms))?;
        let answer = consumer.offsets_for_times(asked, ANSWER)?;
        match answer.find_partition(topic, partition).map(|element| element.offset()) {
            Some(Offset::Offset(offset)) => Ok(offset),
            // Nothing is that new.
            _ => Ok(high),
        }
    }

    /// Stores a start that is not the oldest message, so that a crash before the first write does
    /// not move it.
    fn remember_start(&self, partition: u32, next: i64) -> Result<(), String> {
        let Some(before) = u64::try_from(next).ok().and_then(|next| next.checked_sub(1)) else { return Ok(()) };
        let mark = SourceRecord { partition, offset: before, events: Vec::new() };
        self.store.apply(&self.source, &[mark]).map(|_| ()).map_err(|error| error.to_string())
    }
}

/// The offset after the stored one, if the topic still is the one it was.
fn continue_at(topic: &str, partition: i32, position: u64, low: i64, high: i64) -> Result<i64, String> {
    let next = i64::try_from(position).unwrap_or(i64::MAX).saturating_add(1);
    if next > high {
        return Err(format!(
            "topic {topic:?} partition {partition} ends at offset {high}, and offset {position} of it was applied: it \
             was made anew; give kafka.source another name"
        ));
    }
    if next < low {
        tracing::warn!(topic, partition, next, low, "messages were removed from the topic before they were applied");
    }
    Ok(next.max(low))
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Context>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let numbers: Vec<u32> = partitions.elements().iter().map(|element| element.partition() as u32).collect();
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let assigning = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        tracing::info!(source = self.source, ?numbers, assigning, "partitions of the group changed");
        let mut outcome = Ok(());
        if assigning {
            outcome = self.place(consumer, partitions);
        }
        let mut shared = self.shared();
        shared.rebalances += 1;
        if assigning && outcome.is_ok() {
            shared.assigned.extend(&numbers);
        } else {
            // What is in hand of them is dropped, never written after this: the next owner reads it.
            shared.assigned.retain(|partition| !numbers.contains(partition));
            shared.revoked.extend(&numbers);
        }
        let told = match (assigning && outcome.is_ok(), cooperative) {
            (true, true) => consumer.incremental_assign(partitions),
            (true, false) => consumer.assign(partitions),
            (false, true) => consumer.incremental_unassign(partitions),
            (false, false) => consumer.unassign(),
        };
        let failure = outcome.err().or(told.err().map(|error| error.to_string()));
        shared.failure = shared.failure.take().or(failure);
    }
}

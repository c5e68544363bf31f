//! What librdkafka calls back: partitions come and go, numbers arrive. It calls on the thread that
//! polls, so nothing else of this consumer runs meanwhile.

use super::{passes, refusal};
use crate::stream::begun::{Begun, begin};
use crate::stream::config::Start;
use crate::stream::{Clock, StreamError};
use feature_store::UserStateStore;
use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Longest wait for the broker's answer while partitions are taken over.
const ANSWER: Duration = Duration::from_secs(10);

/// Where positions lie and where a new source starts.
#[derive(Clone)]
pub(super) struct Places {
    pub(super) store: UserStateStore,
    pub(super) source: String,
    pub(super) start: Start,
    pub(super) clock_ms: Clock,
}

/// What a consumer and its callbacks share.
pub(super) struct Context {
    /// None of a client that only asks.
    places: Option<Places>,
    shared: Mutex<Shared>,
}

/// A partition that is ours: how far it was given out, and how far it reaches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    /// What the store said was applied when it became ours.
    pub(super) applied: Option<u64>,
    /// Offset of the next message to give out.
    pub(super) next: u64,
    /// Offset after the last message there is, as far as known.
    pub(super) end: u64,
}

/// Offsets that retention removed before they were applied.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// How many.
    pub(super) lost: u64,
    /// Partition -> offset up to which they are counted.
    counted: BTreeMap<u32, u64>,
}

impl Gaps {
    /// Takes in that a partition goes on at `from` where `next` was to come. One that is taken over again before
    /// anything of it was applied has the same gap, which counts once.
    fn note(&mut self, partition: u32, next: u64, from: u64) {
        let counted = self.counted.entry(partition).or_default();
        self.lost += from.saturating_sub(next.max(*counted));
        *counted = from.max(*counted);
    }
}

/// What happened in callbacks and is to be dealt with after the poll.
#[derive(Default)]
pub(super) struct Shared {
    /// Partitions that are ours.
    pub(super) assigned: BTreeMap<u32, Span>,
    /// Partitions lost since the last poll: their messages in hand are to be dropped.
    pub(super) revoked: BTreeSet<u32>,
    /// Times that partitions came or went.
    pub(super) rebalances: u64,
    /// What is gone of the partitions that were taken over.
    pub(super) gaps: Gaps,
    /// Brokers that the client is connected to; none until it counted.
    pub(super) brokers_up: Option<usize>,
    /// Why reading cannot start, if so.
    pub(super) failure: Option<StreamError>,
    /// The last failure that the library told, in its words.
    pub(super) last_told: Option<(RDKafkaErrorCode, String)>,
}

impl Context {
    /// Of a member of a group.
    pub(super) fn of(places: Places) -> Context {
        Context { places: Some(places), shared: Mutex::default() }
    }

    /// Of a client that joins no group, so that no partition is ever its own.
    pub(super) fn without_places() -> Context {
        Context { places: None, shared: Mutex::default() }
    }

    fn places(&self) -> &Places {
        self.places.as_ref().expect("only a member of a group is given partitions")
    }

    pub(super) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets each partition to where the store says, or where a new source starts.
    fn place(
        &self,
        consumer: &BaseConsumer<Context>,
        partitions: &mut TopicPartitionList,
    ) -> Result<BTreeMap<u32, Span>, StreamError> {
        let names: Vec<(String, i32)> =
            partitions.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect();
        let mut spans = BTreeMap::new();
        let Some((topic, _)) = names.first() else { return Ok(spans) };
        let begun = self.begun(consumer, topic, names.iter().map(|(_, partition)| *partition).collect())?;
        for (topic, partition) in &names {
            let shown = |error: KafkaError| refusal(format!("topic {topic:?} partition {partition}"), &error);
            let (low, high) = consumer.fetch_watermarks(topic, *partition, ANSWER).map_err(shown)?;
            let number = *partition as u32;
            let next = match begun.next(number) {
                Some(next) => {
                    let from = continue_at(topic, *partition, next, low, high)?;
                    self.shared().gaps.note(number, next, from as u64);
                    from
                }
                // The oldest is asked for, or the source began before there was such a partition: all of it is new.
                None => low,
            };
            partitions.set_partition_offset(topic, *partition, Offset::Offset(next)).map_err(shown)?;
            spans.insert(number, Span { applied: begun.applied(number), next: next as u64, end: high as u64 });
        }
        Ok(spans)
    }

    /// What the store says of the source. One that begins now, and not with the oldest messages, begins with all
    /// partitions of its topic at once, those of other members of the group too (`ours` are among them): later a
    /// partition of which the store says nothing is one that was made later.
    fn begun(&self, consumer: &BaseConsumer<Context>, topic: &str, ours: BTreeSet<i32>) -> Result<Begun, StreamError> {
        let Places { store, source, start, .. } = self.places();
        let begun = Begun::read(store, source)?;
        if begun.any() || *start == Start::Earliest {
            return Ok(begun);
        }
        let shown = |error: KafkaError| refusal(format!("topic {topic:?}"), &error);
        let known = consumer.fetch_metadata(Some(topic), ANSWER).map_err(shown)?;
        let found = known.topics().iter().filter(|found| found.name() == topic && found.error().is_none());
        let all: BTreeSet<i32> =
            found.flat_map(|topic| topic.partitions()).map(|partition| partition.id()).chain(ours).collect();
        let mut starts = BTreeMap::new();
        for partition in all {
            let (low, high) = consumer.fetch_watermarks(topic, partition, ANSWER).map_err(shown)?;
            let next = self.start_at(consumer, topic, partition, low, high).map_err(shown)?;
            starts.insert(partition as u32, next as u64);
        }
        begin(store, source, &starts)
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
        let places = self.places();
        let now_ms = || (places.clock_ms)();
        let time_ms = match places.start {
            Start::Earliest => return Ok(low),
            Start::Latest => return Ok(high),
            Start::TimestampMs(time_ms) => time_ms,
            Start::LastS(seconds) => now_ms().saturating_sub_unsigned(seconds.saturating_mul(1000)).max(0),
        };
        let mut asked = TopicPartitionList::new();
        asked.add_partition_offset(topic, partition, Offset::Offset(time_ms))?;
        let answer = consumer.offsets_for_times(asked, ANSWER)?;
        let found = answer.find_partition(topic, partition);
        let found = found.ok_or(KafkaError::OffsetFetch(RDKafkaErrorCode::UnknownPartition))?;
        // The answer may be there and say that the leader gave none: its end for a start would pass messages over.
        found.error()?;
        match found.offset() {
            Offset::Offset(offset) => Ok(offset),
            // Nothing is that new.
            _ => Ok(high),
        }
    }
}

/// The offset with which a partition goes on, if the topic still is the one it was.
fn continue_at(topic: &str, partition: i32, next: u64, low: i64, high: i64) -> Result<i64, StreamError> {
    let next = i64::try_from(next).unwrap_or(i64::MAX);
    if next > high {
        let reason = format!(
            "ends at offset {high}, and reading goes on at offset {next}: it was made anew; give kafka.source \
             another name"
        );
        return Err(StreamError::kafka(format!("topic {topic:?} partition {partition}"), reason));
    }
    if next < low {
        tracing::warn!(topic, partition, next, low, "messages were removed from the topic before they were applied");
    }
    Ok(next.max(low))
}

impl ClientContext for Context {
    fn error(&self, error: KafkaError, reason: &str) {
        // The poll that follows returns its code, and decides whether it passes.
        if let Some(code) = error.rdkafka_error_code()
            && code != RDKafkaErrorCode::AllBrokersDown
        {
            self.shared().last_told = Some((code, reason.to_owned()));
        }
    }

    fn stats(&self, statistics: Statistics) {
        let up = statistics.brokers.values().filter(|broker| broker.state == "UP").count();
        let mut shared = self.shared();
        shared.brokers_up = Some(up);
        for topic in statistics.topics.values() {
            for (partition, found) in &topic.partitions {
                let span = u32::try_from(*partition).ok().and_then(|number| shared.assigned.get_mut(&number));
                // Negative as long as nothing was fetched.
                if let (Some(span), Ok(end)) = (span, u64::try_from(found.hi_offset)) {
                    span.end = end.max(span.next);
                }
            }
        }
    }
}

impl ConsumerContext for Context {
    fn rebalance(&self, consumer: &BaseConsumer<Context>, what: RDKafkaRespErr, partitions: &mut TopicPartitionList) {
        let numbers: Vec<u32> = partitions.elements().iter().map(|element| element.partition() as u32).collect();
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        let assigning = what == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        tracing::info!(source = self.places().source, ?numbers, assigning, "partitions of the group changed");
        let mut placed = Ok(BTreeMap::new());
        if assigning {
            placed = self.place(consumer, partitions);
        }
        let taking = assigning && placed.is_ok();
        let told = match (taking, cooperative) {
            (true, true) => consumer.incremental_assign(partitions),
            (true, false) => consumer.assign(partitions),
            (false, true) => consumer.incremental_unassign(partitions),
            (false, false) => consumer.unassign(),
        };
        let mut shared = self.shared();
        shared.rebalances += 1;
        let failure = match placed {
            Ok(spans) if assigning => {
                shared.assigned.extend(spans);
                None
            }
            outcome => {
                // What is in hand of them is dropped, never written after this: the next owner reads it.
                shared.assigned.retain(|partition, _| !numbers.contains(partition));
                shared.revoked.extend(&numbers);
                outcome.err()
            }
        };
        let told = told.err().map(|error| StreamError::Kafka {
            what: format!("partitions {numbers:?}"),
            reason: error.to_string(),
            passes: passes(&error),
        });
        shared.failure = shared.failure.take().or(failure).or(told);
    }
}

#[cfg(test)]
mod tests {
    use super::Gaps;

    #[test]
    fn a_gap_counts_once_however_often_its_partition_is_taken_over() {
        let mut gaps = Gaps::default();
        let mut check = |partition: u32, next: u64, from: u64, lost: u64| {
            gaps.note(partition, next, from);
            assert_eq!(gaps.lost, lost, "partition {partition} at {next}, then {from}");
        };
        check(0, 5, 5, 0);
        check(0, 5, 9, 4);
        check(0, 5, 9, 4);
        check(0, 5, 12, 7);
        check(1, 0, 3, 10);
        check(0, 14, 14, 10);
        check(0, 14, 20, 16);
    }
}

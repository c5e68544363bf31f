//! What a consumer counts. Cheap to update, and read as one value; who waits for an event to be applied
//! waits here.

use super::message::{Message, Place};
use feature_store::BatchOutcome;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// Upper bounds of the buckets of [`StreamStats::freshness`], in seconds.
pub const FRESHNESS_BOUNDS_S: [f64; 10] = [0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0, 300.0];

/// Numbers since a consumer started, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StreamStats {
    /// Messages read, replays included.
    pub messages: u64,
    /// Interactions now in a history.
    pub applied: u64,
    /// Interactions dropped because their event id was there.
    pub duplicates: u64,
    /// Messages skipped because their effects were there.
    pub replayed: u64,
    /// Users forgotten.
    pub users_deleted: u64,
    /// Changes of items.
    pub items_changed: u64,
    /// Messages that no decoder took; each went to the dead letters.
    pub invalid: u64,
    /// Messages acknowledged by the topic or log of dead letters.
    pub dead_letters: u64,
    /// Durable writes.
    pub batches: u64,
    /// Times that partitions came or went.
    pub rebalances: u64,
    /// Offsets passed over because no message lies there any more: the oldest of a topic or a log were removed before
    /// they were applied, or writes to a log failed.
    pub lost: u64,
    /// Messages not yet read, by partition, as far as known.
    pub lag: BTreeMap<u32, u64>,
    /// Whether the source answers, as far as known.
    pub connected: bool,
    /// When the consumer started, in milliseconds since the Unix epoch.
    pub started_at_ms: Option<i64>,
    /// When the last write was durable, in milliseconds since the Unix epoch.
    pub durable_at_ms: Option<i64>,
    /// When the source was last seen to hold nothing more, in milliseconds since the Unix epoch.
    pub current_at_ms: Option<i64>,
    /// Of the last write: from the oldest of its messages being taken by the broker or the log to
    /// its effects being durable and visible, in milliseconds.
    pub freshness_ms: Option<i64>,
    /// The same of every message: how many took at most as long as the bound of
    /// [`FRESHNESS_BOUNDS_S`] at the same place, and longer than the bound before.
    pub freshness: [u64; FRESHNESS_BOUNDS_S.len() + 1],
    /// The same times added up, in milliseconds.
    pub freshness_sum_ms: u64,
    /// Why the consumer ended, if it did.
    pub ended: Option<String>,
}

impl StreamStats {
    /// Milliseconds at `now_ms` since the state was known to hold what the source held: since the last
    /// durable write, or the last look that found nothing to write. It grows when the consumer is stuck,
    /// and not when there is nothing to do. 0 before the start.
    pub fn checkpoint_age_ms(&self, now_ms: i64) -> i64 {
        let last = self.durable_at_ms.max(self.current_at_ms).or(self.started_at_ms);
        last.map_or(0, |last_ms| (now_ms - last_ms).max(0))
    }
}

/// The numbers of a running consumer, shared between threads.
#[derive(Debug, Default)]
pub struct StreamMetrics {
    stats: Mutex<StreamStats>,
    /// Offset up to which each partition is applied, as far as known.
    reached: watch::Sender<BTreeMap<u32, u64>>,
}

/// What a look at the source tells.
pub(super) struct Look {
    pub(super) lag: BTreeMap<u32, u64>,
    pub(super) rebalances: u64,
    pub(super) lost: u64,
    pub(super) connected: bool,
}

impl StreamMetrics {
    /// The numbers now.
    pub fn stats(&self) -> StreamStats {
        self.lock().clone()
    }

    /// True once everything at `places` is in the state, false if that takes longer than `wait`. A place
    /// without an offset is never known to be. Runs on a tokio runtime with time enabled.
    pub async fn wait_applied(&self, places: &[Place], wait: Duration) -> bool {
        let applied = |reached: &BTreeMap<u32, u64>, place: &Place| {
            place.offset.is_some_and(|offset| reached.get(&place.partition).is_some_and(|last| *last >= offset))
        };
        let mut reached = self.reached.subscribe();
        let all = reached.wait_for(|reached| places.iter().all(|place| applied(reached, place)));
        tokio::time::timeout(wait, all).await.is_ok_and(|seen| seen.is_ok())
    }

    /// Says that the consumer has ended, and why if it was an error.
    pub fn ended(&self, reason: impl Into<String>) {
        self.lock().ended = Some(reason.into());
    }

    pub(super) fn started(&self, now_ms: i64) {
        let mut stats = self.lock();
        stats.started_at_ms = Some(now_ms);
        stats.ended = None;
    }

    pub(super) fn wrote(&self, outcome: BatchOutcome, messages: usize, dead: usize, reached: &BTreeMap<u32, u64>) {
        let mut stats = self.lock();
        stats.batches += 1;
        stats.messages += messages as u64;
        stats.applied += outcome.applied as u64;
        stats.duplicates += outcome.duplicates as u64;
        stats.replayed += outcome.replayed as u64;
        stats.users_deleted += outcome.users_deleted as u64;
        stats.items_changed += outcome.items_changed as u64;
        stats.invalid += dead as u64;
        stats.dead_letters += dead as u64;
        drop(stats);
        self.reached(reached);
    }

    /// Whether anyone waits for an event to be applied.
    pub fn awaited(&self) -> bool {
        self.reached.receiver_count() > 0
    }

    /// Says how far partitions are applied, by this consumer or another.
    pub fn reached(&self, reached: &BTreeMap<u32, u64>) {
        self.reached.send_modify(|all| {
            for (partition, offset) in reached {
                let last = all.entry(*partition).or_default();
                *last = (*last).max(*offset);
            }
        });
    }

    /// After a durable write of a batch.
    pub(super) fn durable(&self, now_ms: i64, batch: &[Message], look: Look) {
        let mut stats = self.lock();
        stats.durable_at_ms = Some(now_ms);
        let mut oldest_ms = None;
        for taken_ms in batch.iter().filter_map(|message| message.taken_ms) {
            oldest_ms = Some(oldest_ms.map_or(taken_ms, |oldest: i64| oldest.min(taken_ms)));
            // The broker's clock may be ahead of ours.
            let took_ms = (now_ms - taken_ms).max(0) as u64;
            let at = FRESHNESS_BOUNDS_S.partition_point(|bound| bound * 1e3 < took_ms as f64);
            stats.freshness[at] += 1;
            stats.freshness_sum_ms = stats.freshness_sum_ms.saturating_add(took_ms);
        }
        stats.freshness_ms = oldest_ms.map(|oldest_ms| (now_ms - oldest_ms).max(0));
        stats.take(look);
    }

    /// After a look that found nothing to write; `current` if the source has nothing more.
    pub(super) fn idle(&self, now_ms: i64, current: bool, look: Look) {
        let mut stats = self.lock();
        if current {
            stats.current_at_ms = Some(now_ms);
        }
        stats.take(look);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, StreamStats> {
        // Numbers are whole after each line: a panic elsewhere does not spoil them.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl StreamStats {
    fn take(&mut self, look: Look) {
        self.lag = look.lag;
        self.rebalances = look.rebalances;
        self.lost = look.lost;
        self.connected = look.connected;
    }
}

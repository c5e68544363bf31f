//! What a consumer counts. Cheap to update, and read as one value.

use feature_store::BatchOutcome;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Numbers since a consumer started, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// Messages not yet read, by partition, as far as known.
    pub lag: BTreeMap<u32, u64>,
    /// When the last write was durable, in milliseconds since the Unix epoch: now less this is the
    /// age of the checkpoint.
    pub durable_at_ms: Option<i64>,
    /// Of the last write: from the oldest of its messages being taken by the broker or the log to
    /// its effects being durable and visible, in milliseconds.
    pub freshness_ms: Option<i64>,
}

/// The numbers of a running consumer, shared between threads.
#[derive(Debug, Default)]
pub struct StreamMetrics {
    stats: Mutex<StreamStats>,
}

impl StreamMetrics {
    /// The numbers now.
    pub fn stats(&self) -> StreamStats {
        self.lock().clone()
    }

    pub(super) fn wrote(&self, outcome: BatchOutcome, messages: usize, dead: usize) {
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
    }

    pub(super) fn durable(&self, now_ms: i64, oldest_ms: Option<i64>, lag: BTreeMap<u32, u64>, rebalances: u64) {
        let mut stats = self.lock();
        stats.durable_at_ms = Some(now_ms);
        // The broker's clock may be ahead of ours.
        stats.freshness_ms = oldest_ms.map(|oldest_ms| (now_ms - oldest_ms).max(0));
        stats.lag = lag;
        stats.rebalances = rebalances;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, StreamStats> {
        // Numbers are whole after each line: a panic elsewhere does not spoil them.
        self.stats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

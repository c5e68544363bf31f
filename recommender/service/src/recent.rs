//! Requests of late: what another Bundle is warmed up and compared on before it is served.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Requests kept.
const KEPT: usize = 64;
/// One request in this many is recorded once the list is full.
const ONE_IN: u64 = 16;

/// Whom items were wanted for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A user, by key.
    User(String),
    /// Item keys, oldest first.
    Inline(Vec<String>),
}

/// A short list of requests, newest last.
#[derive(Default)]
pub(crate) struct Recent {
    counted: AtomicU64,
    kept: Mutex<VecDeque<Asked>>,
}

impl Recent {
    /// Records a request now and then; `asked` is only called if it is recorded.
    pub(crate) fn note(&self, asked: impl FnOnce() -> Asked) {
        let number = self.counted.fetch_add(1, Ordering::Relaxed);
        if number >= KEPT as u64 && !number.is_multiple_of(ONE_IN) {
            return;
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(asked());
    }

    /// What is kept, oldest first.
    pub(crate) fn list(&self) -> Vec<Asked> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}

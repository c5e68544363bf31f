//! The best k of a stream: a bounded heap whose root is the worst result kept.

use crate::Scored;
use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Keeps the `k` best results: larger score first, equal scores by lower id.
pub(crate) struct Best {
    k: usize,
    heap: BinaryHeap<WorstFirst>,
}

impl Best {
    /// `k` is at least 1; `most` is the largest number of results that can come, so that a large k
    /// over a small table reserves little.
    pub(crate) fn new(k: usize, most: usize) -> Best {
        assert!(k >= 1, "the caller checks k");
        Best { k, heap: BinaryHeap::with_capacity(k.min(most)) }
    }

    /// Whether [`Best::push`] would keep this result now.
    #[inline]
    pub(crate) fn wants(&self, candidate: Scored) -> bool {
        self.heap.len() < self.k || self.heap.peek().is_some_and(|worst| better(&candidate, &worst.0).is_lt())
    }

    /// Adds a result that [`Best::wants`], dropping the worst when k are there.
    #[inline]
    pub(crate) fn push(&mut self, candidate: Scored) {
        debug_assert!(self.wants(candidate));
        if self.heap.len() == self.k {
            self.heap.pop();
        }
        self.heap.push(WorstFirst(candidate));
    }

    /// The results, best first.
    pub(crate) fn into_sorted(self) -> Vec<Scored> {
        // A max-heap on "worse" sorts ascending: the best comes first.
        self.heap.into_sorted_vec().into_iter().map(|entry| entry.0).collect()
    }
}

/// `Less` if `a` comes before `b` in a result list. Total, so results never depend on scan order.
fn better(a: &Scored, b: &Scored) -> Ordering {
    b.score.total_cmp(&a.score).then(a.id.cmp(&b.id))
}

struct WorstFirst(Scored);

impl Ord for WorstFirst {
    fn cmp(&self, other: &Self) -> Ordering {
        better(&self.0, &other.0)
    }
}

impl PartialOrd for WorstFirst {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for WorstFirst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for WorstFirst {}

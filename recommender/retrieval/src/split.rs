//! Dividing blocks of rows between threads.
//!
//! Chunks are taken from a counter, not dealt out beforehand: a thread that another program holds up
//! takes fewer.

use crate::layout::BLOCK;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes of table of a chunk: long runs for the memory's prefetcher, short enough to balance.
const CHUNK_BYTES: usize = 256 * 1024;
/// Below this many bytes of table a query stays on one thread: waking another takes longer than it saves.
const SPLIT_BYTES: usize = 2 * 1024 * 1024;

/// Chunks of blocks that are not taken yet.
pub(crate) struct Chunks {
    next: AtomicUsize,
    chunk: usize,
    blocks: usize,
}

impl Chunks {
    /// `row_bytes` is what a scan reads of a row.
    pub(crate) fn new(blocks: usize, row_bytes: usize) -> Chunks {
        let chunk = (CHUNK_BYTES / (row_bytes * BLOCK).max(1)).max(1);
        Chunks { next: AtomicUsize::new(0), chunk, blocks }
    }

    /// The next chunk for the thread that asks.
    pub(crate) fn take(&self) -> Option<Range<usize>> {
        let start = self.next.fetch_add(self.chunk, Ordering::Relaxed);
        (start < self.blocks).then(|| start..(start + self.chunk).min(self.blocks))
    }
}

/// How many threads of `threads` a scan of so many bytes should use, `work` times over.
pub(crate) fn threads_for(bytes: usize, work: usize, threads: usize) -> usize {
    if bytes.saturating_mul(work) < SPLIT_BYTES { 1 } else { threads }
}

/// Runs `work` on the calling thread and on `threads - 1` of the pool; each takes chunks until none is left.
pub(crate) fn run<R: Send>(threads: usize, work: impl Fn() -> R + Sync) -> Vec<R> {
    if threads <= 1 {
        return vec![work()];
    }
    let mut others: Vec<Option<R>> = (1..threads).map(|_| None).collect();
    let own = rayon::in_place_scope(|scope| {
        for place in &mut others {
            scope.spawn(|_| *place = Some(work()));
        }
        work()
    });
    std::iter::once(own).chain(others.into_iter().flatten()).collect()
}

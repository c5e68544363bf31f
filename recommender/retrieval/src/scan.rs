//! One query against the whole table: score 64 rows, compare them with the worst result kept, go on.

use crate::bitset::bits;
use crate::kernel::Kernel;
use crate::layout::{BLOCK, Layout};
use crate::select::Best;
use crate::{Filter, Scored, split};

/// Of 64 rows, up to this many are scored one by one; more, and scoring all 64 in order is faster: a row
/// read alone takes up to twice as long as one read in order (`benches/filters.rs`).
const SPARSE: u32 = 24;

/// A table as a scan sees it, at one dim.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) layout: &'a Layout,
    pub(crate) values: &'a [f32],
    pub(crate) kernel: Kernel,
    pub(crate) level: usize,
    /// [rows]: multiplies each score.
    pub(crate) scale: Option<&'a [f32]>,
}

/// Rows that may be results.
#[derive(Clone, Copy)]
pub(crate) struct Allowed<'a> {
    pub(crate) filter: &'a Filter<'a>,
    /// Asked last, for the rows that reach the worst result kept.
    pub(crate) accept: &'a dyn Fn(u32) -> bool,
}

/// The best `k` of the table on up to `threads` threads; `query` is padded.
pub(crate) fn top_k(view: View<'_>, query: &[f32], k: usize, filter: &Filter<'_>, threads: usize) -> Best {
    let row_bytes = size_of_val(query);
    let blocks = view.layout.blocks();
    let threads = split::threads_for(blocks * BLOCK * row_bytes, 1, threads);
    let chunks = split::Chunks::new(blocks, row_bytes);
    let parts = split::run(threads, || {
        let mut scan = Scan::new(view, query, k);
        let allowed = Allowed { filter, accept: &|id| filter.list_accepts(id) };
        while let Some(chunk) = chunks.take() {
            chunk.for_each(|block| scan.block(block, allowed));
        }
        scan.finish(allowed)
    });
    merge(parts)
}

/// As [`top_k`] on one thread, with a function in place of a filter.
pub(crate) fn top_k_where(view: View<'_>, query: &[f32], k: usize, accept: &dyn Fn(u32) -> bool) -> Vec<Scored> {
    let filter = Filter::all();
    let allowed = Allowed { filter: &filter, accept };
    let mut scan = Scan::new(view, query, k);
    (0..view.layout.blocks()).for_each(|block| scan.block(block, allowed));
    scan.finish(allowed).into_sorted()
}

/// What the threads kept, as one.
pub(crate) fn merge(parts: Vec<Best>) -> Best {
    let mut parts = parts.into_iter();
    let first = parts.next().expect("work runs on the calling thread at least");
    parts.fold(first, |mut all, part| {
        all.absorb(part);
        all
    })
}

/// One thread's part of a query.
struct Scan<'a> {
    view: View<'a>,
    query: &'a [f32],
    best: Best,
    /// Single rows of sparse blocks, waiting until there are enough to fill the registers.
    pending: Vec<u32>,
}

impl<'a> Scan<'a> {
    fn new(view: View<'a>, query: &'a [f32], k: usize) -> Scan<'a> {
        Scan { view, query, best: Best::new(k, view.layout.rows()), pending: Vec::new() }
    }

    fn block(&mut self, block: usize, allowed: Allowed<'_>) {
        let word = allowed.filter.word(block, self.view.layout.rows());
        if word.count_ones() <= SPARSE {
            self.pending.extend(bits(word).map(|bit| (block * BLOCK + bit) as u32));
            if self.pending.len() >= BLOCK {
                self.flush(allowed);
            }
            return;
        }
        let View { layout, values, kernel, level, scale } = self.view;
        let first = block * BLOCK;
        let mut scores = [0.0f32; BLOCK];
        for cut in layout.cuts(level, 0) {
            kernel.add_block(values, cut, first, self.query, &mut scores);
        }
        if let Some(scale) = scale {
            scores.iter_mut().zip(&scale[first..]).for_each(|(score, factor)| *score *= factor);
        }
        let reached = kernel.reaching(&scores, self.best.threshold()) & word;
        for bit in bits(reached) {
            offer(&mut self.best, Scored { id: (first + bit) as u32, score: scores[bit] }, allowed.accept);
        }
    }

    /// Scores the pending rows.
    fn flush(&mut self, allowed: Allowed<'_>) {
        let View { layout, values, kernel, level, scale } = self.view;
        let mut scores = vec![0.0; self.pending.len()];
        for cut in layout.cuts(level, 0) {
            kernel.add_rows(values, cut, &self.pending, self.query, &mut scores);
        }
        for (&id, &score) in self.pending.iter().zip(&scores) {
            let score = scale.map_or(score, |scale| score * scale[id as usize]);
            offer(&mut self.best, Scored { id, score }, allowed.accept);
        }
        self.pending.clear();
    }

    fn finish(mut self, allowed: Allowed<'_>) -> Best {
        self.flush(allowed);
        self.best
    }
}

/// Keeps a candidate that is good enough and allowed.
#[inline]
pub(crate) fn offer(best: &mut Best, candidate: Scored, accept: &dyn Fn(u32) -> bool) {
    if best.wants(candidate) && accept(candidate.id) {
        best.push(candidate);
    }
}

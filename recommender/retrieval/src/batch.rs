//! Many queries against the table at once: a product of matrices whose scores are never written out.
//!
//! For 64 rows at a time and cut by cut: the rows are packed into panels in the first caches, the
//! panel kernel adds their products with every query to 64 scores a query, and after the last cut each
//! strip of 64 is compared with the worst result its query keeps.

use crate::bitset::bits;
use crate::kernel::{Kernel, PANEL, QUERIES, Strips, width};
use crate::layout::{BLOCK, CUT, GROUP, LANES, LINE, Layout, Segment};
use crate::scan::{View, merge, offer};
use crate::select::Best;
use crate::{Filter, Scored, split};
use std::ops::Range;

/// Fewer queries than this are scored one after the other, a block at a time: packing would not pay.
const PACK_QUERIES: usize = 4;

/// Queries in the order in which panels use them: cut, group of queries, lane, column of the lane, query.
pub(crate) struct Queries {
    padded: Vec<f32>,
    packed: Vec<f32>,
    groups: Vec<Range<usize>>,
}

impl Queries {
    /// From row-major queries of a level's dim.
    pub(crate) fn new(layout: &Layout, queries: &[f32], level: usize) -> Queries {
        let (dim, columns) = (layout.dims()[level], layout.padded(level));
        let count = queries.len() / dim;
        let mut padded = vec![0.0; count * columns];
        for (query, place) in queries.chunks_exact(dim).zip(padded.chunks_exact_mut(columns)) {
            layout.pad(query, level, place);
        }
        let groups = even_groups(count);
        let mut packed = Vec::with_capacity(padded.len());
        let mut first = 0;
        for cut in layout.cuts(level, 0) {
            let width = width(cut);
            for group in &groups {
                for lane in 0..LANES {
                    for column in (first + lane..first + width).step_by(LANES) {
                        packed.extend(group.clone().map(|query| padded[query * columns + column]));
                    }
                }
            }
            first += width;
        }
        Queries { padded, packed, groups }
    }

    /// Number of queries.
    fn count(&self) -> usize {
        self.groups.last().map_or(0, |group| group.end)
    }
}

/// Groups of at most [`QUERIES`], as equal as can be: a group of 1 would use a sixth of the registers.
fn even_groups(count: usize) -> Vec<Range<usize>> {
    let groups = count.div_ceil(QUERIES);
    (0..groups).map(|at| at * count / groups..(at + 1) * count / groups).collect()
}

/// For each query the best `k` of the table. `filters` has one filter, or one a query.
pub(crate) fn top_k(
    view: View<'_>,
    queries: &Queries,
    k: usize,
    filters: &[Filter<'_>],
    threads: usize,
) -> Vec<Vec<Scored>> {
    let row_bytes = view.layout.padded(view.level) * size_of::<f32>();
    let blocks = view.layout.blocks();
    let threads = split::threads_for(blocks * BLOCK * row_bytes, queries.count(), threads);
    let chunks = split::Chunks::new(blocks, row_bytes);
    let mut parts = split::run(threads, || {
        let mut work = Work::new(view, queries, k, filters);
        while let Some(chunk) = chunks.take() {
            chunk.for_each(|block| work.block(block));
        }
        work.best.into_iter()
    });
    let merged = (0..queries.count()).map(|_| merge(parts.iter_mut().filter_map(Iterator::next).collect()));
    merged.map(Best::into_sorted).collect()
}

/// One thread's part of a batch.
struct Work<'a> {
    view: View<'a>,
    queries: &'a Queries,
    filters: &'a [Filter<'a>],
    best: Vec<Best>,
    /// One cut of 16 rows.
    panel: Vec<f32>,
    /// Of 64 rows, for each query.
    scores: Vec<[f32; BLOCK]>,
    /// Bits of the current block that each filter lets through.
    words: Vec<u64>,
}

impl<'a> Work<'a> {
    fn new(view: View<'a>, queries: &'a Queries, k: usize, filters: &'a [Filter<'a>]) -> Work<'a> {
        let count = queries.count();
        Work {
            view,
            queries,
            filters,
            best: (0..count).map(|_| Best::new(k, view.layout.rows())).collect(),
            panel: vec![0.0; CUT * PANEL],
            scores: vec![[0.0; BLOCK]; count],
            words: vec![0; filters.len()],
        }
    }

    fn block(&mut self, block: usize) {
        let rows = self.view.layout.rows();
        for (word, filter) in self.words.iter_mut().zip(self.filters) {
            *word = filter.word(block, rows);
        }
        let any = self.words.iter().fold(0, |any, word| any | word);
        if any != 0 {
            if self.queries.count() < PACK_QUERIES {
                self.score_each(block)
            } else {
                self.score_panels(block, any)
            }
            self.select(block);
        }
    }

    /// One query after the other: after the first, the block is in the second cache.
    fn score_each(&mut self, block: usize) {
        let View { layout, values, kernel, level, .. } = self.view;
        let columns = layout.padded(level);
        for (query, scores) in self.queries.padded.chunks_exact(columns).zip(&mut self.scores) {
            scores.fill(0.0);
            for cut in layout.cuts(level, 0) {
                kernel.add_block(values, cut, block * BLOCK, query, scores);
            }
        }
    }

    fn score_panels(&mut self, block: usize, any: u64) {
        let View { layout, values, kernel, level, .. } = self.view;
        let strips = self.scores.as_flattened_mut();
        let mut queries = self.queries.packed.as_slice();
        for (at, cut) in layout.cuts(level, 0).enumerate() {
            let width = width(cut);
            let panel = &mut self.panel[..width * PANEL];
            let (now, later) = queries.split_at(self.queries.count() * width);
            for first in (0..BLOCK).step_by(PANEL).filter(|first| any >> first & panel_mask() != 0) {
                let row = block * BLOCK + first;
                kernel.pack(values, cut, row, panel);
                // While the processor multiplies, memory brings the rows after these.
                let mut ahead = Ahead::new(cut, row + PANEL, self.queries.groups.len());
                for group in &self.queries.groups {
                    ahead.fetch(kernel, values);
                    let queries = &now[group.start * width..group.end * width];
                    let scores = &mut strips[group.start * BLOCK + first..];
                    let strips = Strips { scores, stride: BLOCK, fresh: at == 0 };
                    kernel.add_panel(panel, queries, group.len(), strips);
                }
            }
            queries = later;
        }
    }

    fn select(&mut self, block: usize) {
        for (query, (scores, best)) in self.scores.iter().zip(&mut self.best).enumerate() {
            let which = if self.filters.len() == 1 { 0 } else { query };
            let reached = self.view.kernel.reaching(scores, best.threshold()) & self.words[which];
            for bit in bits(reached) {
                let candidate = Scored { id: (block * BLOCK + bit) as u32, score: scores[bit] };
                offer(best, candidate, &|id| self.filters[which].list_accepts(id));
            }
        }
    }
}

/// The lines of a panel to come, a share at a time.
struct Ahead<'a> {
    segments: &'a [Segment],
    row: usize,
    /// Lines of the first segment that are fetched already.
    done: usize,
    share: usize,
}

impl<'a> Ahead<'a> {
    fn new(cut: &'a [Segment], row: usize, shares: usize) -> Ahead<'a> {
        let lines: usize = cut.iter().map(|segment| segment.width * PANEL / LINE).sum();
        Ahead { segments: cut, row, done: 0, share: lines.div_ceil(shares) }
    }

    fn fetch(&mut self, kernel: Kernel, values: &[f32]) {
        let mut left = self.share;
        while let Some((segment, later)) = self.segments.split_first().filter(|_| left > 0) {
            // A segment of a panel is two groups of rows, each contiguous.
            let run = segment.width * GROUP / LINE;
            let (group, line) = (self.done / run, self.done % run);
            let lines = left.min(run - line);
            let start = segment.offset + (self.row + group * GROUP) * segment.stride + line * LINE;
            kernel.prefetch(values, start, lines);
            (self.done, left) = (self.done + lines, left - lines);
            if self.done == run * PANEL / GROUP {
                (self.segments, self.done) = (later, 0);
            }
        }
    }
}

const fn panel_mask() -> u64 {
    (1 << PANEL) - 1
}

#[cfg(test)]
mod tests {
    use super::{QUERIES, even_groups};

    #[test]
    fn groups_cover_all_queries_and_are_even() {
        for count in 1..100 {
            let groups = even_groups(count);
            assert_eq!(groups.iter().flat_map(Clone::clone).collect::<Vec<_>>(), (0..count).collect::<Vec<_>>());
            let sizes = || groups.iter().map(|group| group.len());
            assert!(sizes().max().unwrap() <= QUERIES && sizes().max().unwrap() - sizes().min().unwrap() <= 1);
        }
    }
}

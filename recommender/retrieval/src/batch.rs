//! Many queries against the table at once: a product of matrices whose scores are never written out.
//!
//! For 16 rows at a time: the rows of a cut are gathered from their slices into the first cache, the
//! micro kernel adds their products with every query to a 16-wide strip of scores a query, and after
//! the last cut each strip is compared with the worst result its query keeps.

use crate::bitset::bits;
use crate::kernel::{Panel, TILE};
use crate::layout::{BLOCK, CUT, Layout, Segment};
use crate::scan::{View, merge, offer};
use crate::select::Best;
use crate::{Filter, Scored, split};

/// Queries cut by cut: the first cut of all queries, then the second.
pub(crate) struct Queries {
    count: usize,
    values: Vec<f32>,
}

impl Queries {
    /// From padded queries [count, padded], row-major.
    pub(crate) fn new(padded: &[f32], width: usize) -> Queries {
        let mut values = Vec::with_capacity(padded.len());
        for start in (0..width).step_by(CUT) {
            let end = (start + CUT).min(width);
            padded.chunks_exact(width).for_each(|query| values.extend_from_slice(&query[start..end]));
        }
        Queries { count: padded.len() / width, values }
    }
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
    let threads = split::threads_for(blocks * BLOCK * row_bytes, queries.count, threads);
    let chunks = split::Chunks::new(blocks, row_bytes);
    let mut parts = split::run(threads, || {
        let mut work = Work::new(view, queries, k, filters);
        while let Some(chunk) = chunks.take() {
            chunk.for_each(|block| work.block(block));
        }
        work.best.into_iter()
    });
    let merged = (0..queries.count).map(|_| merge(parts.iter_mut().filter_map(Iterator::next).collect()));
    merged.map(Best::into_sorted).collect()
}

/// One thread's part of a batch.
struct Work<'a> {
    view: View<'a>,
    queries: &'a Queries,
    filters: &'a [Filter<'a>],
    best: Vec<Best>,
    /// [TILE, CUT]: rows of a cut that lie in several slices.
    gathered: Vec<f32>,
    scores: Vec<[f32; TILE]>,
    /// Bits of the current block that each filter lets through.
    words: Vec<u64>,
}

impl<'a> Work<'a> {
    fn new(view: View<'a>, queries: &'a Queries, k: usize, filters: &'a [Filter<'a>]) -> Work<'a> {
        let count = queries.count;
        Work {
            view,
            queries,
            filters,
            best: (0..count).map(|_| Best::new(k, view.layout.rows())).collect(),
            gathered: vec![0.0; TILE * CUT],
            scores: vec![[0.0; TILE]; count],
            words: vec![0; filters.len()],
        }
    }

    fn block(&mut self, block: usize) {
        let rows = self.view.layout.rows();
        for (word, filter) in self.words.iter_mut().zip(self.filters) {
            *word = filter.word(block, rows);
        }
        let any = self.words.iter().fold(0, |any, word| any | word);
        for tile in 0..BLOCK / TILE {
            if any >> (tile * TILE) & tile_mask() != 0 {
                self.score(block * BLOCK + tile * TILE);
                self.select(block * BLOCK + tile * TILE, tile * TILE);
            }
        }
    }

    /// Scores rows `first..first + TILE` for every query.
    fn score(&mut self, first: usize) {
        let View { layout, values, kernel, level, .. } = self.view;
        self.scores.fill([0.0; TILE]);
        let mut queries = self.queries.values.as_slice();
        for cut in layout.cuts(level, 0) {
            let panel = panel(values, cut, first, &mut self.gathered);
            let (now, later) = queries.split_at(self.queries.count * panel.width);
            kernel.add_panel(panel, now, &mut self.scores);
            queries = later;
        }
    }

    fn select(&mut self, first: usize, shift: usize) {
        for (query, (scores, best)) in self.scores.iter().zip(&mut self.best).enumerate() {
            let reached = self.view.kernel.reaching(scores, best.threshold());
            if reached == 0 {
                continue;
            }
            let which = if self.filters.len() == 1 { 0 } else { query };
            for bit in bits(reached & self.words[which] >> shift) {
                let candidate = Scored { id: (first + bit) as u32, score: scores[bit] };
                offer(best, candidate, &|id| self.filters[which].list_accepts(id));
            }
        }
    }
}

const fn tile_mask() -> u64 {
    (1 << TILE) - 1
}

/// Rows `first..` of one cut: where they lie if that is one slice, else gathered side by side.
fn panel<'a>(values: &'a [f32], cut: &[Segment], first: usize, gathered: &'a mut [f32]) -> Panel<'a> {
    if let [only] = cut {
        return Panel { values: &values[only.offset + first * only.stride..], stride: only.stride, width: only.width };
    }
    let width = cut.iter().map(|segment| segment.width).sum();
    for row in 0..TILE {
        let mut place = &mut gathered[row * width..][..width];
        for segment in cut {
            let (now, later) = place.split_at_mut(segment.width);
            now.copy_from_slice(&values[segment.offset + (first + row) * segment.stride..][..segment.width]);
            place = later;
        }
    }
    Panel { values: gathered, stride: width, width }
}

/// Padded queries side by side, from row-major queries of a level's dim.
pub(crate) fn pad(layout: &Layout, queries: &[f32], level: usize) -> Vec<f32> {
    let (dim, padded) = (layout.dims()[level], layout.padded(level));
    let mut values = vec![0.0; queries.len() / dim * padded];
    for (query, place) in queries.chunks_exact(dim).zip(values.chunks_exact_mut(padded)) {
        layout.pad(query, level, place);
    }
    values
}

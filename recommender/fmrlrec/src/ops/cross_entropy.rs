//! Cross entropy over all nesting dims (paper section 3.3) with its gradients. Items are taken in
//! tiles that stay in the cache, so nothing of size dims x positions x items exists.
//!
//! Forward: the logits of dim `s_i` are those of `s_{i-1}` plus a slice's product, so all dims cost
//! one full-dim product. A first pass over the tiles sums the exponentials with a running maximum; a
//! second one forms the logits again, which is cheaper than keeping them, and from them the
//! gradients: slice `i` feeds the logits of every dim from `s_i` on, so its gradient is a suffix sum
//! of `softmax - target` over those dims. PAD is a class, as in the paper's code.
//!
//! A wide slice may come factored: its table columns are `features W^T`, so its scores are
//! `(x W) features^T`, which costs less than forming those columns when positions are few. These
//! products are the dear ones, so the second pass reads them from the first.

use super::product::{Matrix, multiply_add, slices};
use super::real::Real;
use super::softmax::{LogSum, add, add_log_sums, merge, scale_and_distil, softmax};
use rayon::prelude::*;
use std::ops::Range;

/// Positions scored together.
const ROWS: usize = 64;
/// Items scored together: a tile's scores at all dims stay in the second cache.
const ITEMS: usize = 256;
/// Parts of the item table, each one thread's work. Their sums are added in order and their number
/// depends on the shapes alone, so that results do not depend on the number of threads.
const MOST_PARTS: usize = 16;
/// Most elements of user-vector gradients that all parts together hold.
const PART_ELEMENTS: usize = 1 << 24;

/// What is minimised.
#[derive(Debug, Clone, PartialEq)]
pub struct Objective {
    /// Nesting dims, ascending.
    pub dims: Vec<usize>,
    /// Weight of each dim's mean cross entropy; the paper has `1 / dims` for each.
    pub weights: Vec<f64>,
    /// What the scores of each dim are multiplied by before the softmax: its inverse temperature, above 0. The paper's are
    /// 1.
    pub logit_scales: Vec<f64>,
    /// Share of the largest dim's softmax, taken as a constant, in the targets of the smaller dims.
    pub distillation: f64,
}

impl Objective {
    /// The paper's: the plain mean over dims.
    pub fn mean(dims: &[usize]) -> Objective {
        let (weights, logit_scales) = (vec![1.0 / dims.len() as f64; dims.len()], vec![1.0; dims.len()]);
        Objective { dims: dims.to_vec(), weights, logit_scales, distillation: 0.0 }
    }
}

/// User vectors and the items they are scored against. `P` is the width of the slices that come as
/// table columns; the `k` slices after them come factored.
#[derive(Debug, Clone, Copy)]
pub struct Scoring<'a, T> {
    /// `[p, P]`.
    pub x: &'a [T],
    /// `[n + 1, P]`.
    pub table: &'a [T],
    /// `[p, k f]`: `x W` of each factored slice; empty if there is none.
    pub factored: &'a [T],
    /// `[n + 1, f]`; empty if no slice is factored.
    pub features: &'a [T],
    /// `p` item ids.
    pub labels: &'a [u32],
}

/// Loss and gradients.
#[derive(Debug, Clone)]
pub struct CrossEntropy<T> {
    /// Weighted over dims, mean over positions, against the labels alone: distillation moves the
    /// gradients and leaves this comparable.
    pub loss: f64,
    /// `[p, P]`.
    pub dx: Vec<T>,
    /// `[n + 1, P]`.
    pub dtable: Vec<T>,
    /// `[p, k f]`.
    pub dfactored: Vec<T>,
}

/// Computes loss and gradients.
///
/// # Panics
/// Shapes that do not fit or a label past the table: callers check their data before training.
pub fn nested_cross_entropy<T: Real>(scoring: Scoring<'_, T>, objective: &Objective) -> CrossEntropy<T> {
    let problem = Problem::new(scoring, objective);
    let part = problem.items_a_part();
    let ranges: Vec<Range<usize>> =
        (0..problem.items).step_by(part).map(|start| start..(start + part).min(problem.items)).collect();

    let passes: Vec<FirstPass<T>> = ranges.par_iter().map(|range| problem.first_pass(range.clone())).collect();
    let (sums, kept): (Vec<_>, Vec<_>) = passes.into_iter().map(|pass| (pass.sums, pass.kept)).unzip();
    let log_sums = merge(sums);
    let loss = problem.loss(&log_sums);

    let log_sums: Vec<T> = log_sums.into_iter().map(T::from_f64).collect();
    let mut dtable = vec![T::ZERO; scoring.table.len()];
    let gradients: Vec<[Vec<T>; 2]> = dtable
        .par_chunks_mut(part * problem.width)
        .zip(&ranges)
        .zip(kept)
        .map(|((dtable, range), kept)| problem.second_pass(range.clone(), &log_sums, kept, dtable))
        .collect();
    let mut dx = vec![T::ZERO; scoring.x.len()];
    let mut dfactored = vec![T::ZERO; scoring.factored.len()];
    for [x, factored] in gradients {
        add(&mut dx, &x);
        add(&mut dfactored, &factored);
    }
    CrossEntropy { loss, dx, dtable, dfactored }
}

struct Problem<'a, T> {
    scoring: Scoring<'a, T>,
    slices: Vec<Range<usize>>,
    /// `P`, `f`, `n + 1`, and the number of slices that are table columns.
    width: usize,
    feature_width: usize,
    items: usize,
    columns: usize,
    /// Per dim: weight over positions times logit scale, the factor of a score's gradient.
    scales: Vec<T>,
    logit_scales: Vec<T>,
    objective: &'a Objective,
    distillation: T,
}

/// What the second pass needs of the first over one part.
struct FirstPass<T> {
    /// `[dims, p]`.
    sums: Vec<LogSum<T>>,
    /// Products of the factored slices: for each tile of items and slice, `[p, items]`.
    kept: Vec<T>,
}

impl<'a, T: Real> Problem<'a, T> {
    fn new(scoring: Scoring<'a, T>, objective: &'a Objective) -> Problem<'a, T> {
        let slices = slices(&objective.dims);
        let p = scoring.labels.len();
        assert!(p > 0, "there is at least one position");
        assert_eq!(objective.weights.len(), slices.len(), "one weight a dim");
        assert_eq!(objective.logit_scales.len(), slices.len(), "one logit scale a dim");
        let width = scoring.x.len() / p;
        let columns = slices.iter().take_while(|slice| slice.end <= width).count();
        assert!(columns > 0 && slices[columns - 1].end == width && scoring.x.len() == p * width, "x must be [p, P]");
        let items = scoring.table.len() / width;
        assert_eq!(scoring.table.len(), items * width, "the table must be [n + 1, P]");
        let feature_width = scoring.features.len() / items;
        let factored = p * feature_width * (slices.len() - columns);
        assert_eq!(scoring.factored.len(), factored, "factored slices must be [p, k f]");
        assert!(scoring.labels.iter().all(|label| (*label as usize) < items), "a label is outside the item table");
        let factors = objective.weights.iter().zip(&objective.logit_scales);
        let scales = factors.map(|(weight, scale)| T::from_f64(weight / p as f64 * scale)).collect();
        let logit_scales = objective.logit_scales.iter().map(|scale| T::from_f64(*scale)).collect();
        let distillation = T::from_f64(objective.distillation);
        Problem { scoring, slices, width, feature_width, items, columns, scales, logit_scales, objective, distillation }
    }

    fn positions(&self) -> usize {
        self.scoring.labels.len()
    }

    fn factored(&self) -> usize {
        self.slices.len() - self.columns
    }

    /// Items of one part: whole tiles, the same for every number of threads.
    fn items_a_part(&self) -> usize {
        let elements = self.scoring.x.len() + self.scoring.factored.len();
        let parts = (PART_ELEMENTS / elements.max(1)).clamp(2, MOST_PARTS);
        self.items.div_ceil(parts).next_multiple_of(ITEMS)
    }

    /// The weighted mean, from `[dims, p]` sums of exponentials.
    fn loss(&self, log_sums: &[f64]) -> f64 {
        let p = self.positions();
        let by_position = |row: usize| {
            let label = self.scoring.labels[row] as usize;
            let mut score = 0.0;
            let dims = self.slices.iter().enumerate().map(|(at, slice)| {
                let (user, item) = self.vectors(at, slice, row, label);
                score += user.iter().zip(item).map(|(a, b)| a.into_f64() * b.into_f64()).sum::<f64>();
                self.objective.weights[at] * (log_sums[at * p + row] - self.objective.logit_scales[at] * score)
            });
            dims.sum::<f64>()
        };
        (0..p).map(by_position).sum::<f64>() / p as f64
    }

    /// The two vectors whose product is a slice's score.
    fn vectors(&self, at: usize, slice: &Range<usize>, row: usize, item: usize) -> (&'a [T], &'a [T]) {
        let Scoring { x, table, factored, features, .. } = self.scoring;
        match at.checked_sub(self.columns) {
            None => (&x[row * self.width..][slice.clone()], &table[item * self.width..][slice.clone()]),
            Some(at) => {
                let f = self.feature_width;
                (&factored[(row * self.factored() + at) * f..][..f], &features[item * f..][..f])
            }
        }
    }

    fn first_pass(&self, part: Range<usize>) -> FirstPass<T> {
        let p = self.positions();
        let mut sums = vec![LogSum::EMPTY; self.slices.len() * p];
        let mut kept = vec![T::ZERO; self.factored() * p * part.len()];
        let mut scores = [T::ZERO; ROWS * ITEMS];
        for (index, items) in tiles(part).enumerate() {
            let kept = self.kept_tile(&mut kept, index);
            self.factored_scores(&items, kept);
            for rows in row_tiles(p) {
                let scores = &mut scores[..rows.len() * items.len()];
                scores.fill(T::ZERO);
                for at in 0..self.slices.len() {
                    self.add_scores(at, &rows, &items, kept, scores);
                    add_log_sums(scores, self.logit_scales[at], items.len(), &mut sums[at * p..][rows.clone()]);
                }
            }
        }
        FirstPass { sums, kept }
    }

    /// Fills the part's rows of the table's gradient; gives its share of those for `x` and the
    /// factored slices. `log_sums` is `[dims, p]`; `kept` comes from the first pass.
    fn second_pass(&self, part: Range<usize>, log_sums: &[T], mut kept: Vec<T>, dtable: &mut [T]) -> [Vec<T>; 2] {
        let p = self.positions();
        let mut dx = vec![T::ZERO; self.scoring.x.len()];
        let mut dfactored = vec![T::ZERO; self.scoring.factored.len()];
        let mut scores = [T::ZERO; ROWS * ITEMS];
        let mut grads = vec![T::ZERO; self.slices.len() * ROWS * ITEMS];
        for ((index, items), dtable) in tiles(part).enumerate().zip(dtable.chunks_mut(ITEMS * self.width)) {
            let kept = self.kept_tile(&mut kept, index);
            for rows in row_tiles(p) {
                let size = rows.len() * items.len();
                let (scores, grads) = (&mut scores[..size], &mut grads[..self.slices.len() * size]);
                scores.fill(T::ZERO);
                for (at, grad) in grads.chunks_exact_mut(size).enumerate() {
                    self.add_scores(at, &rows, &items, kept, scores);
                    softmax(scores, self.logit_scales[at], items.len(), &log_sums[at * p..][rows.clone()], grad);
                }
                self.subtract_targets(&rows, &items, grads);
                for at in (0..self.slices.len()).rev() {
                    let (grad, larger) = grads[at * size..].split_at_mut(size);
                    if at + 1 < self.slices.len() {
                        add(grad, &larger[..size]);
                    }
                    match at.checked_sub(self.columns) {
                        None => self.slice_gradients(at, &rows, &items, grad, &mut dx, dtable),
                        Some(at) => kept[(at * p + rows.start) * items.len()..][..size].copy_from_slice(grad),
                    }
                }
            }
            self.factored_gradients(&items, kept, &mut dfactored);
        }
        [dx, dfactored]
    }

    /// What is kept of a part's tile: all of a short last one, nothing if no slice is factored.
    fn kept_tile<'k>(&self, kept: &'k mut [T], index: usize) -> &'k mut [T] {
        let size = self.factored() * self.positions() * ITEMS;
        let end = ((index + 1) * size).min(kept.len());
        &mut kept[index * size..end]
    }

    /// Adds one slice's scores of one tile.
    fn add_scores(&self, at: usize, rows: &Range<usize>, items: &Range<usize>, kept: &[T], scores: &mut [T]) {
        match at.checked_sub(self.columns) {
            None => {
                let x = self.cut(self.scoring.x, rows, at);
                multiply_add(x, self.cut(self.scoring.table, items, at).transposed(), scores, items.len());
            }
            Some(at) => add(scores, &kept[(at * self.positions() + rows.start) * items.len()..][..scores.len()]),
        }
    }

    /// All positions' scores of the factored slices against one tile of items.
    fn factored_scores(&self, items: &Range<usize>, kept: &mut [T]) {
        let p = self.positions();
        for (at, kept) in kept.chunks_exact_mut((p * items.len()).max(1)).enumerate() {
            multiply_add(self.factored_rows(at), self.feature_rows(items).transposed(), kept, items.len());
        }
    }

    /// `kept` holds the factored slices' gradients by now.
    fn factored_gradients(&self, items: &Range<usize>, kept: &[T], dfactored: &mut [T]) {
        let p = self.positions();
        for (at, grad) in kept.chunks_exact((p * items.len()).max(1)).enumerate() {
            let grad = Matrix::columns(grad, p, items.len(), &(0..items.len()));
            let stride = self.factored() * self.feature_width;
            multiply_add(grad, self.feature_rows(items), &mut dfactored[at * self.feature_width..], stride);
        }
    }

    /// From the softmax of every dim, `[dims, rows, items]`, to the gradients of its logits.
    fn subtract_targets(&self, rows: &Range<usize>, items: &Range<usize>, grads: &mut [T]) {
        let size = rows.len() * items.len();
        let last = self.slices.len() - 1;
        let (smaller, largest) = grads.split_at_mut(last * size);
        let one = T::from_f64(1.0);
        for (at, grad) in smaller.chunks_exact_mut(size).enumerate() {
            let hard = one - self.distillation;
            scale_and_distil(grad, largest, self.scales[at], self.distillation);
            self.subtract_labels(rows, items, hard * self.scales[at], grad);
        }
        scale_and_distil(largest, &[], self.scales[last], T::ZERO);
        self.subtract_labels(rows, items, self.scales[last], largest);
    }

    fn subtract_labels(&self, rows: &Range<usize>, items: &Range<usize>, share: T, grad: &mut [T]) {
        for (label, grad) in self.scoring.labels[rows.clone()].iter().zip(grad.chunks_exact_mut(items.len())) {
            if items.contains(&(*label as usize)) {
                grad[*label as usize - items.start] -= share;
            }
        }
    }

    /// Adds one slice's gradients of one tile; `dtable` holds the tile's items only.
    fn slice_gradients(
        &self,
        at: usize,
        rows: &Range<usize>,
        items: &Range<usize>,
        grad: &[T],
        dx: &mut [T],
        dtable: &mut [T],
    ) {
        let start = self.slices[at].start;
        let by_row = Matrix::columns(grad, rows.len(), items.len(), &(0..items.len()));
        let dx = &mut dx[rows.start * self.width + start..];
        multiply_add(by_row, self.cut(self.scoring.table, items, at), dx, self.width);
        let x = self.cut(self.scoring.x, rows, at);
        multiply_add(by_row.transposed(), x, &mut dtable[start..], self.width);
    }

    /// Rows and one slice's columns of `x` or the table.
    fn cut(&self, data: &'a [T], rows: &Range<usize>, at: usize) -> Matrix<'a, T> {
        Matrix::columns(&data[rows.start * self.width..], rows.len(), self.width, &self.slices[at])
    }

    /// `[p, f]`: one factored slice.
    fn factored_rows(&self, at: usize) -> Matrix<'a, T> {
        let f = self.feature_width;
        Matrix::columns(self.scoring.factored, self.positions(), self.factored() * f, &(at * f..(at + 1) * f))
    }

    fn feature_rows(&self, items: &Range<usize>) -> Matrix<'a, T> {
        let f = self.feature_width;
        Matrix::columns(&self.scoring.features[items.start * f..], items.len(), f, &(0..f))
    }
}

/// The item tiles of a part, in order.
fn tiles(part: Range<usize>) -> impl Iterator<Item = Range<usize>> {
    let end = part.end;
    part.step_by(ITEMS).map(move |start| start..(start + ITEMS).min(end))
}

/// The tiles of positions; an item tile's table rows stay in the cache over all of them.
fn row_tiles(p: usize) -> impl Iterator<Item = Range<usize>> {
    (0..p).step_by(ROWS).map(move |start| start..(start + ROWS).min(p))
}

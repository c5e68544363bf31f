//! Mean cross entropy over all nesting dims (paper section 3.3) with its gradients, formed in row
//! tiles: nothing of size dims x positions x items exists.
//!
//! Forward: the logits of dim `s_i` are those of `s_{i-1}` plus a slice's product. Backward: slice
//! `i` feeds the logits of every dim from `s_i` on, so its gradient is a suffix sum of
//! `softmax - onehot` over those dims. PAD is a class, as in the paper's code.

use super::exp::exp_nonpositive;
use super::product::{Matrix, add_slice_scores, multiply_add, slices};
use rayon::prelude::*;
use std::ops::Range;

/// Rows scored together: large enough for the matrix products, small enough for the cache.
const TILE_ROWS: usize = 64;
/// Parts whose table gradients are summed apart, then in order: fixed, so that the sum does not
/// depend on the number of threads.
const PARTS: usize = 2;

/// Loss and gradients.
#[derive(Debug, Clone)]
pub struct CrossEntropy {
    /// Mean over (dim, position) pairs.
    pub loss: f64,
    /// `[p, D]`.
    pub dx: Vec<f32>,
    /// `[n + 1, D]`.
    pub dtable: Vec<f32>,
}

/// Computes loss and gradients.
///
/// # Shapes
/// `x` `[p, D]`, `table` `[n + 1, D]`, both row-major, `labels` `p` ids; `D` is the last of `dims`.
///
/// # Panics
/// Shapes that do not fit or a label past the table: callers check their data before training.
pub fn nested_cross_entropy(x: &[f32], table: &[f32], labels: &[u32], dims: &[usize]) -> CrossEntropy {
    let width = *dims.last().expect("there is at least one nesting dim");
    assert_eq!(x.len(), labels.len() * width, "one row of x a label");
    let items = table.len() / width;
    assert!(labels.iter().all(|label| (*label as usize) < items), "a label is outside the item table");
    let scale = 1.0 / (labels.len() * dims.len()) as f64;
    let slices = slices(dims);
    let rows_a_part = labels.len().div_ceil(PARTS).next_multiple_of(TILE_ROWS);

    let mut dx = vec![0.0f32; x.len()];
    let parts: Vec<(f64, Vec<f32>)> = dx
        .par_chunks_mut(rows_a_part * width)
        .zip(x.par_chunks(rows_a_part * width))
        .zip(labels.par_chunks(rows_a_part))
        .map(|((dx, x), labels)| {
            let mut tile = Tile::new(table, width, &slices, scale as f32);
            let mut loss = 0.0;
            let tiles = dx.chunks_mut(TILE_ROWS * width).zip(x.chunks(TILE_ROWS * width));
            for ((dx, x), labels) in tiles.zip(labels.chunks(TILE_ROWS)) {
                loss += tile.run(x, labels, dx);
            }
            (loss, tile.dtable)
        })
        .collect();

    let mut loss = 0.0;
    let mut dtable = vec![0.0f32; table.len()];
    for (part_loss, part) in parts {
        loss += part_loss;
        dtable.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
    }
    CrossEntropy { loss: loss * scale, dx, dtable }
}

/// Scratch of one thread.
struct Tile<'a> {
    table: &'a [f32],
    width: usize,
    items: usize,
    slices: &'a [Range<usize>],
    scale: f32,
    /// `[rows, items]`.
    logits: Vec<f32>,
    /// One `[rows, items]` a slice: softmax - onehot, then its suffix sums.
    grads: Vec<Vec<f32>>,
    dtable: Vec<f32>,
}

impl<'a> Tile<'a> {
    fn new(table: &'a [f32], width: usize, slices: &'a [Range<usize>], scale: f32) -> Tile<'a> {
        let items = table.len() / width;
        Tile {
            table,
            width,
            items,
            slices,
            scale,
            logits: vec![0.0; TILE_ROWS * items],
            grads: slices.iter().map(|_| vec![0.0; TILE_ROWS * items]).collect(),
            dtable: vec![0.0; table.len()],
        }
    }

    /// Sum of the losses of the tile's (dim, position) pairs; adds its gradients.
    fn run(&mut self, x: &[f32], labels: &[u32], dx: &mut [f32]) -> f64 {
        let (rows, items) = (labels.len(), self.items);
        let logits = &mut self.logits[..rows * items];
        logits.fill(0.0);
        let mut loss = 0.0;
        for (slice, grads) in self.slices.iter().zip(&mut self.grads) {
            add_slice_scores(x, self.table, self.width, slice, logits);
            for ((logits, grad), label) in logits.chunks(items).zip(grads.chunks_mut(items)).zip(labels) {
                loss += softmax_grad(logits, *label as usize, self.scale, grad);
            }
        }
        for at in (0..self.slices.len()).rev() {
            if let [this, next, ..] = &mut self.grads[at..] {
                this[..rows * items].iter_mut().zip(&*next).for_each(|(sum, value)| *sum += value);
            }
            self.slice_backward(at, x, rows, dx);
        }
        loss
    }

    fn slice_backward(&mut self, at: usize, x: &[f32], rows: usize, dx: &mut [f32]) {
        let (items, width) = (self.items, self.width);
        let slice = &self.slices[at];
        let grads = &self.grads[at][..rows * items];
        let by_row = Matrix { data: grads, rows, cols: items, row_stride: items, col_stride: 1 };
        let by_item = Matrix { data: grads, rows: items, cols: rows, row_stride: 1, col_stride: items };
        let cut = |data: &'a [f32], rows| Matrix {
            data: &data[slice.start..],
            rows,
            cols: slice.len(),
            row_stride: width,
            col_stride: 1,
        };
        multiply_add(by_row, cut(self.table, items), &mut dx[slice.start..], width);
        let x = Matrix { data: &x[slice.start..], rows, cols: slice.len(), row_stride: width, col_stride: 1 };
        multiply_add(by_item, x, &mut self.dtable[slice.start..], width);
    }
}

/// `grad = scale (softmax(logits) - onehot(label))`; returns the row's loss.
fn softmax_grad(logits: &[f32], label: usize, scale: f32, grad: &mut [f32]) -> f64 {
    let max = row_max(logits);
    let mut lanes = [0.0f32; 16];
    let (head, tail) = logits.split_at(logits.len() / 16 * 16);
    let (grad_head, grad_tail) = grad.split_at_mut(head.len());
    for (out, values) in grad_head.chunks_exact_mut(16).zip(head.chunks_exact(16)) {
        for lane in 0..16 {
            out[lane] = exp_nonpositive(values[lane] - max);
            lanes[lane] += out[lane];
        }
    }
    let mut sum: f64 = lanes.iter().map(|lane| f64::from(*lane)).sum();
    for (out, value) in grad_tail.iter_mut().zip(tail) {
        *out = exp_nonpositive(value - max);
        sum += f64::from(*out);
    }
    let factor = scale / sum as f32;
    grad.iter_mut().for_each(|value| *value *= factor);
    grad[label] -= scale;
    sum.ln() + f64::from(max) - f64::from(logits[label])
}

fn row_max(values: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; 16];
    let chunks = values.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for lane in 0..16 {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, f32::max)
}

//! The kernels in plain Rust: the meaning of the fast ones, and what other processors run.
//!
//! Without a fused multiply-add in the compiled instruction set (x86-64 before AVX2) a product is
//! rounded before it is added, so the last bits differ from those of a machine that has it.

use super::{Panel, TILE};
use crate::layout::{BLOCK, LANES, Segment};

/// As [`super::Kernel::add_rows`].
pub(super) fn add_rows(values: &[f32], cut: &[Segment], rows: &[u32], query: &[f32], scores: &mut [f32]) {
    for (score, &row) in scores.iter_mut().zip(rows) {
        let mut lanes = [0.0; LANES];
        for segment in cut {
            let row = &values[segment.offset + row as usize * segment.stride..][..segment.width];
            accumulate(&mut lanes, row, &query[segment.query..][..segment.width]);
        }
        *score += reduce(&lanes);
    }
}

/// As [`super::Kernel::add_block`].
pub(super) fn add_block(values: &[f32], cut: &[Segment], first: usize, query: &[f32], scores: &mut [f32; BLOCK]) {
    let rows: [u32; BLOCK] = std::array::from_fn(|offset| (first + offset) as u32);
    add_rows(values, cut, &rows, query, scores);
}

/// As [`super::Kernel::add_panel`].
pub(super) fn add_panel(panel: Panel<'_>, queries: &[f32], scores: &mut [[f32; TILE]]) {
    for (query, scores) in queries.chunks_exact(panel.width).zip(scores) {
        for (row, score) in scores.iter_mut().enumerate() {
            let mut lanes = [0.0; LANES];
            accumulate(&mut lanes, &panel.values[row * panel.stride..][..panel.width], query);
            *score += reduce(&lanes);
        }
    }
}

/// As [`super::Kernel::reaching`].
pub(super) fn reaching(scores: &[f32], threshold: f32) -> u64 {
    scores.iter().enumerate().fold(0, |mask, (at, &score)| mask | (u64::from(score >= threshold) << at))
}

fn accumulate(lanes: &mut [f32; LANES], row: &[f32], query: &[f32]) {
    for (row, query) in row.chunks_exact(LANES).zip(query.chunks_exact(LANES)) {
        for lane in 0..LANES {
            lanes[lane] = fused(row[lane], query[lane], lanes[lane]);
        }
    }
}

fn fused(a: f32, b: f32, c: f32) -> f32 {
    // A fused operation that the processor lacks would be a call into a library, 20 times slower.
    if cfg!(any(target_feature = "fma", target_arch = "aarch64")) { a.mul_add(b, c) } else { a * b + c }
}

fn reduce(lanes: &[f32; LANES]) -> f32 {
    ((lanes[0] + lanes[1]) + (lanes[2] + lanes[3])) + ((lanes[4] + lanes[5]) + (lanes[6] + lanes[7]))
}

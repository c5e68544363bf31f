//! The kernels in plain Rust: the meaning of the fast ones, and what other processors run.
//!
//! Without a fused multiply-add in the compiled instruction set (x86-64 before AVX2) a product is
//! rounded before it is added, so the last bits differ from those of a machine that has it.

use super::{PANEL, Strips};
use crate::coded::RUN;
use crate::layout::{BLOCK, GROUP, LANES, LINE, Segment};
use half::f16;

/// As [`super::Kernel::add_rows`].
pub(super) fn add_rows(values: &[f32], cut: &[Segment], rows: &[u32], query: &[f32], scores: &mut [f32]) {
    for (score, &row) in scores.iter_mut().zip(rows) {
        let mut lanes = [0.0; LANES];
        for segment in cut {
            for column in (0..segment.width).step_by(LINE) {
                let (at, width) = segment.line(row as usize, column);
                accumulate(&mut lanes, &values[at..][..width], &query[segment.query + column..][..width]);
            }
        }
        *score += reduce(&lanes);
    }
}

/// As [`super::Kernel::add_block`].
pub(super) fn add_block(values: &[f32], cut: &[Segment], first: usize, query: &[f32], scores: &mut [f32; BLOCK]) {
    let rows: [u32; BLOCK] = std::array::from_fn(|offset| (first + offset) as u32);
    add_rows(values, cut, &rows, query, scores);
}

/// As [`super::Kernel::pack`].
pub(super) fn pack(values: &[f32], cut: &[Segment], first: usize, panel: &mut [f32]) {
    let steps = panel.len() / PANEL / LANES;
    let mut before = 0;
    for segment in cut {
        for column in (0..segment.width).step_by(LINE) {
            for row in 0..PANEL {
                let (at, width) = segment.line(first + row, column);
                for (offset, &value) in values[at..][..width].iter().enumerate() {
                    let column = before + column + offset;
                    panel[(column % LANES * steps + column / LANES) * PANEL + row] = value;
                }
            }
        }
        before += segment.width;
    }
}

/// As [`super::Kernel::add_panel`].
pub(super) fn add_panel(panel: &[f32], queries: &[f32], count: usize, strips: Strips<'_>) {
    let steps = panel.len() / PANEL / LANES;
    for query in 0..count {
        let mut lanes = [[0.0f32; PANEL]; LANES];
        for (lane, sums) in lanes.iter_mut().enumerate() {
            for step in lane * steps..(lane + 1) * steps {
                let factor = queries[step * count + query];
                for (sum, &value) in sums.iter_mut().zip(&panel[step * PANEL..][..PANEL]) {
                    *sum = fused(value, factor, *sum);
                }
            }
        }
        for (row, score) in strips.scores[query * strips.stride..][..PANEL].iter_mut().enumerate() {
            let before = if strips.fresh { 0.0 } else { *score };
            *score = before + reduce(&lanes.map(|sums| sums[row]));
        }
    }
}

/// As [`super::Kernel::int8_block`].
pub(super) fn int8_block(codes: &[i8], query: &[i8], sums: &mut [i32; BLOCK]) {
    for (row, sum) in sums.iter_mut().enumerate() {
        let group = &codes[row / GROUP * GROUP * query.len()..];
        *sum = query.chunks_exact(RUN).enumerate().fold(0, |sum, (run, query)| {
            let row = &group[(run * GROUP + row % GROUP) * RUN..][..RUN];
            row.iter().zip(query).fold(sum, |sum, (&a, &b)| sum + i32::from(a) * i32::from(b))
        });
    }
}

/// As [`super::Kernel::half_block`].
pub(super) fn half_block(codes: &[u8], query: &[f32], sums: &mut [f32; BLOCK]) {
    const COLUMNS: usize = RUN / size_of::<f16>();
    for (row, sum) in sums.iter_mut().enumerate() {
        let group = &codes[row / GROUP * GROUP * query.len() * size_of::<f16>()..];
        let mut lanes = [0.0; LANES];
        for (run, query) in query.chunks_exact(COLUMNS).enumerate() {
            let row = &group[(run * GROUP + row % GROUP) * RUN..][..RUN];
            let halves: [f32; COLUMNS] =
                std::array::from_fn(|at| f16::from_le_bytes([row[2 * at], row[2 * at + 1]]).to_f32());
            accumulate(&mut lanes, &halves, query);
        }
        *sum = reduce(&lanes);
    }
}

/// As [`super::Kernel::reaching`].
pub(super) fn reaching(scores: &[f32; BLOCK], threshold: f32) -> u64 {
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

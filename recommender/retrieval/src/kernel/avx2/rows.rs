//! One query with 8 rows at a time: 8 registers of lanes, and one ascending stream of loads.
#![allow(unsafe_code)] // As avx2.rs says: the entries there check.

use super::add_to;
use crate::layout::{BLOCK, GROUP, LANES, LINE, Segment};
use std::arch::x86_64::{
    __m256, _mm256_add_ps, _mm256_fmadd_ps, _mm256_hadd_ps, _mm256_loadu_ps, _mm256_permute2f128_ps, _mm256_setzero_ps,
    _mm256_storeu_ps,
};

/// # Safety
/// Rows `first..first + BLOCK` of every segment lie in `values`, its columns in `query`; `first` is a
/// multiple of GROUP.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn add_block(
    values: *const f32,
    cut: &[Segment],
    first: usize,
    query: *const f32,
    scores: &mut [f32; BLOCK],
) {
    for (group, scores) in scores.chunks_exact_mut(GROUP).enumerate() {
        let row = first + group * GROUP;
        let mut lanes = [_mm256_setzero_ps(); GROUP];
        for segment in cut {
            // SAFETY: the caller's promise; a group's columns lie line by line, 8 rows to a line.
            unsafe {
                let mut line = values.add(segment.offset + row * segment.stride);
                let mut query = query.add(segment.query);
                for _ in 0..segment.width / LINE {
                    let (first, second) = (_mm256_loadu_ps(query), _mm256_loadu_ps(query.add(LANES)));
                    for (at, lane) in lanes.iter_mut().enumerate() {
                        *lane = _mm256_fmadd_ps(_mm256_loadu_ps(line.add(at * LINE)), first, *lane);
                        *lane = _mm256_fmadd_ps(_mm256_loadu_ps(line.add(at * LINE + LANES)), second, *lane);
                    }
                    (line, query) = (line.add(GROUP * LINE), query.add(LINE));
                }
                if segment.width % LINE != 0 {
                    let first = _mm256_loadu_ps(query);
                    for (at, lane) in lanes.iter_mut().enumerate() {
                        *lane = _mm256_fmadd_ps(_mm256_loadu_ps(line.add(at * LANES)), first, *lane);
                    }
                }
            }
        }
        // SAFETY: `scores` has 8 places.
        unsafe { add_to(scores.as_mut_ptr(), reduce(lanes)) };
    }
}

/// # Safety
/// The rows of every segment lie in `values`, its columns in `query`.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn add_rows(
    values: *const f32,
    cut: &[Segment],
    rows: &[u32],
    query: *const f32,
    scores: &mut [f32],
) {
    for (rows, scores) in rows.chunks(GROUP).zip(scores.chunks_mut(GROUP)) {
        // A last group that is not full scores its first row again in the places left.
        let full: [usize; GROUP] = std::array::from_fn(|at| rows.get(at).map_or(rows[0], |&row| row) as usize);
        let mut lanes = [_mm256_setzero_ps(); GROUP];
        for segment in cut {
            // SAFETY: the caller's promise.
            unsafe { add_scattered(&mut lanes, values, segment, full, query.add(segment.query)) };
        }
        let mut sums = [0.0; GROUP];
        // SAFETY: `sums` has 8 places.
        unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), reduce(lanes)) };
        scores.iter_mut().zip(sums).for_each(|(score, sum)| *score += sum);
    }
}

/// # Safety
/// The rows of the segment lie in `values`; `query` has its width.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_scattered(
    lanes: &mut [__m256; GROUP],
    values: *const f32,
    segment: &Segment,
    rows: [usize; GROUP],
    query: *const f32,
) {
    let whole = segment.width / LINE * LINE;
    // SAFETY: the caller's promise; lines of a row are GROUP lines apart, the last may be half a line.
    unsafe {
        let starts = rows.map(|row| values.add(segment.offset + row / GROUP * GROUP * segment.stride));
        for column in (0..whole).step_by(LINE) {
            let (first, second) = (_mm256_loadu_ps(query.add(column)), _mm256_loadu_ps(query.add(column + LANES)));
            for at in 0..GROUP {
                let line = starts[at].add(column * GROUP + rows[at] % GROUP * LINE);
                lanes[at] = _mm256_fmadd_ps(_mm256_loadu_ps(line), first, lanes[at]);
                lanes[at] = _mm256_fmadd_ps(_mm256_loadu_ps(line.add(LANES)), second, lanes[at]);
            }
        }
        if whole < segment.width {
            let first = _mm256_loadu_ps(query.add(whole));
            for at in 0..GROUP {
                let line = starts[at].add(whole * GROUP + rows[at] % GROUP * LANES);
                lanes[at] = _mm256_fmadd_ps(_mm256_loadu_ps(line), first, lanes[at]);
            }
        }
    }
}

/// Lane sums of 8 rows, by the rule of `layout.rs`.
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(super) fn reduce(lanes: [__m256; LANES]) -> __m256 {
    let low = _mm256_hadd_ps(_mm256_hadd_ps(lanes[0], lanes[1]), _mm256_hadd_ps(lanes[2], lanes[3]));
    let high = _mm256_hadd_ps(_mm256_hadd_ps(lanes[4], lanes[5]), _mm256_hadd_ps(lanes[6], lanes[7]));
    _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
}

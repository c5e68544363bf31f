//! The kernels for x86-64 with AVX2 and FMA.
//!
//! Why unsafe: loads from addresses that the bounds checks at each entry cover once for many, and calls
//! of functions that only a processor with these instructions may run.
#![allow(unsafe_code)]

use super::{Panel, TILE};
use crate::layout::{BLOCK, LANES, Segment};
use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_add_ps, _mm_prefetch, _mm_storeu_ps, _mm256_add_ps, _mm256_castps256_ps128, _mm256_cmp_ps,
    _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_hadd_ps, _mm256_loadu_ps, _mm256_movemask_ps,
    _mm256_permute2f128_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps, _CMP_GE_OQ, _mm_loadu_ps,
};

/// Queries of one micro kernel: 4 rows x 3 queries are 12 of the 16 registers.
const QUERIES: usize = 3;
/// Rows of one micro kernel.
const ROWS: usize = 4;

/// That the processor has AVX2 and FMA: only [`Proof::detect`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof(());

impl Proof {
    pub(super) fn detect() -> Option<Proof> {
        (is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma")).then_some(Proof(()))
    }
}

/// As [`super::Kernel::add_block`].
#[inline]
pub(super) fn add_block(
    _: Proof,
    values: &[f32],
    cut: &[Segment],
    first: usize,
    query: &[f32],
    scores: &mut [f32; BLOCK],
) {
    for segment in cut {
        assert!(segment.offset + (first + BLOCK - 1) * segment.stride + segment.width <= values.len(), "rows in table");
        assert!(segment.query + segment.width <= query.len(), "columns in query");
    }
    // SAFETY: `Proof` says the instructions exist; the asserts cover every row and column read.
    unsafe { add_block_unchecked(values.as_ptr(), cut, first, query.as_ptr(), scores) }
}

/// As [`super::Kernel::add_rows`].
#[inline]
pub(super) fn add_rows(_: Proof, values: &[f32], cut: &[Segment], rows: &[u32], query: &[f32], scores: &mut [f32]) {
    let last = rows.iter().copied().max().unwrap_or(0) as usize;
    for segment in cut {
        assert!(segment.offset + last * segment.stride + segment.width <= values.len(), "rows in table");
        assert!(segment.query + segment.width <= query.len(), "columns in query");
    }
    // SAFETY: `Proof` says the instructions exist; the asserts cover every row and column read.
    unsafe { add_rows_unchecked(values.as_ptr(), cut, rows, query.as_ptr(), scores) }
}

/// As [`super::Kernel::add_panel`].
#[inline]
pub(super) fn add_panel(_: Proof, panel: Panel<'_>, queries: &[f32], scores: &mut [[f32; TILE]]) {
    assert!(panel.width.is_multiple_of(LANES) && panel.width > 0, "whole registers");
    assert!((TILE - 1) * panel.stride + panel.width <= panel.values.len(), "rows in panel");
    assert_eq!(queries.len(), scores.len() * panel.width, "one row of scores a query");
    // SAFETY: `Proof` says the instructions exist; the asserts cover every row and query read.
    unsafe { add_panel_unchecked(panel, queries.as_ptr(), scores) }
}

/// As [`super::Kernel::reaching`]; a multiple of 8 scores.
#[inline]
pub(super) fn reaching(_: Proof, scores: &[f32], threshold: f32) -> u64 {
    assert!(scores.len().is_multiple_of(LANES), "whole registers");
    // SAFETY: `Proof` says the instructions exist; only whole chunks of 8 are read.
    unsafe { reaching_unchecked(scores, threshold) }
}

/// # Safety
/// Rows `first..first + BLOCK` of every segment lie in `values`, its columns in `query`.
#[target_feature(enable = "avx2,fma")]
unsafe fn add_block_unchecked(
    values: *const f32,
    cut: &[Segment],
    first: usize,
    query: *const f32,
    scores: &mut [f32; BLOCK],
) {
    for (group, scores) in scores.chunks_exact_mut(LANES).enumerate() {
        let row = first + group * LANES;
        let mut lanes = [_mm256_setzero_ps(); LANES];
        for segment in cut {
            // SAFETY: the caller's promise.
            unsafe {
                let start = values.add(segment.offset + row * segment.stride);
                let starts = std::array::from_fn(|at| start.add(at * segment.stride));
                accumulate(&mut lanes, starts, query.add(segment.query), segment.width, LANES * segment.stride);
            }
        }
        // SAFETY: `scores` has 8 places.
        unsafe { add_to(scores.as_mut_ptr(), reduce(lanes)) };
    }
}

/// # Safety
/// The rows of every segment lie in `values`, its columns in `query`.
#[target_feature(enable = "avx2,fma")]
unsafe fn add_rows_unchecked(
    values: *const f32,
    cut: &[Segment],
    rows: &[u32],
    query: *const f32,
    scores: &mut [f32],
) {
    for (rows, scores) in rows.chunks(LANES).zip(scores.chunks_mut(LANES)) {
        // A last group that is not full scores its first row again in the places left.
        let full: [usize; LANES] = std::array::from_fn(|at| rows.get(at).map_or(rows[0], |&row| row) as usize);
        let mut lanes = [_mm256_setzero_ps(); LANES];
        for segment in cut {
            // SAFETY: the caller's promise.
            unsafe {
                let start = values.add(segment.offset);
                let starts = full.map(|row| start.add(row * segment.stride));
                accumulate(&mut lanes, starts, query.add(segment.query), segment.width, 0);
            }
        }
        let mut sums = [0.0; LANES];
        // SAFETY: `sums` has 8 places.
        unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), reduce(lanes)) };
        scores.iter_mut().zip(sums).for_each(|(score, sum)| *score += sum);
    }
}

/// Adds the products of 8 rows' `width` columns to their lanes. `ahead` is how many values further the
/// rows lie that come next, 0 if that is not known.
///
/// # Safety
/// `width` values can be read at every start and at `query`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn accumulate(
    lanes: &mut [__m256; LANES],
    starts: [*const f32; LANES],
    query: *const f32,
    width: usize,
    ahead: usize,
) {
    let mut column = 0;
    while column < width {
        // SAFETY: `column + 8 <= width`, as width is a multiple of 8; a prefetch reads nothing.
        unsafe {
            let query = _mm256_loadu_ps(query.add(column));
            for (lane, start) in lanes.iter_mut().zip(starts) {
                *lane = _mm256_fmadd_ps(_mm256_loadu_ps(start.add(column)), query, *lane);
            }
            if ahead > 0 && column.is_multiple_of(2 * LANES) {
                for start in starts {
                    _mm_prefetch(start.wrapping_add(column + ahead).cast(), _MM_HINT_T0);
                }
            }
        }
        column += LANES;
    }
}

/// # Safety
/// [`TILE`] rows of the panel and `scores.len()` queries of its width can be read.
#[target_feature(enable = "avx2,fma")]
unsafe fn add_panel_unchecked(panel: Panel<'_>, queries: *const f32, scores: &mut [[f32; TILE]]) {
    let mut query = queries;
    let whole = scores.len() / QUERIES * QUERIES;
    let (groups, rest) = scores.split_at_mut(whole);
    // SAFETY: the caller's promise; each group reads the queries after those of the group before.
    unsafe {
        for group in groups.chunks_exact_mut(QUERIES) {
            micro_rows::<QUERIES>(panel, query, group);
            query = query.add(QUERIES * panel.width);
        }
        match rest.len() {
            1 => micro_rows::<1>(panel, query, rest),
            2 => micro_rows::<2>(panel, query, rest),
            _ => {}
        }
    }
}

/// # Safety
/// As [`add_panel_unchecked`], for N queries.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn micro_rows<const N: usize>(panel: Panel<'_>, queries: *const f32, scores: &mut [[f32; TILE]]) {
    for row in (0..TILE).step_by(ROWS) {
        // SAFETY: the caller's promise, and `row + ROWS <= TILE`.
        unsafe {
            let lanes = micro::<N>(panel.values.as_ptr().add(row * panel.stride), panel.stride, panel.width, queries);
            for (lanes, scores) in lanes.iter().zip(scores.iter_mut()) {
                let pairs = _mm256_hadd_ps(_mm256_hadd_ps(lanes[0], lanes[1]), _mm256_hadd_ps(lanes[2], lanes[3]));
                let sums = _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps::<1>(pairs));
                let place = scores.as_mut_ptr().add(row);
                _mm_storeu_ps(place, _mm_add_ps(_mm_loadu_ps(place), sums));
            }
        }
    }
}

/// Lanes of N queries x [`ROWS`] rows.
///
/// # Safety
/// `ROWS` rows of `width` values at `stride` and N queries of `width` values can be read.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn micro<const N: usize>(
    rows: *const f32,
    stride: usize,
    width: usize,
    queries: *const f32,
) -> [[__m256; ROWS]; N] {
    let mut lanes = [[_mm256_setzero_ps(); ROWS]; N];
    let mut column = 0;
    while column < width {
        // SAFETY: `column + 8 <= width`, as width is a multiple of 8.
        unsafe {
            let mut query = [_mm256_setzero_ps(); N];
            for (at, query) in query.iter_mut().enumerate() {
                *query = _mm256_loadu_ps(queries.add(at * width + column));
            }
            for row in 0..ROWS {
                let values = _mm256_loadu_ps(rows.add(row * stride + column));
                for at in 0..N {
                    lanes[at][row] = _mm256_fmadd_ps(values, query[at], lanes[at][row]);
                }
            }
        }
        column += LANES;
    }
    lanes
}

/// Lane sums of 8 rows, by the rule of `layout.rs`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn reduce(lanes: [__m256; LANES]) -> __m256 {
    let low = _mm256_hadd_ps(_mm256_hadd_ps(lanes[0], lanes[1]), _mm256_hadd_ps(lanes[2], lanes[3]));
    let high = _mm256_hadd_ps(_mm256_hadd_ps(lanes[4], lanes[5]), _mm256_hadd_ps(lanes[6], lanes[7]));
    _mm256_add_ps(_mm256_permute2f128_ps::<0x20>(low, high), _mm256_permute2f128_ps::<0x31>(low, high))
}

/// # Safety
/// 8 values can be read and written at `place`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_to(place: *mut f32, sums: __m256) {
    // SAFETY: the caller's promise.
    unsafe { _mm256_storeu_ps(place, _mm256_add_ps(_mm256_loadu_ps(place), sums)) }
}

/// # Safety
/// None beyond the instructions.
#[target_feature(enable = "avx2,fma")]
unsafe fn reaching_unchecked(scores: &[f32], threshold: f32) -> u64 {
    let threshold = _mm256_set1_ps(threshold);
    let mut mask = 0u64;
    for (at, scores) in scores.chunks_exact(LANES).enumerate() {
        // SAFETY: a chunk has 8 values.
        let reached = unsafe { _mm256_cmp_ps::<_CMP_GE_OQ>(_mm256_loadu_ps(scores.as_ptr()), threshold) };
        mask |= u64::from(_mm256_movemask_ps(reached) as u32) << (at * LANES);
    }
    mask
}

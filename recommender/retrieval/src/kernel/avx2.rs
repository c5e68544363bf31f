//! The kernels for x86-64 with AVX2 and FMA: entries that check, in front of code that does not.
//!
//! Why unsafe: the checks at an entry cover loads for many rows at once, and only a processor with these
//! instructions may run the rest.
#![allow(unsafe_code)]

mod bytes;
mod panel;
mod rows;

use super::{Strips, width};
use crate::coded::RUN;
use crate::layout::{BLOCK, GROUP, LANES, LINE, Segment};
use std::arch::x86_64::{
    __m256, _CMP_GE_OQ, _MM_HINT_T1, _mm_prefetch, _mm256_add_ps, _mm256_cmp_ps, _mm256_loadu_ps, _mm256_movemask_ps,
    _mm256_set1_ps, _mm256_storeu_ps,
};

/// That the processor has AVX2, FMA and F16C, as every one since 2013 that has the first: only [`Proof::detect`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Proof(());

impl Proof {
    pub(super) fn detect() -> Option<Proof> {
        let all =
            is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") && is_x86_feature_detected!("f16c");
        all.then_some(Proof(()))
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
    assert!(first.is_multiple_of(GROUP), "whole groups of rows");
    check(values, cut, first + BLOCK - 1, query.len());
    // SAFETY: `Proof` says the instructions exist; `check` covers every row and column read.
    unsafe { rows::add_block(values.as_ptr(), cut, first, query.as_ptr(), scores) }
}

/// As [`super::Kernel::add_rows`].
#[inline]
pub(super) fn add_rows(_: Proof, values: &[f32], cut: &[Segment], rows: &[u32], query: &[f32], scores: &mut [f32]) {
    check(values, cut, rows.iter().copied().max().unwrap_or(0) as usize, query.len());
    // SAFETY: `Proof` says the instructions exist; `check` covers every row and column read.
    unsafe { rows::add_rows(values.as_ptr(), cut, rows, query.as_ptr(), scores) }
}

/// As [`super::Kernel::pack`].
#[inline]
pub(super) fn pack(_: Proof, values: &[f32], cut: &[Segment], first: usize, panel: &mut [f32]) {
    assert!(first.is_multiple_of(GROUP), "whole groups of rows");
    assert_eq!(panel.len(), width(cut) * super::PANEL, "the panel holds the cut");
    check(values, cut, first + super::PANEL - 1, usize::MAX);
    // SAFETY: `Proof` says the instructions exist; `check` covers every value read, the assert every one written.
    unsafe { panel::pack(values.as_ptr(), cut, first, panel.as_mut_ptr(), width(cut)) }
}

/// As [`super::Kernel::add_panel`], which checks the lengths.
#[inline]
pub(super) fn add_panel(_: Proof, panel: &[f32], queries: &[f32], count: usize, strips: Strips<'_>) {
    let steps = panel.len() / super::PANEL / LANES;
    assert!(queries.len() >= steps * LANES * count, "queries of the panel's width");
    assert!(strips.scores.len() >= (count - 1) * strips.stride + super::PANEL, "a place for each score");
    let (panel, queries) = (panel.as_ptr(), queries.as_ptr());
    // SAFETY: `Proof` says the instructions exist; the asserts cover what is read and written.
    unsafe {
        match count {
            1 => panel::add::<1>(panel, queries, steps, strips),
            2 => panel::add::<2>(panel, queries, steps, strips),
            3 => panel::add::<3>(panel, queries, steps, strips),
            4 => panel::add::<4>(panel, queries, steps, strips),
            _ => unreachable!("the caller checks the count"),
        }
    }
}

/// As [`super::Kernel::prefetch`].
#[inline]
pub(super) fn prefetch(values: &[f32], start: usize, lines: usize) {
    let start = values.as_ptr().wrapping_add(start);
    for line in 0..lines {
        // SAFETY: a prefetch reads nothing, whatever the address; x86-64 always has it.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(start.wrapping_add(line * LINE).cast()) };
    }
}

/// As [`super::Kernel::int8_block`].
#[inline]
pub(super) fn int8_block(_: Proof, codes: &[i8], query: &[i8], sums: &mut [i32; BLOCK]) {
    let width = query.len();
    assert!(width.is_multiple_of(RUN) && codes.len() == BLOCK * width, "whole rows");
    // SAFETY: `Proof` says the instructions exist; the assert covers every byte read.
    unsafe { bytes::int8_block(codes.as_ptr(), width, query.as_ptr(), sums) }
}

/// As [`super::Kernel::half_block`].
#[inline]
pub(super) fn half_block(_: Proof, codes: &[u8], query: &[f32], sums: &mut [f32; BLOCK]) {
    let width = query.len() * 2;
    assert!(width.is_multiple_of(RUN) && codes.len() == BLOCK * width, "whole rows");
    // SAFETY: `Proof` says the instructions exist; the assert covers every byte read.
    unsafe { bytes::half_block(codes.as_ptr(), width, query.as_ptr(), sums) }
}

/// As [`super::Kernel::reaching`].
#[inline]
pub(super) fn reaching(_: Proof, scores: &[f32; BLOCK], threshold: f32) -> u64 {
    // SAFETY: `Proof` says the instructions exist.
    unsafe { reaching_unchecked(scores, threshold) }
}

#[target_feature(enable = "avx2,fma")]
fn reaching_unchecked(scores: &[f32; BLOCK], threshold: f32) -> u64 {
    let threshold = _mm256_set1_ps(threshold);
    let mut mask = 0u64;
    for (at, scores) in scores.chunks_exact(LANES).enumerate() {
        // SAFETY: a chunk has 8 values.
        let reached = unsafe { _mm256_cmp_ps::<_CMP_GE_OQ>(_mm256_loadu_ps(scores.as_ptr()), threshold) };
        mask |= u64::from(_mm256_movemask_ps(reached) as u32) << (at * LANES);
    }
    mask
}

/// That rows up to `last` of every segment lie in the table, and its columns in a query.
fn check(values: &[f32], cut: &[Segment], last: usize, query: usize) {
    for segment in cut {
        let end = segment.offset + last / GROUP * GROUP * segment.stride + segment.width * GROUP;
        assert!(end <= values.len(), "rows in the table");
        assert!(segment.query + segment.width <= query, "columns in the query");
    }
}

/// # Safety
/// 8 values can be read and written at `place`.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn add_to(place: *mut f32, sums: __m256) {
    // SAFETY: the caller's promise.
    unsafe { _mm256_storeu_ps(place, _mm256_add_ps(_mm256_loadu_ps(place), sums)) }
}

//! One query with 8 rows of bytes or halves at a time.
#![allow(unsafe_code)] // As avx2.rs says: the entries there check.

use super::rows;
use crate::coded::RUN;
use crate::layout::{BLOCK, GROUP};
use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_abs_epi8, _mm256_add_epi32, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_hadd_epi32,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_permute2x128_si256,
    _mm256_set1_epi16, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8, _mm256_storeu_ps,
    _mm256_storeu_si256,
};

/// # Safety
/// `codes` has BLOCK rows of `width` bytes and `query` one; width is a multiple of RUN. No byte is -128.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn int8_block(codes: *const i8, width: usize, query: *const i8, sums: &mut [i32; BLOCK]) {
    for (group, sums) in sums.chunks_exact_mut(GROUP).enumerate() {
        let mut lanes = [_mm256_setzero_si256(); GROUP];
        // SAFETY: the caller's promise; a group's columns lie run by run, 8 rows to a run.
        unsafe {
            let mut run = codes.add(group * GROUP * width);
            for column in (0..width).step_by(RUN) {
                let query = _mm256_loadu_si256(query.add(column).cast());
                for (at, lane) in lanes.iter_mut().enumerate() {
                    let row = _mm256_loadu_si256(run.add(at * RUN).cast());
                    // Unsigned times signed: two products of at most 127 * 127 fit 16 bits.
                    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(row), _mm256_sign_epi8(query, row));
                    *lane = _mm256_add_epi32(*lane, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
                }
                run = run.add(GROUP * RUN);
            }
            _mm256_storeu_si256(sums.as_mut_ptr().cast(), reduce(lanes));
        }
    }
}

/// # Safety
/// `codes` has BLOCK rows of `width` bytes and `query` a value for every two of them; width is a multiple of
/// RUN. F16C exists.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn half_block(codes: *const u8, width: usize, query: *const f32, sums: &mut [f32; BLOCK]) {
    for (group, sums) in sums.chunks_exact_mut(GROUP).enumerate() {
        let mut lanes = [_mm256_setzero_ps(); GROUP];
        // SAFETY: the caller's promise; a run is 16 halves of each of 8 rows.
        unsafe {
            let mut run = codes.add(group * GROUP * width);
            for column in (0..width / 2).step_by(RUN / 2) {
                let (first, second) = (_mm256_loadu_ps(query.add(column)), _mm256_loadu_ps(query.add(column + 8)));
                for (at, lane) in lanes.iter_mut().enumerate() {
                    let row = run.add(at * RUN);
                    *lane = _mm256_fmadd_ps(_mm256_cvtph_ps(_mm_loadu_si128(row.cast())), first, *lane);
                    *lane = _mm256_fmadd_ps(_mm256_cvtph_ps(_mm_loadu_si128(row.add(16).cast())), second, *lane);
                }
                run = run.add(GROUP * RUN);
            }
            _mm256_storeu_ps(sums.as_mut_ptr(), rows::reduce(lanes));
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn reduce(lanes: [__m256i; GROUP]) -> __m256i {
    let pair = |a: usize| _mm256_hadd_epi32(lanes[a], lanes[a + 1]);
    let (low, high) = (_mm256_hadd_epi32(pair(0), pair(2)), _mm256_hadd_epi32(pair(4), pair(6)));
    _mm256_add_epi32(_mm256_permute2x128_si256::<0x20>(low, high), _mm256_permute2x128_si256::<0x31>(low, high))
}

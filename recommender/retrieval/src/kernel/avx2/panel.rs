//! Up to 4 queries with 16 rows at a time: rows lie across registers, so nothing is added across lanes.
//!
//! To keep the rule of addition of `layout.rs`, the panel is ordered by lane: the columns of lane 0 are
//! summed to the end, then those of lane 1, and the lane sums are combined as the rule says.
#![allow(unsafe_code)] // As avx2.rs says: the entries there check.

use crate::kernel::{PANEL, Strips};
use crate::layout::{GROUP, LANES, LINE, Segment};
use std::arch::x86_64::{
    __m256, _mm256_add_ps, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_permute2f128_ps,
    _mm256_setzero_ps, _mm256_shuffle_ps, _mm256_storeu_ps, _mm256_unpackhi_ps, _mm256_unpacklo_ps,
};

/// Sums of 16 rows with N queries.
type Sums<const N: usize> = [[__m256; 2]; N];

/// # Safety
/// Rows `first..first + PANEL` of every segment lie in `values`; `panel` has `width * PANEL` places, width
/// being that of the cut; `first` is a multiple of GROUP.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn pack(values: *const f32, cut: &[Segment], first: usize, panel: *mut f32, width: usize) {
    let steps = width / LANES;
    for half in 0..PANEL / GROUP {
        let row = first + half * GROUP;
        let mut step = 0;
        for segment in cut {
            for column in (0..segment.width).step_by(LANES) {
                // A line of 16 columns holds two registers of each row; half a line one.
                let line = column / LINE * LINE;
                let run = LINE.min(segment.width - line);
                // SAFETY: the caller's promise; step < steps, so the last place is below width * PANEL.
                unsafe {
                    let from = values.add(segment.offset + row * segment.stride + line * GROUP + column % LINE);
                    let place = panel.add(step * PANEL + half * GROUP);
                    transpose(from, run, place, steps * PANEL);
                }
                step += 1;
            }
        }
    }
}

/// Writes 8 x 8 values, rows `stride` apart, as columns `to_stride` apart.
///
/// # Safety
/// 8 values can be read at each row's start, and 8 written at each column's.
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, to_stride: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let row = |at: usize| _mm256_loadu_ps(from.add(at * stride));
        let mut pairs = [_mm256_setzero_ps(); 8];
        for at in 0..4 {
            pairs[2 * at] = _mm256_unpacklo_ps(row(2 * at), row(2 * at + 1));
            pairs[2 * at + 1] = _mm256_unpackhi_ps(row(2 * at), row(2 * at + 1));
        }
        let mut quads = [_mm256_setzero_ps(); 8];
        for at in [0, 4] {
            quads[at] = _mm256_shuffle_ps::<0x44>(pairs[at], pairs[at + 2]);
            quads[at + 1] = _mm256_shuffle_ps::<0xEE>(pairs[at], pairs[at + 2]);
            quads[at + 2] = _mm256_shuffle_ps::<0x44>(pairs[at + 1], pairs[at + 3]);
            quads[at + 3] = _mm256_shuffle_ps::<0xEE>(pairs[at + 1], pairs[at + 3]);
        }
        for at in 0..4 {
            _mm256_storeu_ps(to.add(at * to_stride), _mm256_permute2f128_ps::<0x20>(quads[at], quads[at + 4]));
            _mm256_storeu_ps(to.add((at + 4) * to_stride), _mm256_permute2f128_ps::<0x31>(quads[at], quads[at + 4]));
        }
    }
}

/// # Safety
/// `panel` is [8, steps, PANEL], `queries` [8, steps, N]; `strips` has N of at least PANEL scores.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn add<const N: usize>(panel: *const f32, queries: *const f32, steps: usize, strips: Strips<'_>) {
    // SAFETY: the caller's promise; lane < 8.
    unsafe {
        let lane = |at: usize| lane::<N>(panel.add(at * steps * PANEL), queries.add(at * steps * N), steps);
        let low = plus(plus(lane(0), &lane(1)), &plus(lane(2), &lane(3)));
        let high = plus(plus(lane(4), &lane(5)), &plus(lane(6), &lane(7)));
        for (query, sums) in plus(low, &high).iter().enumerate() {
            let place = strips.scores.as_mut_ptr().add(query * strips.stride);
            if strips.fresh {
                _mm256_storeu_ps(place, sums[0]);
                _mm256_storeu_ps(place.add(GROUP), sums[1]);
            } else {
                _mm256_storeu_ps(place, _mm256_add_ps(_mm256_loadu_ps(place), sums[0]));
                _mm256_storeu_ps(place.add(GROUP), _mm256_add_ps(_mm256_loadu_ps(place.add(GROUP)), sums[1]));
            }
        }
    }
}

/// The sums of one lane.
///
/// # Safety
/// `panel` is [steps, PANEL] and `queries` [steps, N].
#[inline]
#[target_feature(enable = "avx2,fma")]
unsafe fn lane<const N: usize>(panel: *const f32, queries: *const f32, steps: usize) -> Sums<N> {
    let mut sums = [[_mm256_setzero_ps(); 2]; N];
    for step in 0..steps {
        // SAFETY: the caller's promise.
        unsafe {
            let rows = [_mm256_loadu_ps(panel.add(step * PANEL)), _mm256_loadu_ps(panel.add(step * PANEL + GROUP))];
            for (at, sums) in sums.iter_mut().enumerate() {
                let query = _mm256_broadcast_ss(&*queries.add(step * N + at));
                sums[0] = _mm256_fmadd_ps(rows[0], query, sums[0]);
                sums[1] = _mm256_fmadd_ps(rows[1], query, sums[1]);
            }
        }
    }
    sums
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn plus<const N: usize>(mut a: Sums<N>, b: &Sums<N>) -> Sums<N> {
    for (a, b) in a.iter_mut().zip(b) {
        *a = [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])];
    }
    a
}

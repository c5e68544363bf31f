//! Inner products of a query with many rows, by the best instructions the processor has.
//!
//! Own kernels, because no library reads nested slices, and measured faster (README.md): a library's
//! product of one vector with a matrix is not fused with top-k and needs one matrix.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

use crate::layout::{BLOCK, Segment};

/// Rows that a batch scores at a time: 16 rows of a cut fill half of a 32 KiB first cache.
pub(crate) const TILE: usize = 16;

/// Which implementation runs; chosen once for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// AVX2 and FMA; exists only as the result of [`Kernel::detect`].
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Proof),
    /// Plain Rust.
    Portable,
}

/// [`TILE`] rows of one cut: row `r` at `values[r * stride..][..width]`.
#[derive(Clone, Copy)]
pub(crate) struct Panel<'a> {
    pub(crate) values: &'a [f32],
    pub(crate) stride: usize,
    pub(crate) width: usize,
}

impl Kernel {
    /// The fastest that this processor runs.
    pub(crate) fn detect() -> Kernel {
        #[cfg(target_arch = "x86_64")]
        if let Some(proof) = avx2::Proof::detect() {
            return Kernel::Avx2(proof);
        }
        Kernel::Portable
    }

    /// Adds the products of one cut for the rows `first..first + BLOCK`.
    #[inline]
    pub(crate) fn add_block(
        self,
        values: &[f32],
        cut: &[Segment],
        first: usize,
        query: &[f32],
        scores: &mut [f32; BLOCK],
    ) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) => avx2::add_block(proof, values, cut, first, query, scores),
            Kernel::Portable => portable::add_block(values, cut, first, query, scores),
        }
    }

    /// Adds the products of one cut for the rows named; `scores` has a place for each.
    #[inline]
    pub(crate) fn add_rows(self, values: &[f32], cut: &[Segment], rows: &[u32], query: &[f32], scores: &mut [f32]) {
        assert_eq!(rows.len(), scores.len(), "one score a row");
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) => avx2::add_rows(proof, values, cut, rows, query, scores),
            Kernel::Portable => portable::add_rows(values, cut, rows, query, scores),
        }
    }

    /// Adds the products of a panel with each of `queries` [scores.len(), width].
    #[inline]
    pub(crate) fn add_panel(self, panel: Panel<'_>, queries: &[f32], scores: &mut [[f32; TILE]]) {
        assert!(queries.len() == scores.len() * panel.width, "one row of scores a query");
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) => avx2::add_panel(proof, panel, queries, scores),
            Kernel::Portable => portable::add_panel(panel, queries, scores),
        }
    }

    /// Bit `i` says that `scores[i] >= threshold`; at most 64 scores.
    #[inline]
    pub(crate) fn reaching(self, scores: &[f32], threshold: f32) -> u64 {
        assert!(scores.len() <= BLOCK, "a bit a score");
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) if scores.len().is_multiple_of(8) => avx2::reaching(proof, scores, threshold),
            _ => portable::reaching(scores, threshold),
        }
    }
}

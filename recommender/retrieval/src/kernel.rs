//! Inner products of queries with rows, by the best instructions the processor has.
//!
//! Own kernels, because no library reads nested slices, and measured faster (README.md): a library's
//! product is not fused with top-k and needs one matrix.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

use crate::layout::{BLOCK, LANES, Segment};

/// Rows of a panel: two registers.
pub(crate) const PANEL: usize = 16;
/// Queries of a panel product: 2 x 4 sums, enough to hide the latency of a fused addition. With 2 x 6 the
/// compiler spilled between lanes, and narrow products were slower.
pub(crate) const QUERIES: usize = 4;

/// Which implementation runs; chosen once for a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kernel {
    /// AVX2, FMA and F16C; exists only as the result of [`Kernel::detect`].
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Proof),
    /// Plain Rust.
    Portable,
}

/// Scores of a panel's rows, query after query.
pub(crate) struct Strips<'a> {
    pub(crate) scores: &'a mut [f32],
    /// From a row's score for one query to that for the next.
    pub(crate) stride: usize,
    /// What is there counts as 0.
    pub(crate) fresh: bool,
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

    /// Adds the products of one cut for the rows `first..first + BLOCK`; `first` is a multiple of BLOCK.
    #[inline]
    pub(crate) fn add_block(
        self,
        values: &[f32],
        cut: &[Segment],
        first: usize,
        query: &[f32],
        scores: &mut [f32; BLOCK],
    ) {
        debug_assert!(first.is_multiple_of(BLOCK));
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

    /// Writes one cut of rows `first..first + PANEL` as a panel [8, width / 8, PANEL]: lane, the lane's
    /// columns in order, row.
    #[inline]
    pub(crate) fn pack(self, values: &[f32], cut: &[Segment], first: usize, panel: &mut [f32]) {
        assert_eq!(panel.len(), width(cut) * PANEL, "the panel holds the cut");
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) => avx2::pack(proof, values, cut, first, panel),
            Kernel::Portable => portable::pack(values, cut, first, panel),
        }
    }

    /// Adds the products of a panel with each of 1 to [`QUERIES`] queries, [8, width / 8, count].
    #[inline]
    pub(crate) fn add_panel(self, panel: &[f32], queries: &[f32], count: usize, strips: Strips<'_>) {
        let width = panel.len() / PANEL;
        assert!((1..=QUERIES).contains(&count) && width > 0 && width.is_multiple_of(LANES), "whole lanes");
        assert_eq!((panel.len(), queries.len()), (width * PANEL, width * count), "the same columns");
        assert!(strips.scores.len() >= (count - 1) * strips.stride + PANEL, "a place for each score");
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) => avx2::add_panel(proof, panel, queries, count, strips),
            Kernel::Portable => portable::add_panel(panel, queries, count, strips),
        }
    }

    /// Asks memory for `lines` cache lines from `values[start..]` on; past the end is allowed.
    #[inline]
    pub(crate) fn prefetch(self, values: &[f32], start: usize, lines: usize) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(_) => avx2::prefetch(values, start, lines),
            Kernel::Portable => {}
        }
    }

    /// Inner products in whole numbers of 64 rows of codes with a query of codes; no code is -128, and the sums
    /// fit an i32.
    #[inline]
    pub(crate) fn int8_block(self, codes: &[i8], query: &[i8], sums: &mut [i32; BLOCK]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) => avx2::int8_block(proof, codes, query, sums),
            Kernel::Portable => portable::int8_block(codes, query, sums),
        }
    }

    /// Inner products of 64 rows of little-endian halves with a query: lane `j` of 8 adds the products of columns
    /// `j, j + 8, ...`, which the bound of `coded.rs` counts on.
    #[inline]
    pub(crate) fn half_block(self, codes: &[u8], query: &[f32], sums: &mut [f32; BLOCK]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) => avx2::half_block(proof, codes, query, sums),
            Kernel::Portable => portable::half_block(codes, query, sums),
        }
    }

    /// Bit `i` says that `scores[i] >= threshold`.
    #[inline]
    pub(crate) fn reaching(self, scores: &[f32; BLOCK], threshold: f32) -> u64 {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2(proof) => avx2::reaching(proof, scores, threshold),
            Kernel::Portable => portable::reaching(scores, threshold),
        }
    }
}

/// Columns of a cut.
pub(crate) fn width(cut: &[Segment]) -> usize {
    cut.iter().map(|segment| segment.width).sum()
}

#[cfg(test)]
mod tests {
    use super::{Kernel, PANEL, Strips, width};
    use crate::layout::{BLOCK, Layout};

    /// Small whole numbers: sums are exact in any order, so both kernels must agree bit for bit.
    #[test]
    fn fast_and_portable_agree() {
        let fast = Kernel::detect();
        for dims in [vec![1], vec![8, 16, 32, 64, 128, 256, 512], vec![5, 40, 300], vec![24], vec![264]] {
            let level = dims.len() - 1;
            let layout = Layout::new(&dims, 130);
            let value = |at: usize| ((at * 7919) % 13) as f32 - 6.0;
            let values: Vec<f32> = (0..layout.values()).map(value).collect();
            let query: Vec<f32> = (0..layout.padded(level)).map(|at| value(at + 5)).collect();
            for cut in layout.cuts(level, 0) {
                let block = |kernel: Kernel| {
                    let mut scores = [1.0; BLOCK];
                    kernel.add_block(&values, cut, BLOCK, &query, &mut scores);
                    scores.to_vec()
                };
                let rows: Vec<u32> = (BLOCK as u32..2 * BLOCK as u32).collect();
                let mut single = vec![1.0; BLOCK];
                fast.add_rows(&values, cut, &rows, &query, &mut single);
                assert_eq!(block(fast), block(Kernel::Portable), "{dims:?}");
                assert_eq!(block(fast), single, "{dims:?}");
                assert_eq!(packed(fast, &values, cut), packed(Kernel::Portable, &values, cut), "{dims:?}");
            }
        }
    }

    #[test]
    fn fast_and_portable_bytes_agree() {
        for width in [32, 96, 2048] {
            let code = |at: usize| ((at * 7919 + at / 251) % 255) as i8;
            let code = |at: usize| if code(at) == -128 { 127 } else { code(at) };
            let (codes, query): (Vec<i8>, Vec<i8>) =
                ((0..BLOCK * width).map(code).collect(), (0..width).map(|at| code(at + 9)).collect());
            let sums = |kernel: Kernel| {
                let mut sums = [0; BLOCK];
                kernel.int8_block(&codes, &query, &mut sums);
                sums
            };
            assert_eq!(sums(Kernel::detect()), sums(Kernel::Portable), "width {width}");
        }
    }

    /// Codes are powers of two, so products are exact, fused or not: the sums agree if their order does.
    #[test]
    fn fast_and_portable_halves_agree() {
        for columns in [16, 80, 1024] {
            let code = |at: usize| [1.0, -0.5, 2.0, 4.0, 0.25][at * 7919 % 5];
            let codes: Vec<u8> =
                (0..BLOCK * columns).flat_map(|at| half::f16::from_f32(code(at)).to_le_bytes()).collect();
            let query: Vec<f32> = (0..columns).map(|at| ((at * 7919 % 1009) as f32).sqrt() - 11.0).collect();
            let sums = |kernel: Kernel| {
                let mut sums = [0.0; BLOCK];
                kernel.half_block(&codes, &query, &mut sums);
                sums
            };
            assert_eq!(sums(Kernel::detect()), sums(Kernel::Portable), "{columns} columns");
        }
    }

    fn packed(kernel: Kernel, values: &[f32], cut: &[super::Segment]) -> Vec<f32> {
        let mut panel = vec![0.0; width(cut) * PANEL];
        kernel.pack(values, cut, 80, &mut panel);
        let mut all = panel.clone();
        for count in 1..=super::QUERIES {
            let queries: Vec<f32> = (0..width(cut) * count).map(|at| (at % 5) as f32 - 2.0).collect();
            let mut scores = vec![1.0; count * BLOCK];
            for fresh in [true, false] {
                kernel.add_panel(&panel, &queries, count, Strips { scores: &mut scores, stride: BLOCK, fresh });
            }
            all.extend(scores);
        }
        all
    }
}

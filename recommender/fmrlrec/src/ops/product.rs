//! Scores of a row tile against every item, one slice of the dims at a time: the scores at dim
//! `s_i` are those at `s_{i-1}` plus the slice's product, so all dims cost one full-dim product.

use std::ops::Range;

/// Column ranges `s_{i-1}..s_i` of the nesting dims.
pub fn slices(dims: &[usize]) -> Vec<Range<usize>> {
    let starts = std::iter::once(0).chain(dims.iter().copied());
    starts.zip(dims).map(|(start, end)| start..*end).collect()
}

/// `scores += x[:, slice] table[:, slice]^T`.
///
/// # Shapes
/// `x` `[rows, width]`, `table` `[items, width]`, both row-major; `scores` `[rows, items]`.
pub fn add_slice_scores(x: &[f32], table: &[f32], width: usize, slice: &Range<usize>, scores: &mut [f32]) {
    let (rows, items) = (x.len() / width, table.len() / width);
    let a = Matrix { data: &x[slice.start..], rows, cols: slice.len(), row_stride: width, col_stride: 1 };
    let b = Matrix { data: &table[slice.start..], rows: slice.len(), cols: items, row_stride: 1, col_stride: width };
    multiply_add(a, b, scores, items);
}

/// A strided view.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) data: &'a [f32],
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) row_stride: usize,
    pub(super) col_stride: usize,
}

impl Matrix<'_> {
    fn last(&self) -> usize {
        (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride
    }
}

/// `out += a b`, `out` row-major with rows `out_stride` apart. One thread: callers split the rows.
#[allow(unsafe_code)]
pub(super) fn multiply_add(a: Matrix<'_>, b: Matrix<'_>, out: &mut [f32], out_stride: usize) {
    if a.rows == 0 || b.cols == 0 || a.cols == 0 {
        return;
    }
    assert_eq!(a.cols, b.rows, "inner sizes differ");
    assert!(a.last() < a.data.len() && b.last() < b.data.len(), "a view reaches past its data");
    assert!((a.rows - 1) * out_stride + b.cols <= out.len(), "the output is too small");
    // SAFETY: the asserts above bound every element that the three strided views reach, and `out`
    // is borrowed mutably, so it overlaps neither input.
    unsafe {
        gemm::gemm(
            a.rows,
            b.cols,
            a.cols,
            out.as_mut_ptr(),
            1,
            out_stride as isize,
            true,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            1.0f32,
            1.0f32,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

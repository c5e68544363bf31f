//! Scores of a row tile against every item, one slice of the dims at a time: the scores at dim
//! `s_i` are those at `s_{i-1}` plus the slice's product, so all dims cost one full-dim product.

use super::real::Real;
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
pub fn add_slice_scores<T: Real>(x: &[T], table: &[T], width: usize, slice: &Range<usize>, scores: &mut [T]) {
    let (rows, items) = (x.len() / width, table.len() / width);
    let (x, table) = (Matrix::columns(x, rows, width, slice), Matrix::columns(table, items, width, slice));
    multiply_add(x, table.transposed(), scores, items);
}

/// A strided view.
#[derive(Clone, Copy)]
pub(crate) struct Matrix<'a, T> {
    pub(crate) data: &'a [T],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) row_stride: usize,
    pub(crate) col_stride: usize,
}

impl<'a, T> Matrix<'a, T> {
    /// Columns `cut` of a row-major matrix whose rows are `stride` apart.
    pub(crate) fn columns(data: &'a [T], rows: usize, stride: usize, cut: &Range<usize>) -> Matrix<'a, T> {
        Matrix { data: &data[cut.start..], rows, cols: cut.len(), row_stride: stride, col_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Matrix<'a, T> {
        Matrix {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    fn last(&self) -> usize {
        (self.rows - 1) * self.row_stride + (self.cols - 1) * self.col_stride
    }
}

/// `out += a b`, `out` row-major with rows `out_stride` apart. One thread: callers split the rows.
#[allow(unsafe_code)]
pub(crate) fn multiply_add<T: Real>(a: Matrix<'_, T>, b: Matrix<'_, T>, out: &mut [T], out_stride: usize) {
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
            T::from_f64(1.0),
            T::from_f64(1.0),
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

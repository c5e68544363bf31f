//! The item table, stored slice by slice, and the scan over it.
//!
//! ```text
//! rows [n + 1, s_m], row-major          stored
//! item 0 | a a | b b | c c c c |        slice 1 [n + 1, s_1]        a a a a a a ...
//! item 1 | a a | b b | c c c c |  --->  slice 2 [n + 1, s_2 - s_1]  b b b b b b ...
//! ...                                   slice m                     c c c c c c ...
//! ```
//! A query of dim s_i reads slices 1..=i: contiguous memory, all of it used. In wide rows the same
//! prefix would be a short run at a long stride, and the memory bus would fetch the rest as well.

use crate::dot::dot;
use crate::heap::Best;
use crate::{MAX_K, RetrievalError, Scored};

/// Rows scored before the heap sees them: the scores stay in the first cache while slice after slice
/// adds to them.
const TILE: usize = 256;

/// Id of the padding item, which is row 0.
const PAD_ROW: usize = 0;

/// Item vectors of every nesting dim in one table.
pub struct NestedTable {
    dims: Vec<usize>,
    rows: usize,
    /// Slice i at `rows * s_{i-1}`, of shape [rows, s_i - s_{i-1}].
    values: Vec<f32>,
    /// [dims, rows]: 1 / |row| at each dim, 0 for a row that is (all but) zero.
    inverse_norms: Vec<f32>,
}

impl NestedTable {
    /// Lays out `rows`, row-major [n + 1, last of `dims`], slice by slice.
    ///
    /// # Errors
    /// `dims` is empty, not ascending or starts at 0; `rows` is no whole number of rows; a value is
    /// not finite.
    pub fn new(rows: &[f32], dims: &[usize]) -> Result<NestedTable, RetrievalError> {
        let ascending = dims.first().is_some_and(|&first| first > 0) && dims.windows(2).all(|pair| pair[0] < pair[1]);
        if !ascending {
            return Err(RetrievalError::Dims { dims: dims.to_vec() });
        }
        let width = dims[dims.len() - 1];
        let count = rows.len() / width;
        if rows.is_empty() || !rows.len().is_multiple_of(width) || u32::try_from(count).is_err() {
            return Err(RetrievalError::Shape { values: rows.len(), width });
        }
        if let Some(at) = rows.iter().position(|value| !value.is_finite()) {
            return Err(RetrievalError::Row { row: at / width });
        }
        let mut values = Vec::with_capacity(rows.len());
        let mut start = 0;
        for &end in dims {
            rows.chunks_exact(width).for_each(|row| values.extend_from_slice(&row[start..end]));
            start = end;
        }
        assert_eq!(values.len(), rows.len(), "every value is in one slice");
        let norms = dims.iter().flat_map(|&dim| rows.chunks_exact(width).map(move |row| inverse_norm(&row[..dim])));
        let inverse_norms = norms.collect();
        Ok(NestedTable { dims: dims.to_vec(), rows: count, values, inverse_norms })
    }

    /// The nesting dims, ascending.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of items, PAD not counted.
    pub fn items(&self) -> usize {
        self.rows - 1
    }

    /// The `k` items with the largest inner product with `query` among those that `allowed` accepts,
    /// best first, equal scores by lower id. `query` has shape [d] for a nesting dim d. Fewer than k
    /// come back only if fewer items are allowed.
    ///
    /// # Errors
    /// The query's length is no nesting dim, a value of it is not finite, or `k` is not in
    /// `1..=`[`MAX_K`].
    pub fn top_k(&self, query: &[f32], k: usize, allowed: &dyn Fn(u32) -> bool) -> Result<Vec<Scored>, RetrievalError> {
        let level = self.level(query.len())?;
        self.scan(query, level, k, None, allowed)
    }

    /// The `k` items most similar to item `id` by cosine at `dim`, without the item itself; otherwise
    /// as [`NestedTable::top_k`]. An item whose vector is zero has cosine 0 with every other.
    ///
    /// # Errors
    /// `dim` is no nesting dim, `id` is PAD or past the table, or `k` is not in `1..=`[`MAX_K`].
    pub fn most_similar(
        &self,
        id: u32,
        dim: usize,
        k: usize,
        allowed: &dyn Fn(u32) -> bool,
    ) -> Result<Vec<Scored>, RetrievalError> {
        let level = self.level(dim)?;
        let mut query = self.vector(id, dim)?;
        let inverse = self.inverse_norms[level * self.rows..][id as usize];
        query.iter_mut().for_each(|value| *value *= inverse);
        let scale = &self.inverse_norms[level * self.rows..][..self.rows];
        self.scan(&query, level, k, Some(scale), &|other| other != id && allowed(other))
    }

    /// Item `id`'s vector at `dim`, shape [dim].
    ///
    /// # Errors
    /// `dim` is no nesting dim, or `id` is PAD or past the table.
    pub fn vector(&self, id: u32, dim: usize) -> Result<Vec<f32>, RetrievalError> {
        let level = self.level(dim)?;
        let row = id as usize;
        if row == PAD_ROW || row >= self.rows {
            return Err(RetrievalError::Item { id, items: self.items() });
        }
        let mut vector = Vec::with_capacity(dim);
        for slice in 0..=level {
            let (start, width) = self.slice_span(slice);
            vector.extend_from_slice(&self.values[self.rows * start + row * width..][..width]);
        }
        Ok(vector)
    }

    /// Index of a dim among the nesting dims.
    fn level(&self, dim: usize) -> Result<usize, RetrievalError> {
        self.dims.binary_search(&dim).map_err(|_| RetrievalError::Untrained { dim, trained: self.dims.clone() })
    }

    /// First column and width of a slice.
    fn slice_span(&self, slice: usize) -> (usize, usize) {
        let start = if slice == 0 { 0 } else { self.dims[slice - 1] };
        (start, self.dims[slice] - start)
    }

    /// Scores tile by tile and keeps the best. `scale` [rows] multiplies each row's score.
    fn scan(
        &self,
        query: &[f32],
        level: usize,
        k: usize,
        scale: Option<&[f32]>,
        allowed: &dyn Fn(u32) -> bool,
    ) -> Result<Vec<Scored>, RetrievalError> {
        if !(1..=MAX_K).contains(&k) {
            return Err(RetrievalError::K { k });
        }
        if let Some(index) = query.iter().position(|value| !value.is_finite()) {
            return Err(RetrievalError::Query { index });
        }
        let mut best = Best::new(k, self.items());
        let mut scores = [0.0f32; TILE];
        for first in (0..self.rows).step_by(TILE) {
            let scores = &mut scores[..TILE.min(self.rows - first)];
            self.score_tile(query, level, first, scores);
            if let Some(scale) = scale {
                scores.iter_mut().zip(&scale[first..]).for_each(|(score, factor)| *score *= factor);
            }
            let skip = usize::from(first == PAD_ROW);
            for (offset, &score) in scores.iter().enumerate().skip(skip) {
                // Adding zero turns -0 into +0, which the total order would otherwise rank below it.
                let candidate = Scored { id: (first + offset) as u32, score: score + 0.0 };
                // The filter runs last: few rows beat the worst result kept.
                if best.wants(candidate) && allowed(candidate.id) {
                    best.push(candidate);
                }
            }
        }
        Ok(best.into_sorted())
    }

    /// Inner products of `query` [d] with rows `first..first + scores.len()`, slice after slice.
    fn score_tile(&self, query: &[f32], level: usize, first: usize, scores: &mut [f32]) {
        scores.fill(0.0);
        for slice in 0..=level {
            let (start, width) = self.slice_span(slice);
            let part = &query[start..start + width];
            let rows = &self.values[self.rows * start + first * width..][..scores.len() * width];
            for (score, row) in scores.iter_mut().zip(rows.chunks_exact(width)) {
                *score += dot(row, part);
            }
        }
    }
}

impl std::fmt::Debug for NestedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NestedTable({} items, dims {:?})", self.items(), self.dims)
    }
}

/// In f64, so that a vector of very large or very small values still has a norm; one so small that the
/// inverse overflows counts as zero.
fn inverse_norm(vector: &[f32]) -> f32 {
    let squares: f64 = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum();
    let inverse = (1.0 / squares.sqrt()) as f32;
    if inverse.is_finite() { inverse } else { 0.0 }
}

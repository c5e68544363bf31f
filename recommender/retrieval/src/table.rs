//! The item table and its exact queries.

use crate::batch::{self, Queries};
use crate::buffer::Buffer;
use crate::kernel::Kernel;
use crate::layout::Layout;
use crate::scan::{self, View};
use crate::{Filter, MAX_BATCH, MAX_K, MAX_THREADS, RetrievalError, Scored};

/// Id of the padding item, which is row 0.
const PAD_ROW: usize = 0;
/// Longest row, and the largest product of a row's and a query's length: far enough from the end of
/// f32 that no sum on the way to a score overflows (each is at most that product).
const LONGEST: f64 = f32::MAX as f64 / 16.0;

/// Item vectors of every nesting dim in one table.
pub struct NestedTable {
    layout: Layout,
    values: Buffer<f32>,
    kernel: Kernel,
    /// [dims, rows]: 1 / |row| at each dim, 0 for a row that is (all but) zero.
    inverse_norms: Vec<f32>,
    /// Length of the longest row.
    longest: f64,
}

impl NestedTable {
    /// Lays out `rows`, row-major [n + 1, last of `dims`], slice by slice.
    ///
    /// # Errors
    /// `dims` is empty, not ascending or starts at 0; `rows` is no whole number of rows; a value is
    /// not finite or a row longer than 2e37; the system has no memory for it.
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
        let layout = Layout::new(dims, count);
        let mut inverse_norms = vec![0.0; dims.len() * count];
        let mut longest = 0.0f64;
        for (at, row) in rows.chunks_exact(width).enumerate() {
            let length = norms(row, dims, |level, inverse| inverse_norms[level * count + at] = inverse);
            if length.is_nan() || length > LONGEST {
                return Err(RetrievalError::Row { row: at });
            }
            longest = longest.max(length);
        }
        let mut values = Buffer::zeroed(layout.values())?;
        store(rows, width, &layout, values.as_mut_slice());
        Ok(NestedTable { layout, values, kernel: Kernel::detect(), inverse_norms, longest })
    }

    /// The nesting dims, ascending.
    pub fn dims(&self) -> &[usize] {
        self.layout.dims()
    }

    /// Number of items, PAD not counted.
    pub fn items(&self) -> usize {
        self.layout.rows() - 1
    }

    /// The `k` items with the largest inner product with `query` among those that `allowed` accepts,
    /// best first, equal scores by lower id. `query` has shape [d] for a nesting dim d. Fewer than k
    /// come back only if fewer items are allowed. One thread.
    ///
    /// # Errors
    /// The query's length is no nesting dim, a value of it is not finite, or `k` is not in
    /// `1..=`[`MAX_K`].
    pub fn top_k(&self, query: &[f32], k: usize, allowed: &dyn Fn(u32) -> bool) -> Result<Vec<Scored>, RetrievalError> {
        let (level, query) = self.padded_query(query)?;
        check_k(k)?;
        Ok(scan::top_k_where(self.view(level), &query, k, allowed))
    }

    /// As [`NestedTable::top_k`], with a filter whose sets skip whole runs of rows, on up to `threads`
    /// threads. A small table is scanned by one, whatever `threads` is.
    ///
    /// # Errors
    /// As [`NestedTable::top_k`]; the filter was made for another number of items or is too long;
    /// `threads` is not in `1..=`[`MAX_THREADS`].
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        filter: &Filter<'_>,
        threads: usize,
    ) -> Result<Vec<Scored>, RetrievalError> {
        let (level, query) = self.padded_query(query)?;
        check_k(k)?;
        check_threads(threads)?;
        filter.check(self.items())?;
        Ok(scan::top_k(self.view(level), &query, k, filter, threads).into_sorted())
    }

    /// For each of `queries`, row-major [q, dim], what [`NestedTable::search`] gives it. `filters` holds
    /// one filter for all queries, or one for each.
    ///
    /// # Errors
    /// As [`NestedTable::search`]; more than [`MAX_BATCH`] queries, or a number of filters that is
    /// neither 1 nor that of the queries.
    pub fn top_k_batch(
        &self,
        queries: &[f32],
        dim: usize,
        k: usize,
        filters: &[Filter<'_>],
        threads: usize,
    ) -> Result<Vec<Vec<Scored>>, RetrievalError> {
        let level = self.level(dim)?;
        let count = queries.len() / dim;
        if !queries.len().is_multiple_of(dim) || count > MAX_BATCH {
            return Err(RetrievalError::Batch { values: queries.len(), dim });
        }
        if filters.len() != 1 && filters.len() != count {
            return Err(RetrievalError::Filters { filters: filters.len(), queries: count });
        }
        queries.chunks_exact(dim).try_for_each(|query| self.check_query(query))?;
        filters.iter().try_for_each(|filter| filter.check(self.items()))?;
        check_k(k)?;
        check_threads(threads)?;
        if count == 0 {
            return Ok(Vec::new());
        }
        if count == 1 {
            // The same bits, and no packing.
            return Ok(vec![self.search(queries, k, &filters[0], threads)?]);
        }
        let queries = Queries::new(&self.layout, queries, level);
        Ok(batch::top_k(self.view(level), &queries, k, filters, threads))
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
        let unit = self.unit(id, dim)?;
        self.top_k_by_cosine(&unit, k, &|other| other != id && allowed(other))
    }

    /// Item `id`'s vector at `dim`, scaled to length 1.
    pub(crate) fn unit(&self, id: u32, dim: usize) -> Result<Vec<f32>, RetrievalError> {
        let mut unit = self.vector(id, dim)?;
        let inverse = self.inverse_norms(self.level(dim)?)[id as usize];
        unit.iter_mut().for_each(|value| *value *= inverse);
        Ok(unit)
    }

    /// The `k` items with the largest cosine with a vector of length 1.
    pub(crate) fn top_k_by_cosine(
        &self,
        unit: &[f32],
        k: usize,
        allowed: &dyn Fn(u32) -> bool,
    ) -> Result<Vec<Scored>, RetrievalError> {
        let (level, query) = self.padded_query(unit)?;
        check_k(k)?;
        let view = View { scale: Some(self.inverse_norms(level)), ..self.view(level) };
        Ok(scan::top_k_where(view, &query, k, allowed))
    }

    /// 1 / |row| at a level, by row.
    fn inverse_norms(&self, level: usize) -> &[f32] {
        &self.inverse_norms[level * self.layout.rows()..][..self.layout.rows()]
    }

    /// Item `id`'s vector at `dim`, shape [dim].
    ///
    /// # Errors
    /// `dim` is no nesting dim, or `id` is PAD or past the table.
    pub fn vector(&self, id: u32, dim: usize) -> Result<Vec<f32>, RetrievalError> {
        let level = self.level(dim)?;
        let row = id as usize;
        if row == PAD_ROW || row > self.items() {
            return Err(RetrievalError::Item { id, items: self.items() });
        }
        let mut vector = Vec::with_capacity(dim);
        for (columns, at) in self.layout.lines(row, level) {
            vector.extend_from_slice(&self.values.as_slice()[at..][..columns.len()]);
        }
        Ok(vector)
    }

    /// All items' vectors at `dim`, row-major [items, dim].
    pub(crate) fn prefixes(&self, dim: usize) -> Result<Vec<f32>, RetrievalError> {
        let mut rows = Vec::with_capacity(self.items() * dim);
        for id in 1..=self.items() {
            rows.extend_from_slice(&self.vector(id as u32, dim)?);
        }
        Ok(rows)
    }

    /// Index of a dim among the nesting dims.
    pub(crate) fn level(&self, dim: usize) -> Result<usize, RetrievalError> {
        let dims = self.dims();
        dims.binary_search(&dim).map_err(|_| RetrievalError::Untrained { dim, trained: dims.to_vec() })
    }

    /// The table at a level.
    pub(crate) fn view(&self, level: usize) -> View<'_> {
        View { layout: &self.layout, values: self.values.as_slice(), kernel: self.kernel, level, scale: None }
    }

    /// The level of a query and its padded columns, if it is one.
    pub(crate) fn padded_query(&self, query: &[f32]) -> Result<(usize, Vec<f32>), RetrievalError> {
        let level = self.level(query.len())?;
        self.check_query(query)?;
        let mut padded = vec![0.0; self.layout.padded(level)];
        self.layout.pad(query, level, &mut padded);
        Ok((level, padded))
    }

    fn check_query(&self, query: &[f32]) -> Result<(), RetrievalError> {
        if let Some(index) = query.iter().position(|value| !value.is_finite()) {
            return Err(RetrievalError::Query { index });
        }
        let length = query.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
        if length * self.longest > LONGEST {
            return Err(RetrievalError::Overflow { length });
        }
        Ok(())
    }
}

impl std::fmt::Debug for NestedTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "NestedTable({} items, dims {:?})", self.items(), self.dims())
    }
}

/// Refuses a number of results.
pub(crate) fn check_k(k: usize) -> Result<(), RetrievalError> {
    if (1..=MAX_K).contains(&k) { Ok(()) } else { Err(RetrievalError::K { k }) }
}

/// Refuses a number of threads.
pub(crate) fn check_threads(threads: usize) -> Result<(), RetrievalError> {
    if (1..=MAX_THREADS).contains(&threads) { Ok(()) } else { Err(RetrievalError::Threads { threads }) }
}

/// Writes wide rows [n + 1, width] to their slices.
fn store(rows: &[f32], width: usize, layout: &Layout, values: &mut [f32]) {
    for (at, row) in rows.chunks_exact(width).enumerate() {
        for (columns, place) in layout.lines(at, layout.dims().len() - 1) {
            values[place..][..columns.len()].copy_from_slice(&row[columns]);
        }
    }
}

/// Hands out 1 / |row| at each dim and returns the whole row's length. In f64, so that a vector of very
/// large or very small values still has a norm; one so small that the inverse overflows counts as zero.
fn norms(row: &[f32], dims: &[usize], mut inverse: impl FnMut(usize, f32)) -> f64 {
    let (mut squares, mut start) = (0.0f64, 0);
    for (level, &end) in dims.iter().enumerate() {
        squares += row[start..end].iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>();
        start = end;
        let value = (1.0 / squares.sqrt()) as f32;
        inverse(level, if value.is_finite() { value } else { 0.0 });
    }
    squares.sqrt()
}

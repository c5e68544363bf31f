//! A table and rows that came after it: searched as one, without laying the table out anew.
//!
//! Item ids go on behind the table's: the tail's item 1 has the id after the table's last. A row's score
//! has the same bits wherever the row lies (layout.rs), so every result is exactly that of one table of
//! all rows. A search costs a scan of both and a merge of two sorted lists.

use crate::{Filter, NestedTable, RetrievalError, Scored};

/// A table and, if there are any, rows behind it.
#[derive(Debug, Clone, Copy)]
pub struct Tailed<'a> {
    table: &'a NestedTable,
    tail: Option<&'a NestedTable>,
}

/// One filter for a table and its tail: sets are over one or the other, ids over both.
#[derive(Debug, Clone, Default)]
pub struct TailedFilter<'a> {
    /// For items of the table, by their ids.
    pub table: Filter<'a>,
    /// For items of the tail, by their ids in the tail, from 1.
    pub tail: Filter<'a>,
}

impl<'a> Tailed<'a> {
    /// Puts `tail` behind `table`.
    ///
    /// # Errors
    /// Their nesting dims differ, or there are more rows than ids.
    pub fn new(table: &'a NestedTable, tail: Option<&'a NestedTable>) -> Result<Tailed<'a>, RetrievalError> {
        if let Some(tail) = tail {
            if tail.dims() != table.dims() {
                return Err(RetrievalError::TailDims { tail: tail.dims().to_vec(), table: table.dims().to_vec() });
            }
            let values = table.items() + tail.items() + 1;
            if u32::try_from(values).is_err() {
                return Err(RetrievalError::Shape { values, width: 1 });
            }
        }
        Ok(Tailed { table, tail })
    }

    /// The nesting dims, ascending.
    pub fn dims(&self) -> &'a [usize] {
        self.table.dims()
    }

    /// Number of items of both.
    pub fn items(&self) -> usize {
        self.table.items() + self.tail.map_or(0, NestedTable::items)
    }

    /// As [`NestedTable::vector`].
    ///
    /// # Errors
    /// As [`NestedTable::vector`].
    pub fn vector(&self, id: u32, dim: usize) -> Result<Vec<f32>, RetrievalError> {
        let (table, row) = self.place(id)?;
        table.vector(row, dim)
    }

    /// As [`NestedTable::top_k`].
    ///
    /// # Errors
    /// As [`NestedTable::top_k`].
    pub fn top_k(&self, query: &[f32], k: usize, allowed: &dyn Fn(u32) -> bool) -> Result<Vec<Scored>, RetrievalError> {
        let found = self.table.top_k(query, k, allowed)?;
        let Some(tail) = self.tail else { return Ok(found) };
        let behind = tail.top_k(query, k, &|row| allowed(row + self.offset()))?;
        Ok(self.merge(found, behind, k))
    }

    /// As [`NestedTable::most_similar`].
    ///
    /// # Errors
    /// As [`NestedTable::most_similar`].
    pub fn most_similar(
        &self,
        id: u32,
        dim: usize,
        k: usize,
        allowed: &dyn Fn(u32) -> bool,
    ) -> Result<Vec<Scored>, RetrievalError> {
        let (table, row) = self.place(id)?;
        let unit = table.unit(row, dim)?;
        let allowed = |other: u32| other != id && allowed(other);
        let found = self.table.top_k_by_cosine(&unit, k, &allowed)?;
        let Some(tail) = self.tail else { return Ok(found) };
        let behind = tail.top_k_by_cosine(&unit, k, &|row| allowed(row + self.offset()))?;
        Ok(self.merge(found, behind, k))
    }

    /// As [`NestedTable::top_k_batch`].
    ///
    /// # Errors
    /// As [`NestedTable::top_k_batch`].
    pub fn top_k_batch(
        &self,
        queries: &[f32],
        dim: usize,
        k: usize,
        filters: &[TailedFilter<'_>],
        threads: usize,
    ) -> Result<Vec<Vec<Scored>>, RetrievalError> {
        let of_table: Vec<Filter<'_>> = filters.iter().map(|filter| filter.table.clone()).collect();
        let found = self.table.top_k_batch(queries, dim, k, &of_table, threads)?;
        self.with_tail(found, queries, dim, k, filters, threads)
    }

    /// Completes what some search of the table alone found for each query with what the tail has.
    ///
    /// # Errors
    /// As [`NestedTable::top_k_batch`].
    pub fn with_tail(
        &self,
        found: Vec<Vec<Scored>>,
        queries: &[f32],
        dim: usize,
        k: usize,
        filters: &[TailedFilter<'_>],
        threads: usize,
    ) -> Result<Vec<Vec<Scored>>, RetrievalError> {
        let Some(tail) = self.tail else { return Ok(found) };
        let of_tail: Vec<Filter<'_>> = filters.iter().map(|filter| filter.tail.clone()).collect();
        let behind = tail.top_k_batch(queries, dim, k, &of_tail, threads)?;
        Ok(found.into_iter().zip(behind).map(|(found, behind)| self.merge(found, behind, k)).collect())
    }

    /// What an id of the tail is more than its row.
    fn offset(&self) -> u32 {
        self.table.items() as u32
    }

    /// The table that holds an item, and its id there.
    fn place(&self, id: u32) -> Result<(&'a NestedTable, u32), RetrievalError> {
        match self.tail {
            Some(tail) if id > self.offset() && id as usize <= self.items() => Ok((tail, id - self.offset())),
            _ if id as usize > self.items() => Err(RetrievalError::Item { id, items: self.items() }),
            _ => Ok((self.table, id)),
        }
    }

    /// The best `k` of two lists, best first; of equal scores the table's come first, whose ids are lower.
    fn merge(&self, found: Vec<Scored>, behind: Vec<Scored>, k: usize) -> Vec<Scored> {
        if behind.is_empty() {
            return found;
        }
        let mut merged = Vec::with_capacity(k.min(found.len() + behind.len()));
        let mut found = found.into_iter().peekable();
        let mut behind = behind.into_iter().map(|item| Scored { id: item.id + self.offset(), ..item }).peekable();
        while merged.len() < k {
            let next = match (found.peek(), behind.peek()) {
                (Some(one), Some(other)) if one.score >= other.score => found.next(),
                (_, Some(_)) => behind.next(),
                (_, None) => found.next(),
            };
            let Some(next) = next else { break };
            merged.push(next);
        }
        merged
    }
}

//! Exact top-k over nested item vectors.
//!
//! Is: one table in memory that serves every nesting dim, scanned whole for each query on one thread.
//! Is not: an approximate index; below about 50,000 items the scan needs none.
//! Limits: `k` up to [`MAX_K`], at most `u32::MAX` rows, finite values only.
//!
//! Shapes: n items have ids `1..=n`; row `i` is item `i` and row 0 is PAD, which no result contains.
//! `dims` are the nesting dims, ascending; a query of dim `d` reads the first `d` columns of each row.

mod dot;
mod error;
mod heap;
mod table;

pub use error::RetrievalError;
pub use table::NestedTable;

/// Most results of one query.
pub const MAX_K: usize = 1_000;

/// One result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Item id, never PAD.
    pub id: u32,
    /// Inner product with the query, or cosine from [`NestedTable::most_similar`]; larger is better.
    pub score: f32,
}

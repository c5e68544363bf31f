//! Why a table or a query was refused: one sentence with the value and the way out.

use crate::MAX_K;

/// A refused table or query.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RetrievalError {
    /// The nesting dims of a table break a rule.
    #[error("nesting dims {dims:?} are not one or more ascending numbers from 1")]
    Dims {
        /// The dims given.
        dims: Vec<usize>,
    },
    /// The table's length is no whole number of rows, or it lacks the PAD row, or has too many rows.
    #[error("a table of {values} values is not one or more (at most 2^32 - 1) rows of {width}")]
    Shape {
        /// Values given.
        values: usize,
        /// The largest nesting dim.
        width: usize,
    },
    /// A table holds NaN or an infinity.
    #[error("row {row} of the item table holds a value that is not finite")]
    Row {
        /// The row, which is the item id.
        row: usize,
    },
    /// A query's length is no trained dim.
    #[error("dim {dim} was not trained; use one of {trained:?}")]
    Untrained {
        /// The dim asked for.
        dim: usize,
        /// The dims that would work.
        trained: Vec<usize>,
    },
    /// A query holds NaN or an infinity.
    #[error("value {index} of the query is not finite")]
    Query {
        /// Index of the first such value.
        index: usize,
    },
    /// `k` is 0 or too large.
    #[error("k is {k}; ask for 1 to {MAX_K}", MAX_K = MAX_K)]
    K {
        /// The k asked for.
        k: usize,
    },
    /// An item id that is PAD or past the table.
    #[error("item id {id} is not in 1..={items}")]
    Item {
        /// The id given.
        id: u32,
        /// Number of items.
        items: usize,
    },
}

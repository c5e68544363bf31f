//! Why a table or a query was refused: one sentence with the value and the way out.

use crate::{
    MAX_BATCH, MAX_ITERATIONS, MAX_K, MAX_SHORTLIST, MAX_STAGES, MAX_THREADS, MAX_WITHOUT, MIN_TUNING_QUERIES,
};

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
    /// A table holds NaN, an infinity, or a vector so long that scores could overflow.
    #[error("row {row} of the item table holds a value that is not finite, or is longer than 2e37; scale the vectors")]
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
    /// A query's dim was trained, but not coded.
    #[error("dim {dim} is not coded in this table, whose dim is {coded}; search the table that it was made from")]
    Uncoded {
        /// The dim asked for.
        dim: usize,
        /// The dim that was coded.
        coded: usize,
    },
    /// Rows behind a table have other nesting dims.
    #[error("rows with nesting dims {tail:?} do not fit behind a table with {table:?}; give both the same dims")]
    TailDims {
        /// The dims of the rows behind.
        tail: Vec<usize>,
        /// The dims of the table.
        table: Vec<usize>,
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
    /// A query so long that a score could overflow.
    #[error("a query of length {length:e} could overflow a score; scale it")]
    Overflow {
        /// The query's Euclidean length.
        length: f64,
    },
    /// A batch is no whole number of queries, or has too many.
    #[error("{values} values are not 0 to {MAX_BATCH} queries of dim {dim}", MAX_BATCH = MAX_BATCH)]
    Batch {
        /// Values given.
        values: usize,
        /// The dim asked for.
        dim: usize,
    },
    /// Neither one filter for all queries nor one for each.
    #[error("{filters} filters for {queries} queries; give one for all, or one for each")]
    Filters {
        /// Filters given.
        filters: usize,
        /// Queries given.
        queries: usize,
    },
    /// A set of items was made for another table.
    #[error("a set over {set} items does not fit {items} items; make it anew for this table")]
    Set {
        /// Items the set is over.
        set: usize,
        /// Items there are.
        items: usize,
    },
    /// A list of items to leave out is too long.
    #[error("{ids} ids to leave out are more than {MAX_WITHOUT}; put them in a Bitset", MAX_WITHOUT = MAX_WITHOUT)]
    Without {
        /// Ids given.
        ids: usize,
    },
    /// A predicate is too large.
    #[error("a predicate of {count} {what} has more than {most}; ask for less at once")]
    Predicate {
        /// What there are too many of.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many there may be.
        most: usize,
    },
    /// A bound or a value of a number column is NaN.
    #[error("column {column:?} was given NaN; leave the value or the bound out")]
    Bound {
        /// The column.
        column: String,
    },
    /// A predicate names a column that there is not.
    #[error("there is no {kind} column {name:?}; {kind} columns are {known:?}")]
    Column {
        /// The name.
        name: String,
        /// Text or number.
        kind: &'static str,
        /// Columns of that kind.
        known: Vec<String>,
    },
    /// The stages of a funnel break a rule.
    #[error("a funnel to dim {dim} needs 1 to {MAX_STAGES} stages of ascending smaller nesting dims, whose shortlists of 1 to {MAX_SHORTLIST} do not grow", MAX_STAGES = MAX_STAGES, MAX_SHORTLIST = MAX_SHORTLIST)]
    Stages {
        /// The query's dim.
        dim: usize,
    },
    /// The config of cells is out of its range.
    #[error("{cells} cells and {iterations} iterations are not 1 to {most_cells} and 1 to {MAX_ITERATIONS}", MAX_ITERATIONS = MAX_ITERATIONS)]
    Cells {
        /// Cells asked for.
        cells: usize,
        /// Iterations asked for.
        iterations: usize,
        /// Most cells of this table.
        most_cells: usize,
    },
    /// Rows or centres of cells are so long that the search for the nearest centre could overflow.
    #[error("a distance to centres of cells of length up to {length:e} could overflow; scale the vectors to 3e12")]
    Centres {
        /// Length of the longest centre.
        length: f64,
    },
    /// A query of cells is out of its range.
    #[error("a query of dim {dim} needs at least dim {least_dim}, 1 to {cells} cells and a shortlist of 1 to {MAX_SHORTLIST}", MAX_SHORTLIST = MAX_SHORTLIST)]
    Probe {
        /// The query's dim.
        dim: usize,
        /// The largest dim that the index reads.
        least_dim: usize,
        /// Cells there are.
        cells: usize,
    },
    /// Too few queries to choose by, or a recall that is none.
    #[error("{queries} queries and recall {recall} are not at least {MIN_TUNING_QUERIES} whole queries and a recall above 0 and at most 1", MIN_TUNING_QUERIES = MIN_TUNING_QUERIES)]
    Tuning {
        /// Queries given.
        queries: usize,
        /// Recall asked for.
        recall: f64,
    },
    /// A number of threads is 0 or too large.
    #[error("{threads} threads are not 1 to {MAX_THREADS}", MAX_THREADS = MAX_THREADS)]
    Threads {
        /// Threads asked for.
        threads: usize,
    },
    /// The system has no memory for a table.
    #[error("there is no memory for a table of {values} values")]
    Memory {
        /// Values of the table.
        values: usize,
    },
}

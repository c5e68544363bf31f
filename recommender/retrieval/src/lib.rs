//! Top-k over nested item vectors: exact at memory speed, and approximate where a table is so large
//! that exact is slow.
//!
//! Is: one table in memory that serves every nesting dim as a prefix. [`NestedTable`] answers one query
//! or a batch exactly, with filters applied inside the scan.
//! Is not: a store. Nothing here reads files; every index is a function of the table, a config and a seed.
//! Limits: the `MAX_` constants, at most `u32::MAX` rows, finite values only.
//!
//! Shapes: n items have ids `1..=n`; row `i` is item `i` and row 0 is PAD, which no result contains.
//! `dims` are the nesting dims, ascending; a query of dim `d` reads the first `d` columns of each row.
//!
//! Bits: on one machine a row's score for a query has the same bits whatever path computed it (one
//! query, a batch, a shortlist), by the rule in `layout.rs`. So results are compared with `==`.

mod batch;
mod bitset;
mod buffer;
mod coded;
mod error;
mod filter;
mod funnel;
mod ivf;
mod kernel;
mod kmeans;
mod layout;
mod metadata;
mod predicate;
mod scan;
mod select;
mod split;
mod table;
mod tailed;
mod tune;

pub use bitset::Bitset;
pub use coded::{CodedTable, Precision};
pub use error::RetrievalError;
pub use filter::Filter;
pub use funnel::{Funnel, MAX_SHORTLIST, MAX_STAGES, Stage};
pub use ivf::{Ivf, IvfConfig, MAX_CELLS, MAX_ITERATIONS, Probe};
pub use metadata::{MAX_CACHED_SETS, Metadata};
pub use predicate::{MAX_CONDITIONS, MAX_VALUES, Predicate};
pub use table::NestedTable;
pub use tailed::{Tailed, TailedFilter};
pub use tune::{MIN_TUNING_QUERIES, Plan, TuneConfig, Tuned, tune};

/// Below this many items use exact search, and build no index: it takes a few milliseconds at most, and an
/// index costs recall and memory. `tune` answers so.
pub const EXACT_ITEMS: usize = 50_000;
/// Most results of one query.
pub const MAX_K: usize = 1_000;
/// Most queries of one batch.
pub const MAX_BATCH: usize = 1_024;
/// Most ids in a filter's list; more belong in a [`Bitset`].
pub const MAX_WITHOUT: usize = 1_000;
/// Most threads of one call.
pub const MAX_THREADS: usize = 64;

/// One result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scored {
    /// Item id, never PAD.
    pub id: u32,
    /// Inner product with the query, or cosine from [`NestedTable::most_similar`]; larger is better.
    pub score: f32,
}

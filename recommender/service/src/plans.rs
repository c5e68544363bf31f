//! Search plans of a Bundle at work: what `recommender tune` chose, with the indexes that it needs.
//!
//! A plan is for one dim, at most the k that it was tuned for, and searches like those that its recall was
//! measured with: of all items, by user vectors of the whole model. Whatever is past that is searched exactly. Indexes are made when a Bundle is loaded: a quarter of the table's prefix for int8, one more
//! copy of the scanned prefix for cells.

use retrieval::{CodedTable, Filter, Funnel, Ivf, NestedTable, Plan, Probe, RetrievalError, Scored, Tuned};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The plans that are not simply exact, by dim.
#[derive(Default)]
pub(crate) struct Plans {
    by_dim: BTreeMap<usize, Planned>,
}

struct Planned {
    /// Results that its recall was measured with.
    k: usize,
    how: How,
}

enum How {
    /// Exact at every k.
    Coded(CodedTable),
    Funnel(Funnel),
    Cells(Box<Ivf>, Probe),
}

impl Plans {
    /// Makes what the plans need. Building cells takes a while on a large table.
    ///
    /// # Errors
    /// A text that is none, or plans that do not fit the table.
    pub(crate) fn new(text: Option<&str>, table: &Arc<NestedTable>, threads: usize) -> Result<Plans, String> {
        let Some(text) = text else { return Ok(Plans::default()) };
        let all: Vec<Tuned> =
            serde_json::from_str(text).map_err(|error| format!("its search plans are none: {error}"))?;
        let mut by_dim = BTreeMap::new();
        for tuned in all {
            let refused = |error: RetrievalError| format!("its search plan of dim {}: {error}", tuned.dim);
            let how = match tuned.plan {
                Plan::Exact => continue,
                Plan::Coded(precision) => {
                    How::Coded(CodedTable::new(Arc::clone(table), tuned.dim, precision).map_err(refused)?)
                }
                Plan::Funnel(funnel) => How::Funnel(funnel),
                Plan::Ivf { index, probe } => {
                    How::Cells(Box::new(Ivf::new(Arc::clone(table), index, threads).map_err(refused)?), probe)
                }
            };
            let planned = Planned { k: tuned.config.k, how };
            // Refused now rather than by the first request.
            planned.search(table, &vec![0.0; tuned.dim], 1, &Filter::all()).map_err(refused)?;
            by_dim.insert(tuned.dim, planned);
        }
        Ok(Plans { by_dim })
    }

    /// Dims that have a plan other than exact.
    pub(crate) fn dims(&self) -> impl Iterator<Item = usize> {
        self.by_dim.keys().copied()
    }

    /// Whether a search of `k` items at a dim goes by a plan that can miss some.
    pub(crate) fn may_miss(&self, dim: usize, k: usize, as_tuned: bool) -> bool {
        self.holds_for(dim, k, as_tuned).is_some_and(|planned| !planned.is_exact())
    }

    /// The best `k` items of the table by the plan of the query's dim; none where exact search is it.
    pub(crate) fn search(
        &self,
        table: &NestedTable,
        query: &[f32],
        k: usize,
        filter: &Filter<'_>,
        as_tuned: bool,
    ) -> Option<Result<Vec<Scored>, RetrievalError>> {
        self.holds_for(query.len(), k, as_tuned).map(|planned| planned.search(table, query, k, filter))
    }

    fn holds_for(&self, dim: usize, k: usize, as_tuned: bool) -> Option<&Planned> {
        self.by_dim.get(&dim).filter(|planned| planned.is_exact() || (as_tuned && k <= planned.k))
    }
}

impl Planned {
    /// Whether it finds what exact search finds, whatever is asked.
    fn is_exact(&self) -> bool {
        matches!(self.how, How::Coded(_))
    }

    fn search(
        &self,
        table: &NestedTable,
        query: &[f32],
        k: usize,
        filter: &Filter<'_>,
    ) -> Result<Vec<Scored>, RetrievalError> {
        match &self.how {
            How::Coded(coded) => coded.search(query, k, filter, 1),
            How::Funnel(funnel) => table.search_funnel(query, k, funnel, filter, 1),
            How::Cells(cells, probe) => cells.search(query, k, *probe, filter),
        }
    }
}

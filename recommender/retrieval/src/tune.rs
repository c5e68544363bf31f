//! Choosing how to search: the cheapest plan that reaches a stated recall.
//!
//! Every other query chooses, the rest measure: the recall reported is that of queries that chose nothing. A
//! plan is chosen only if it reaches the recall with a standard error to spare, so that mostly it holds there too.
//! Cost is bytes of table read, with a surcharge for rows of a shortlist, which lie apart: a plan is a
//! function of table, queries and config, not of a clock.

use crate::funnel::Survivors;
use crate::table::check_k;
use crate::{
    EXACT_ITEMS, Filter, Funnel, Ivf, IvfConfig, MAX_BATCH, MAX_SHORTLIST, NestedTable, Precision, Probe,
    RetrievalError, Scored, Stage, scan,
};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::sync::Arc;

/// Least number of queries: half of them choose.
pub const MIN_TUNING_QUERIES: usize = 20;
/// Shortlists tried, in multiples of k, up to [`MAX_SHORTLIST`]. The shortest is within it for every k.
const SHORTLISTS: [usize; 12] = [2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512];
/// A row read alone costs as much as this many read in order.
const SCATTERED: usize = 2;
/// Dims that cells are scanned at.
const SCAN_DIMS: usize = 3;
/// Values read in order in the time it takes to rank one row of a shortlist, whatever its dim.
const RANKED: usize = 256;

/// What to reach, and what may be used for it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TuneConfig {
    /// Results of a query.
    pub k: usize,
    /// Share of the exact results that must come back, above 0 and at most 1.
    pub recall: f64,
    /// Cells to try as well, scanned at its `scan_dim` and at the next larger dims.
    pub ivf: Option<IvfConfig>,
    /// Threads to use while choosing.
    pub threads: usize,
}

/// How to search.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// [`NestedTable::search`].
    Exact,
    /// [`crate::CodedTable::search`]: exact too.
    Coded(Precision),
    /// [`NestedTable::search_funnel`].
    Funnel(Funnel),
    /// [`Ivf::search`].
    Ivf {
        /// What to build.
        index: IvfConfig,
        /// How far to look.
        probe: Probe,
    },
}

/// A plan and what it was chosen by; made to be stored beside the table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuned {
    /// Dim of the queries it is for.
    pub dim: usize,
    /// What was asked for.
    pub config: TuneConfig,
    /// The plan.
    pub plan: Plan,
    /// Recall@k of the plan on the queries that did not choose it; 1 for an exact plan.
    pub held_out_recall: f64,
    /// Queries that chose.
    pub choosing_queries: usize,
    /// Queries that measured.
    pub held_out_queries: usize,
    /// Bytes of table that a query of the plan reads, with a surcharge for rows of shortlists.
    pub cost_bytes: usize,
    /// Bytes that an exact query reads.
    pub exact_bytes: usize,
}

/// The cheapest plan for queries [q, dim], row-major, that reaches the recall. A table of fewer than
/// [`EXACT_ITEMS`] items is searched exactly.
///
/// # Errors
/// Fewer than [`MIN_TUNING_QUERIES`] queries, or one that the table refuses; a value of the config is out
/// of its range.
pub fn tune(
    table: &Arc<NestedTable>,
    queries: &[f32],
    dim: usize,
    config: &TuneConfig,
) -> Result<Tuned, RetrievalError> {
    let level = table.level(dim)?;
    check_k(config.k)?;
    let count = queries.len() / dim;
    let recall = config.recall > 0.0 && config.recall <= 1.0;
    if !queries.len().is_multiple_of(dim) || count < MIN_TUNING_QUERIES || !recall {
        return Err(RetrievalError::Tuning { queries: count, recall: config.recall });
    }
    let items = table.items();
    let exact_bytes = items * dim * size_of::<f32>();
    let (choosing, held_out) = halves(queries, dim);
    let mut best = (Plan::Exact, exact_bytes);
    if items >= EXACT_ITEMS {
        let truth = exact(table, &choosing, dim, config)?;
        let trial = Trial { table, queries: &choosing, truth: &truth, dim, level, config };
        let int8_bytes = items * (dim + 12) + 4 * config.k * dim * size_of::<f32>() * SCATTERED;
        let found =
            trial.funnels()?.into_iter().chain(trial.cells()?).chain([(Plan::Coded(Precision::Int8), int8_bytes)]);
        best = found.chain([best]).min_by_key(|(_, cost)| *cost).expect("exact is one of them");
    }
    let held_out_recall = measure(table, &best.0, &held_out, dim, config)?;
    Ok(Tuned {
        dim,
        config: config.clone(),
        plan: best.0,
        held_out_recall,
        choosing_queries: choosing.len() / dim,
        held_out_queries: held_out.len() / dim,
        cost_bytes: best.1,
        exact_bytes,
    })
}

/// Every other query, and the rest.
fn halves(queries: &[f32], dim: usize) -> (Vec<f32>, Vec<f32>) {
    let half = |rest: usize| queries.chunks_exact(dim).skip(rest).step_by(2).flatten().copied().collect();
    (half(0), half(1))
}

/// The exact results of each query.
fn exact(
    table: &NestedTable,
    queries: &[f32],
    dim: usize,
    config: &TuneConfig,
) -> Result<Vec<Vec<Scored>>, RetrievalError> {
    let mut all = Vec::new();
    for queries in queries.chunks(MAX_BATCH * dim) {
        all.extend(table.top_k_batch(queries, dim, config.k, &[Filter::all()], config.threads)?);
    }
    Ok(all)
}

/// Share of the exact results that a plan finds.
fn measure(
    table: &Arc<NestedTable>,
    plan: &Plan,
    queries: &[f32],
    dim: usize,
    config: &TuneConfig,
) -> Result<f64, RetrievalError> {
    let all = Filter::all();
    let truth = match plan {
        Plan::Exact | Plan::Coded(_) => return Ok(1.0),
        Plan::Funnel(_) | Plan::Ivf { .. } => exact(table, queries, dim, config)?,
    };
    let cells = match plan {
        Plan::Ivf { index, probe } => Some((Ivf::new(Arc::clone(table), *index, config.threads)?, *probe)),
        _ => None,
    };
    let mut found = Vec::new();
    for query in queries.chunks_exact(dim) {
        found.push(match (plan, &cells) {
            (Plan::Funnel(funnel), _) => table.search_funnel(query, config.k, funnel, &all, config.threads)?,
            (_, Some((index, probe))) => index.search(query, config.k, *probe, &all)?,
            _ => table.search(query, config.k, &all, config.threads)?,
        });
    }
    Ok(recall(&found, &truth))
}

/// Share of `truth` that is in `found`.
pub(crate) fn recall(found: &[Vec<Scored>], truth: &[Vec<Scored>]) -> f64 {
    let (mut hits, mut total) = (0, 0);
    for (found, truth) in found.iter().zip(truth) {
        let found: HashSet<u32> = found.iter().map(|scored| scored.id).collect();
        hits += truth.iter().filter(|scored| found.contains(&scored.id)).count();
        total += truth.len();
    }
    if total == 0 { 1.0 } else { hits as f64 / total as f64 }
}

/// Whether recall, less its standard error over the queries, is at least `least`.
fn reaches(found: &[Vec<Scored>], truth: &[Vec<Scored>], least: f64) -> bool {
    let mean = recall(found, truth);
    let one = |(found, truth): (&Vec<Scored>, &Vec<Scored>)| {
        (recall(std::slice::from_ref(found), std::slice::from_ref(truth)) - mean).powi(2)
    };
    let squares: f64 = found.iter().zip(truth).map(one).sum();
    let count = truth.len() as f64;
    mean - (squares / (count * (count - 1.0).max(1.0))).sqrt() >= least
}

/// The choosing queries and their exact results.
struct Trial<'a> {
    table: &'a Arc<NestedTable>,
    queries: &'a [f32],
    truth: &'a [Vec<Scored>],
    dim: usize,
    level: usize,
    config: &'a TuneConfig,
}

impl Trial<'_> {
    /// Funnels that reach the recall: for each first dim the shortest list, alone and cut once more at a
    /// dim between, with their costs.
    fn funnels(&self) -> Result<Vec<(Plan, usize)>, RetrievalError> {
        let mut plans = Vec::new();
        for first in 0..self.level {
            let longest = self.lists().last().expect("there are shortlists");
            let scans = self.scans(first, longest)?;
            let ids = |list: usize| scans.iter().map(move |scan| &scan[..list.min(scan.len())]);
            let Some(list) = self.lists().find(|&list| self.reached(ids(list))) else { continue };
            let stage = |level: usize, shortlist: usize| Stage { dim: self.table.dims()[level], shortlist };
            plans.push(self.priced(vec![stage(first, list)]));
            // A longer list, cut at a dim between, can cost less where rows are wide.
            for list in self.lists().filter(|&longer| longer >= list).take(3) {
                for second in first + 1..self.level {
                    let cut = self.cut_again(first, second, ids(list))?;
                    let kept = |list: usize| cut.iter().map(move |kept| &kept[..list.min(kept.len())]);
                    if let Some(short) = self.lists().take_while(|&short| short < list).find(|&s| self.reached(kept(s)))
                    {
                        plans.push(self.priced(vec![stage(first, list), stage(second, short)]));
                    }
                }
            }
        }
        Ok(plans)
    }

    /// Cells that reach the recall, at each of some scan dims.
    fn cells(&self) -> Result<Vec<(Plan, usize)>, RetrievalError> {
        let Some(index) = self.config.ivf else { return Ok(Vec::new()) };
        let dims = self.table.dims().iter().filter(|&&dim| index.scan_dim <= dim && dim <= self.dim);
        let scanned = |&scan_dim: &usize| self.cells_of(IvfConfig { scan_dim, ..index });
        Ok(dims.take(SCAN_DIMS).map(scanned).collect::<Result<Vec<_>, _>>()?.concat())
    }

    /// For each shortlist the fewest cells of an index that reach the recall.
    fn cells_of(&self, index: IvfConfig) -> Result<Vec<(Plan, usize)>, RetrievalError> {
        let built = Ivf::new(Arc::clone(self.table), index, self.config.threads)?;
        let mut plans = Vec::new();
        for shortlist in self.lists().take(10) {
            let mut cells = 1;
            while cells <= index.cells {
                let probe = Probe { cells, shortlist };
                let queries = self.queries.chunks_exact(self.dim);
                let found = queries.map(|query| built.search(query, self.config.k, probe, &Filter::all()));
                if reaches(&found.collect::<Result<Vec<_>, _>>()?, self.truth, self.config.recall) {
                    let share = self.table.items() / index.cells * cells * index.scan_dim;
                    let values = index.cells * index.cell_dim + share + shortlist * (RANKED + self.dim * SCATTERED);
                    plans.push((Plan::Ivf { index, probe }, values * size_of::<f32>()));
                    break;
                }
                cells *= 2;
            }
        }
        Ok(plans)
    }

    fn lists(&self) -> impl Iterator<Item = usize> {
        SHORTLISTS.into_iter().map(|times| times * self.config.k).filter(|&list| list <= MAX_SHORTLIST)
    }

    /// The longest shortlist of each query at a level.
    fn scans(&self, level: usize, list: usize) -> Result<Vec<Vec<Scored>>, RetrievalError> {
        let dim = self.table.dims()[level];
        let queries = self.queries.chunks_exact(self.dim);
        let scans = queries.map(|query| {
            let (level, padded) = self.table.padded_query(&query[..dim])?;
            let best = scan::top_k(self.table.view(level), &padded, list, &Filter::all(), self.config.threads);
            Ok(best.into_sorted())
        });
        scans.collect()
    }

    /// Shortlists in the order of a larger dim.
    fn cut_again<'b>(
        &self,
        first: usize,
        second: usize,
        lists: impl Iterator<Item = &'b [Scored]>,
    ) -> Result<Vec<Vec<Scored>>, RetrievalError> {
        let dim = self.table.dims()[second];
        let cut = self.queries.chunks_exact(self.dim).zip(lists).map(|(query, list)| {
            let (_, padded) = self.table.padded_query(&query[..dim])?;
            let view = self.table.view(second);
            let mut survivors = Survivors::new(view.layout, first, list);
            survivors.rescore(view, &padded);
            Ok(survivors.best(list.len().max(1)))
        });
        cut.collect()
    }

    /// Whether lists hold enough of the exact results: the last stage puts what is there in its place.
    fn reached<'b>(&self, lists: impl Iterator<Item = &'b [Scored]>) -> bool {
        let lists: Vec<Vec<Scored>> = lists.map(<[Scored]>::to_vec).collect();
        reaches(&lists, self.truth, self.config.recall)
    }

    fn priced(&self, stages: Vec<Stage>) -> (Plan, usize) {
        let dims = stages.iter().map(|stage| stage.dim).skip(1).chain([self.dim]);
        let rows =
            stages.iter().zip(dims).map(|(stage, dim)| stage.shortlist * (RANKED + (dim - stage.dim) * SCATTERED));
        let values = self.table.items() * stages[0].dim + rows.sum::<usize>();
        (Plan::Funnel(Funnel { stages }), values * size_of::<f32>())
    }
}

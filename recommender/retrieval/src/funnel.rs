//! A funnel: a long shortlist at a small dim, cut shorter at each larger one, exact scores at the last.
//!
//! Later stages read only the rows of the shortlist and only the columns that no earlier stage has added
//! up, from the last complete cut on (layout.rs). So a result's score has the bits of an exact search; what
//! a funnel can lose is an item that ranks below the shortlist at a small dim.
//!
//! Below [`crate::EXACT_ITEMS`] items an exact search takes a few milliseconds at most: use no funnel there.

use crate::layout::Layout;
use crate::scan::{self, View};
use crate::select::{Best, best_of};
use crate::table::{check_k, check_threads};
use crate::{Filter, NestedTable, RetrievalError, Scored};
use serde::{Deserialize, Serialize};

/// Most stages before the last dim.
pub const MAX_STAGES: usize = 8;
/// Longest shortlist.
pub const MAX_SHORTLIST: usize = 100_000;

/// One stage: rank at `dim`, keep `shortlist`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// A nesting dim.
    pub dim: usize,
    /// Items kept.
    pub shortlist: usize,
}

/// Stages in order, dims ascending and shortlists not growing; the query's dim comes after the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Funnel {
    /// 1 to [`MAX_STAGES`].
    pub stages: Vec<Stage>,
}

impl NestedTable {
    /// The `k` best items at the query's dim among those that pass the funnel's stages and the filter;
    /// otherwise as [`NestedTable::search`]. A shortlist below k counts as k.
    ///
    /// # Errors
    /// As [`NestedTable::search`]; the stages are none or too many, their dims are no nesting dims
    /// ascending to below the query's, or a shortlist grows, is 0, or is too long.
    pub fn search_funnel(
        &self,
        query: &[f32],
        k: usize,
        funnel: &Funnel,
        filter: &Filter<'_>,
        threads: usize,
    ) -> Result<Vec<Scored>, RetrievalError> {
        let (last, query) = self.padded_query(query)?;
        check_k(k)?;
        check_threads(threads)?;
        filter.check(self.items())?;
        let levels = funnel.levels(self, last)?;
        let view = |level: usize| self.view(level);
        let layout = view(last).layout;
        let first = scan::top_k(
            view(levels[0]),
            &query[..layout.padded(levels[0])],
            funnel.stages[0].shortlist.max(k),
            filter,
            threads,
        );
        let mut survivors = Survivors::new(layout, levels[0], &first.into_unsorted());
        for (stage, &level) in funnel.stages.iter().zip(&levels).skip(1) {
            survivors.rescore(view(level), &query);
            survivors.keep(stage.shortlist.max(k));
        }
        survivors.rescore(view(last), &query);
        Ok(survivors.best(k))
    }
}

impl Funnel {
    /// Levels of the stages, all below `last`.
    fn levels(&self, table: &NestedTable, last: usize) -> Result<Vec<usize>, RetrievalError> {
        let levels = self.stages.iter().map(|stage| table.level(stage.dim)).collect::<Result<Vec<_>, _>>()?;
        let lists = || self.stages.iter().map(|stage| stage.shortlist);
        let good = (1..=MAX_STAGES).contains(&levels.len())
            && levels.is_sorted_by(|a, b| a < b)
            && levels.last().is_some_and(|&level| level < last)
            && lists().is_sorted_by(|a, b| a >= b)
            && lists().all(|list| (1..=MAX_SHORTLIST).contains(&list));
        if good { Ok(levels) } else { Err(RetrievalError::Stages { dim: table.dims()[last] }) }
    }
}

/// Items still in the running, in no order: sorting them by place took longer than it saved.
pub(crate) struct Survivors {
    ids: Vec<u32>,
    /// Sums of the first `cuts` cuts.
    sums: Vec<f32>,
    cuts: usize,
    scores: Vec<f32>,
}

impl Survivors {
    /// What a scan at `level` kept.
    pub(crate) fn new(layout: &Layout, level: usize, kept: &[Scored]) -> Survivors {
        let scores: Vec<f32> = kept.iter().map(|scored| scored.score).collect();
        let ids: Vec<u32> = kept.iter().map(|scored| scored.id).collect();
        // A score that ends within a cut has its lanes added up already: that cut is added anew.
        let whole = layout.ends_cut(level);
        let cuts = if whole { layout.complete_cuts(level) } else { 0 };
        let sums = if whole { scores.clone() } else { vec![0.0; ids.len()] };
        Survivors { ids, sums, cuts, scores }
    }

    /// Of items that have no score yet.
    pub(crate) fn unscored(ids: Vec<u32>) -> Survivors {
        Survivors { sums: vec![0.0; ids.len()], scores: vec![0.0; ids.len()], ids, cuts: 0 }
    }

    /// Scores at the view's level, which is not below that of the scores before.
    pub(crate) fn rescore(&mut self, view: View<'_>, query: &[f32]) {
        let complete = view.layout.complete_cuts(view.level);
        self.scores.clone_from(&self.sums);
        for (at, cut) in view.layout.cuts(view.level, self.cuts).enumerate() {
            view.kernel.add_rows(view.values, cut, &self.ids, query, &mut self.scores);
            if self.cuts + at + 1 == complete {
                self.sums.clone_from(&self.scores);
            }
        }
        self.cuts = self.cuts.max(complete);
    }

    /// Drops all but the best `count`.
    fn keep(&mut self, count: usize) {
        let candidates = self.ids.iter().zip(&self.scores).map(|(&id, &score)| Scored { id, score });
        let kept = best_of(candidates, count);
        let mut keep = kept.iter();
        self.ids.retain(|_| keep.next().is_some_and(|&keep| keep));
        let mut keep = kept.iter();
        self.sums.retain(|_| keep.next().is_some_and(|&keep| keep));
    }

    /// The best `k` by the latest scores, best first.
    pub(crate) fn best(&self, k: usize) -> Vec<Scored> {
        let mut best = Best::new(k, self.ids.len());
        for (&id, &score) in self.ids.iter().zip(&self.scores) {
            scan::offer(&mut best, Scored { id, score }, &|_| true);
        }
        best.into_sorted()
    }
}

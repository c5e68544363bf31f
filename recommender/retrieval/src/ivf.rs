//! Cells on prefixes: items are dealt to cells at one dim, a query scans its nearest cells at another and
//! scores the shortlist at its own (after AdANNS, Rege et al., 2023).
//!
//! Approximate, and only for tables so large that the first stage of a funnel takes too long. The cells
//! hold a second copy of the scan dim's prefix, in the order of cells; the rest stays in the one table.

use crate::bitset::bits;
use crate::funnel::Survivors;
use crate::kmeans::KMeans;
use crate::layout::BLOCK;
use crate::select::Best;
use crate::table::{check_k, check_threads};
use crate::{Filter, MAX_SHORTLIST, NestedTable, RetrievalError, Scored, scan};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::sync::Arc;

/// Most cells.
pub const MAX_CELLS: usize = 65_536;
/// Most rounds of k-means.
pub const MAX_ITERATIONS: usize = 100;

/// What an [`Ivf`] is built from; the same config and table give the same index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IvfConfig {
    /// Nesting dim at which items are dealt to cells.
    pub cell_dim: usize,
    /// Nesting dim at which cells are scanned.
    pub scan_dim: usize,
    /// Number of cells, 1 to [`MAX_CELLS`] and at most that of items; about the root of it is usual.
    pub cells: usize,
    /// Rounds of k-means, 1 to [`MAX_ITERATIONS`].
    pub iterations: usize,
    /// Seed of the first centres.
    pub seed: u64,
}

/// How far a query looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Cells scanned, 1 to the number of cells. More are scanned if they hold fewer than k allowed items.
    pub cells: usize,
    /// Items scored at the query's dim, 1 to [`MAX_SHORTLIST`]; below k counts as k.
    pub shortlist: usize,
}

/// Items in cells.
pub struct Ivf {
    table: Arc<NestedTable>,
    config: IvfConfig,
    /// Row `c + 1` is the centre of cell `c`.
    centres: NestedTable,
    /// The scan dim's prefix, cell after cell, each from a whole block on.
    prefix: NestedTable,
    /// Blocks of each cell.
    blocks: Vec<Range<usize>>,
    /// Item of each row of `prefix`; 0 for a row that fills a block up.
    ids: Vec<u32>,
}

impl Ivf {
    /// Deals the table's items to cells.
    ///
    /// # Errors
    /// A dim is no nesting dim, a number of the config is out of its range, vectors are so long (3e12) that a
    /// distance could overflow, or memory is short.
    pub fn new(table: Arc<NestedTable>, config: IvfConfig, threads: usize) -> Result<Ivf, RetrievalError> {
        let IvfConfig { cell_dim, scan_dim, cells, iterations, seed } = config;
        table.level(cell_dim)?;
        table.level(scan_dim)?;
        check_threads(threads)?;
        let most_cells = MAX_CELLS.min(table.items());
        if !(1..=most_cells).contains(&cells) || !(1..=MAX_ITERATIONS).contains(&iterations) {
            return Err(RetrievalError::Cells { cells, iterations, most_cells });
        }
        let rows = table.prefixes(cell_dim)?;
        let means = KMeans { dim: cell_dim, cells, iterations, seed, threads };
        let centres = means.centres(&rows)?;
        let assigned = means.assign(&rows, &centres)?;
        drop(rows);
        let (ids, blocks) = deal(&assigned, cells);
        let mut prefix = vec![0.0; ids.len() * scan_dim];
        for (&id, place) in ids.iter().zip(prefix.chunks_exact_mut(scan_dim)).filter(|(id, _)| **id != 0) {
            place.copy_from_slice(&table.vector(id, scan_dim)?);
        }
        let centres = NestedTable::new(&[vec![0.0; cell_dim], centres].concat(), &[cell_dim])?;
        let prefix = NestedTable::new(&prefix, &[scan_dim])?;
        Ok(Ivf { table, config, centres, prefix, blocks, ids })
    }

    /// The `k` best items at the query's dim among the shortlist from the nearest cells, with the scores
    /// of an exact search. Fewer than k come back only if fewer items are allowed.
    ///
    /// # Errors
    /// As [`NestedTable::search`]; the query's dim is below the cells' or the scan's, or the probe is out
    /// of its range.
    pub fn search(
        &self,
        query: &[f32],
        k: usize,
        probe: Probe,
        filter: &Filter<'_>,
    ) -> Result<Vec<Scored>, RetrievalError> {
        let (level, padded) = self.table.padded_query(query)?;
        check_k(k)?;
        filter.check(self.table.items())?;
        let IvfConfig { cell_dim, scan_dim, cells, .. } = self.config;
        let least_dim = cell_dim.max(scan_dim);
        let good = query.len() >= least_dim
            && (1..=cells).contains(&probe.cells)
            && (1..=MAX_SHORTLIST).contains(&probe.shortlist);
        if !good {
            return Err(RetrievalError::Probe { dim: query.len(), least_dim, cells });
        }
        let kept = self.shortlist(query, k, probe, filter)?;
        let mut survivors = Survivors::unscored(kept.into_iter().map(|scored| scored.id).collect());
        survivors.rescore(self.table.view(level), &padded);
        Ok(survivors.best(k))
    }

    fn shortlist(
        &self,
        query: &[f32],
        k: usize,
        probe: Probe,
        filter: &Filter<'_>,
    ) -> Result<Vec<Scored>, RetrievalError> {
        let (_, centre_query) = self.centres.padded_query(&query[..self.config.cell_dim])?;
        let (_, scan_query) = self.prefix.padded_query(&query[..self.config.scan_dim])?;
        let mut best = Best::new(probe.shortlist.max(k), self.ids.len());
        let nearest = |count: usize| scan::top_k_where(self.centres.view(0), &centre_query, count, &|_| true);
        let mut done = 0;
        // First the cells asked for; if they hold too few allowed items, all the others, nearest first.
        for count in [probe.cells, self.config.cells] {
            for cell in nearest(count).iter().skip(done) {
                if done >= probe.cells && best.kept() >= k {
                    return Ok(best.into_sorted());
                }
                self.scan_cell(cell.id as usize - 1, &scan_query, filter, &mut best);
                done += 1;
            }
            if best.kept() >= k {
                break;
            }
        }
        Ok(best.into_sorted())
    }

    fn scan_cell(&self, cell: usize, query: &[f32], filter: &Filter<'_>, best: &mut Best) {
        let view = self.prefix.view(0);
        for first in self.blocks[cell].clone().map(|block| block * BLOCK) {
            let mut scores = [0.0f32; BLOCK];
            for cut in view.layout.cuts(0, 0) {
                view.kernel.add_block(view.values, cut, first, query, &mut scores);
            }
            for bit in bits(view.kernel.reaching(&scores, best.threshold())) {
                let id = self.ids[first + bit];
                if id != 0 {
                    scan::offer(best, Scored { id, score: scores[bit] }, &|id| filter.accepts(id));
                }
            }
        }
    }
}

impl std::fmt::Debug for Ivf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ivf({:?} over {:?})", self.config, self.table)
    }
}

/// Items (row `i` is item `i + 1`) in the order of cells, each cell filled up to whole blocks, and the
/// blocks of each cell.
fn deal(assigned: &[usize], cells: usize) -> (Vec<u32>, Vec<Range<usize>>) {
    let mut members: Vec<Vec<u32>> = vec![Vec::new(); cells];
    for (row, &cell) in assigned.iter().enumerate() {
        members[cell].push(row as u32 + 1);
    }
    let mut ids = Vec::with_capacity(assigned.len() + cells * BLOCK);
    let blocks = members.iter().map(|members| {
        let start = ids.len() / BLOCK;
        ids.extend_from_slice(members);
        ids.resize(ids.len().next_multiple_of(BLOCK), 0);
        start..ids.len() / BLOCK
    });
    let blocks = blocks.collect();
    (ids, blocks)
}

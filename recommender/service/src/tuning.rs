//! Choosing search plans for a Bundle: queries that look like users, and `retrieval::tune` at each dim.

use fmrlrec::{Bundle, BundleError};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use retrieval::{EXACT_ITEMS, IvfConfig, NestedTable, RetrievalError, TuneConfig, Tuned, tune};
use std::sync::Arc;

/// Cells are made at a dim of at most this, where k-means is cheap.
const MOST_CELL_DIM: usize = 64;
/// Rounds of k-means.
const ITERATIONS: usize = 10;
/// Longest history of a query that is made up.
const MOST_STEPS: usize = 10;
/// The next item of a made-up history is one of so many neighbours.
const NEIGHBOURS: usize = 10;

/// What to tune for.
#[derive(Debug, Clone)]
pub struct TuneRequest {
    /// Share of the exact results that must come back, above 0 and at most 1.
    pub recall: f64,
    /// Results of a query.
    pub k: usize,
    /// Dims to tune; all of the Bundle's if empty.
    pub dims: Vec<usize>,
    /// Queries: half of them choose, half of them measure.
    pub queries: usize,
    /// Seed of the queries and of the cells.
    pub seed: u64,
    /// Threads.
    pub threads: usize,
}

/// Why no plan was chosen.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// The table, the recall, or k.
    #[error(transparent)]
    Retrieval(#[from] RetrievalError),
    /// The Bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
}

/// The cheapest plan for each dim. `histories` are real ones, of item ids, oldest first; without them the
/// queries are walks among neighbouring items. Below [`EXACT_ITEMS`] items every plan is exact.
///
/// # Errors
/// A dim that was not trained, a recall or k out of range, or too few queries.
pub fn tune_bundle(bundle: &Bundle, request: &TuneRequest, histories: &[Vec<u32>]) -> Result<Vec<Tuned>, TuneError> {
    let table = Arc::new(NestedTable::new(bundle.item_table(), bundle.dims())?);
    let mut random = ChaCha8Rng::seed_from_u64(request.seed);
    let histories = match histories.len() {
        0 => walks(&table, request.queries, &mut random)?,
        found => {
            // Evenly from all of them.
            let count = request.queries.min(found);
            (0..count).map(|at| histories[at * found / count].clone()).collect()
        }
    };
    let dims = if request.dims.is_empty() { bundle.dims().to_vec() } else { request.dims.clone() };
    dims.into_iter().map(|dim| tune_dim(bundle, &table, dim, request, &histories)).collect()
}

fn tune_dim(
    bundle: &Bundle,
    table: &Arc<NestedTable>,
    dim: usize,
    request: &TuneRequest,
    histories: &[Vec<u32>],
) -> Result<Tuned, TuneError> {
    let mut queries = Vec::with_capacity(histories.len() * dim);
    for history in histories {
        queries.extend(bundle.user_vector(history, dim)?);
    }
    let cell_dim = table.dims().iter().copied().rfind(|&at| at <= MOST_CELL_DIM.min(dim));
    let cells = (table.items() as f64).sqrt() as usize;
    let ivf = cell_dim.filter(|_| table.items() >= EXACT_ITEMS).map(|cell_dim| IvfConfig {
        cell_dim,
        scan_dim: cell_dim,
        cells,
        iterations: ITERATIONS,
        seed: request.seed,
    });
    let config = TuneConfig { k: request.k, recall: request.recall, ivf, threads: request.threads };
    Ok(tune(table, &queries, dim, &config)?)
}

/// Histories from one item to a neighbour of it and on.
fn walks(table: &NestedTable, count: usize, random: &mut ChaCha8Rng) -> Result<Vec<Vec<u32>>, RetrievalError> {
    let (items, dim) = (table.items() as u32, table.dims()[0]);
    let mut walks = Vec::with_capacity(count);
    while walks.len() < count && items > 0 {
        let mut walk = vec![random.random_range(1..=items)];
        for _ in 1..random.random_range(1..=MOST_STEPS) {
            let near = table.most_similar(walk[walk.len() - 1], dim, NEIGHBOURS, &|_| true)?;
            let Some(next) = near.get(random.random_range(0..near.len().max(1))) else { break };
            walk.push(next.id);
        }
        walks.push(walk);
    }
    Ok(walks)
}

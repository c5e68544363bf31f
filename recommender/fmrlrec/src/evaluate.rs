//! Full-ranking leave-one-out evaluation at every dim in one pass: one forward at the largest dim
//! (law 1 makes its prefixes the smaller models' outputs), then scores dim by dim.

use crate::baselines::{item_to_item, popularity};
use crate::data::{LeaveOneOut, Split, pack_histories};
use crate::metrics::metrics_of_ranks;
use crate::model::dropout::Dropout;
use crate::model::{FmrlRec, gather};
use crate::ops::{add_slice_scores, host_values, slices};
use crate::{BaselineQuality, Bundle, Cpu, DimQuality, Report, TrainError};
use burn::tensor::{Int, Tensor, TensorData};
use feature_store::Snapshot;
use rayon::prelude::*;

/// Users whose histories are run together.
const USERS_A_CHUNK: usize = 64;
/// Users scored together by one thread.
const ROWS_A_TILE: usize = 16;

/// Evaluates a Bundle on a Snapshot with the same vocabulary; `progress` gets (users done, users).
///
/// # Errors
/// A vocabulary that differs, or a Snapshot that cannot be read.
pub fn evaluate(
    bundle: &Bundle,
    snapshot: &Snapshot,
    split: Split,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Report, TrainError> {
    let items = snapshot.items()?;
    let theirs = items.iter().map(|item| &item.key);
    if !theirs.eq(bundle.items().iter().map(|item| &item.key)) {
        return Err(TrainError::Data(format!(
            "the Snapshot's {} items are not the Bundle's {}: evaluate on the Snapshot it was trained on",
            items.len(),
            bundle.items().len()
        )));
    }
    let held = LeaveOneOut::new(snapshot.sequences()?);
    crate::data::check_sequences(&held, items.len())?;
    let model = bundle.model();
    let dims = quality_at_dims(model, bundle.item_table(), bundle.dims(), bundle.max_history(), &held, split, progress);
    Ok(Report {
        split: split_name(split).to_owned(),
        users: held.held_out(split).count(),
        items: items.len(),
        dims,
        baselines: baselines(&held, split, items.len()),
        epoch: bundle.report().epoch,
    })
}

pub(crate) fn split_name(split: Split) -> &'static str {
    match split {
        Split::Validation => "validation",
        Split::Test => "test",
    }
}

/// Popularity and item-to-item cosine on the same users, targets and items.
pub(crate) fn baselines(held: &LeaveOneOut, split: Split, items: usize) -> Vec<BaselineQuality> {
    [
        ("popularity", popularity(held, split, items)),
        ("item-to-item cosine, last 10 items", item_to_item(held, split, items)),
    ]
    .map(|(name, ranks)| BaselineQuality { name: name.to_owned(), metrics: metrics_of_ranks(&ranks) })
    .into()
}

/// Metrics of every dim. `table` is row-major `[n + 1, D]`.
pub(crate) fn quality_at_dims(
    model: &FmrlRec<Cpu>,
    table: &[f32],
    dims: &[usize],
    max_history: usize,
    held: &LeaveOneOut,
    split: Split,
    progress: &mut dyn FnMut(usize, usize),
) -> Vec<DimQuality> {
    let users: Vec<(&[u32], u32)> = held.held_out(split).collect();
    let width = dims[dims.len() - 1];
    let table_tensor =
        Tensor::<Cpu, 2>::from_data(TensorData::new(table.to_vec(), [table.len() / width, width]), &Default::default());
    let mut ranks: Vec<Vec<usize>> = dims.iter().map(|_| Vec::with_capacity(users.len())).collect();
    for chunk in users.chunks(USERS_A_CHUNK) {
        let (batch, last) = pack_histories(chunk.iter().map(|(history, _)| *history), max_history);
        let x = model.forward(gather(table_tensor.clone(), &batch.tokens), &batch.keep, &mut Dropout::off());
        let last: Vec<i32> = last.into_iter().map(|at| at as i32).collect();
        let count = last.len();
        let last = Tensor::<Cpu, 1, Int>::from_data(TensorData::new(last, [count]), &Default::default());
        let targets: Vec<u32> = chunk.iter().map(|(_, target)| *target).collect();
        for (all, some) in ranks.iter_mut().zip(ranks_at_dims(&host_values(x.select(0, last)), table, &targets, dims)) {
            all.extend(some);
        }
        progress(ranks[0].len(), users.len());
    }
    dims.iter().zip(&ranks).map(|(&dim, ranks)| DimQuality { dim, metrics: metrics_of_ranks(ranks) }).collect()
}

/// 1-based rank of each target among all items (PAD left out) at every dim; equal scores rank by id.
///
/// # Shapes
/// `x` `[users, D]`, `table` `[n + 1, D]`, `targets` one a user -> one list of ranks a dim.
pub fn ranks_at_dims(x: &[f32], table: &[f32], targets: &[u32], dims: &[usize]) -> Vec<Vec<usize>> {
    let width = dims[dims.len() - 1];
    let items = table.len() / width;
    let tiles: Vec<Vec<Vec<usize>>> = x
        .par_chunks(ROWS_A_TILE * width)
        .zip(targets.par_chunks(ROWS_A_TILE))
        .map(|(x, targets)| {
            let mut scores = vec![0.0f32; targets.len() * items];
            let at_slice = |slice| {
                add_slice_scores(x, table, width, &slice, &mut scores);
                scores.chunks(items).zip(targets).map(|(scores, target)| rank(scores, *target as usize)).collect()
            };
            slices(dims).into_iter().map(at_slice).collect()
        })
        .collect();
    (0..dims.len()).map(|dim| tiles.iter().flat_map(|tile| tile[dim].iter().copied()).collect()).collect()
}

/// 1-based rank of `target`; element 0 is PAD and does not count.
pub(crate) fn rank(scores: &[f32], target: usize) -> usize {
    let score = scores[target];
    let above = scores[1..].iter().filter(|other| **other > score).count();
    let tied = scores[1..target].iter().filter(|other| **other == score).count();
    1 + above + tied
}

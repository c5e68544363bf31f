//! Full-ranking leave-one-out evaluation at every dim in one pass: one forward at the largest dim
//! (law 1 makes its prefixes the smaller models' outputs), then scores dim by dim.

use crate::baselines::{item_to_item, popularity};
use crate::bundle::columns;
use crate::compatibility::old_vectors;
use crate::data::{LeaveOneOut, Split, pack_histories};
use crate::learner::Exit;
use crate::metrics::metrics_of_ranks;
use crate::model::FmrlRec;
use crate::ops::{add_slice_scores, host_values, slices};
use crate::{BaselineQuality, Bundle, Cpu, DimQuality, ExitQuality, Report, TrainError};
use burn::tensor::Tensor;
use feature_store::{Item, Snapshot};
use rayon::prelude::*;

/// Most users whose histories are run together.
const USERS_A_CHUNK: usize = 64;
/// Most elements of one activation, items of histories times columns, unless a single history has more: about as many as a
/// step of training.
const ELEMENTS_A_CHUNK: usize = 1 << 20;
/// Users ranked together: tiles for 32 threads at least, and 2,048 user vectors in memory at most.
const USERS_A_ROUND: usize = 32 * ROWS_A_TILE;
/// Most users scored together by one thread. The item table is packed anew for every such tile.
const ROWS_A_TILE: usize = 64;
/// Most scores of a tile, which is all that a thread holds: 64 MiB, or one row where that is more.
const SCORES_A_TILE: usize = 1 << 24;

/// What of a Bundle is evaluated.
#[derive(Debug, Clone, Copy)]
pub enum Part<'a> {
    /// The whole model and its trained exits.
    Whole,
    /// A cut, one dim a block ([`FmrlRec::forward_cut_at`]).
    Cut(&'a [usize]),
    /// The users of the whole model against the item vectors of an older Bundle, at the dims that both
    /// have: what an upgrade is worth before items are embedded again.
    Against(&'a Bundle),
}

/// Evaluates a Bundle on a Snapshot with the same vocabulary; `progress` gets (users done, users).
///
/// # Errors
/// A vocabulary that differs, a Snapshot that cannot be read, block dims that do not fit, an older
/// Bundle without a dim in common or without one of the items.
pub fn evaluate(
    bundle: &Bundle,
    snapshot: &Snapshot,
    split: Split,
    part: Part<'_>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Report, TrainError> {
    let (items, held) = items_and_split(bundle, snapshot)?;
    let old = match part {
        Part::Against(old) => Some(old_vectors(old, bundle.dims(), &items)?),
        Part::Whole | Part::Cut(_) => None,
    };
    let block_dims = match part {
        Part::Cut(block_dims) => {
            bundle.shape().check_block_dims(block_dims)?;
            Some(block_dims.to_vec())
        }
        Part::Whole | Part::Against(_) => None,
    };
    let evaluation = Evaluation {
        model: bundle.model(),
        table: bundle.item_table(),
        items: items.len(),
        max_history: bundle.max_history(),
        held: &held,
        split,
        ranked: old.as_ref().map(|(vectors, _)| &vectors[..]),
    };
    let dims = old.as_ref().map_or(bundle.dims(), |(_, dims)| dims);
    let whole = evaluation.model.block_dims(bundle.blocks());
    Ok(Report {
        split: split_name(split).to_owned(),
        users: held.held_out(split).count(),
        items: items.len(),
        dims: evaluation.quality(dims, block_dims.as_ref().unwrap_or(&whole), progress),
        exits: if matches!(part, Part::Whole) { evaluation.exits(&bundle.exits()) } else { Vec::new() },
        block_dims,
        baselines: baselines(&held, split, items.len()),
        epoch: bundle.report().epoch,
    })
}

/// The Snapshot's items, which must be the Bundle's, and its split.
fn items_and_split(bundle: &Bundle, snapshot: &Snapshot) -> Result<(Vec<Item>, LeaveOneOut), TrainError> {
    let items = snapshot.items()?;
    let (theirs, ours) = (items.iter().map(|item| &item.key), bundle.items().iter().map(|item| &item.key));
    if !theirs.clone().eq(ours.clone()) {
        let (snapshot, bundle) = (items.len(), bundle.items().len());
        let first = theirs.zip(ours).find(|(one, other)| one != other);
        let first =
            first.map_or(String::new(), |(one, other)| format!(" (the first that differs: {one:?}, {other:?})"));
        return Err(TrainError::Data(format!(
            "the Snapshot's {snapshot} items are not the Bundle's {bundle}{first}: evaluate on the Snapshot it was trained on"
        )));
    }
    let held = LeaveOneOut::new(snapshot.sequences()?);
    crate::data::check_sequences(&held, items.len())?;
    Ok((items, held))
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

/// A model and the users it is evaluated on.
pub(crate) struct Evaluation<'a> {
    pub(crate) model: &'a FmrlRec<Cpu>,
    /// Row-major `[n + 1, D]`.
    pub(crate) table: &'a [f32],
    /// `n`.
    pub(crate) items: usize,
    pub(crate) max_history: usize,
    pub(crate) held: &'a LeaveOneOut,
    pub(crate) split: Split,
    /// Other item vectors to rank, `[n + 1, R]` with `R` at most `D`; none means `table`.
    pub(crate) ranked: Option<&'a [f32]>,
}

impl Evaluation<'_> {
    /// Metrics at each of `dims`, a leading part of the nesting dims; `block_dims` as in
    /// [`FmrlRec::forward_cut_at`]. `progress` gets (users done, users).
    pub(crate) fn quality(
        &self,
        dims: &[usize],
        block_dims: &[usize],
        progress: &mut dyn FnMut(usize, usize),
    ) -> Vec<DimQuality> {
        let users: Vec<(&[u32], u32)> = self.held.held_out(self.split).collect();
        let mut ranks: Vec<Vec<usize>> = dims.iter().map(|_| Vec::with_capacity(users.len())).collect();
        let ranked = self.ranked.unwrap_or(self.table);
        let width = ranked.len() / (self.items + 1);
        for round in users.chunks(USERS_A_ROUND) {
            let mut x: Vec<f32> = Vec::with_capacity(round.len() * width);
            let mut rest = round;
            while !rest.is_empty() {
                let (chunk, behind) = rest.split_at(self.chunk_len(rest));
                rest = behind;
                let (batch, last) = pack_histories(chunk.iter().map(|(history, _)| *history), self.max_history);
                let tokens = self.rows(&batch.tokens);
                let (y, _) = self.model.forward_cut_at(tokens, &batch.keep, block_dims, &last);
                x.extend(host_values::<f32, _, 2>(y.narrow(1, 0, width)));
            }
            let targets: Vec<u32> = round.iter().map(|(_, target)| *target).collect();
            let found = ranks_at_dims(&x, ranked, &targets, dims);
            ranks.iter_mut().zip(found).for_each(|(all, some)| all.extend(some));
            progress(ranks[0].len(), users.len());
        }
        dims.iter().zip(&ranks).map(|(&dim, ranks)| DimQuality { dim, metrics: metrics_of_ranks(ranks) }).collect()
    }

    fn dim(&self) -> usize {
        self.table.len() / (self.items + 1)
    }

    /// How many of the next users are run together, at least one.
    fn chunk_len(&self, users: &[(&[u32], u32)]) -> usize {
        let most = ELEMENTS_A_CHUNK / self.dim();
        let mut tokens = 0;
        let fits = |(history, _): &&(&[u32], u32)| {
            tokens += history.len().min(self.max_history);
            tokens <= most
        };
        users.iter().take(USERS_A_CHUNK).take_while(fits).count().max(1)
    }

    /// The item vectors of some items, `[t, D]`.
    fn rows(&self, items: &[u32]) -> Tensor<Cpu, 2> {
        let dim = self.dim();
        let rows: Vec<&[f32]> = items.iter().map(|item| &self.table[*item as usize * dim..][..dim]).collect();
        columns(&rows, dim)
    }

    /// Quality at each trained exit.
    pub(crate) fn exits(&self, exits: &[Exit]) -> Vec<ExitQuality> {
        let quality = |exit: &Exit| {
            let dims = &exit.objective.dims;
            ExitQuality {
                depth: exit.depth,
                dims: self.quality(dims, &self.model.block_dims(exit.depth), &mut |_, _| ()),
            }
        };
        exits.iter().map(quality).collect()
    }
}

/// 1-based rank of each target among all items (PAD left out) at every dim; equal scores rank by id, and a
/// target whose score is no number is last.
///
/// # Shapes
/// `x` `[users, D]`, `table` `[n + 1, D]`, `targets` one a user, `dims` a leading part of the nesting
/// dims -> one list of ranks a dim.
pub fn ranks_at_dims(x: &[f32], table: &[f32], targets: &[u32], dims: &[usize]) -> Vec<Vec<usize>> {
    let width = x.len() / targets.len().max(1);
    let items = table.len() / width.max(1);
    // By the shape alone, so that results do not depend on the number of threads.
    let rows = (SCORES_A_TILE / items.max(1)).clamp(1, ROWS_A_TILE);
    let tiles: Vec<Vec<Vec<usize>>> = x
        .par_chunks((rows * width).max(1))
        .zip(targets.par_chunks(rows))
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

/// 1-based rank of `target`; element 0 is PAD and does not count. A score that is no number never improves a
/// rank: a target with one is last, and an item with one is ahead of every other target.
pub(crate) fn rank(scores: &[f32], target: usize) -> usize {
    let score = scores[target];
    if score.is_nan() {
        return scores.len() - 1;
    }
    let above = scores[1..].iter().filter(|other| **other > score || other.is_nan()).count();
    let tied = scores[1..target].iter().filter(|other| **other == score).count();
    1 + above + tied
}

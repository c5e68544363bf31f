//! Upgrades without embedding every item again: a new model is trained so that its user vectors also
//! score against an older Bundle's item vectors, at every dim that both have (backward-compatible
//! training, Shen et al. 2020, applied at all dims at once). So a store of the old item vectors that
//! someone else keeps goes on serving the new model's users until it is replaced.

use crate::model::gather;
use crate::ops::Objective;
use crate::{Bundle, TrainConfig, TrainError, TrainingBackend};
use burn::tensor::{Tensor, TensorData};
use feature_store::Item;

/// An older Bundle's item vectors as a training target.
#[derive(Debug, Clone)]
pub struct OldTable<B: TrainingBackend> {
    /// `[m + 1, W]`, constant; row 0 is PAD.
    pub table: Tensor<B, 2>,
    /// For each item id of now, PAD first, its row in the old table.
    pub rows: Vec<Option<u32>>,
    /// Shared dims; their weights beside 1 for the model's own loss.
    pub objective: Objective,
}

impl<B: TrainingBackend> OldTable<B> {
    /// The table of `old` for a model of `config` on `items`.
    ///
    /// # Errors
    /// No dim or no item in common.
    pub fn new(
        old: &Bundle,
        weight: f64,
        config: &TrainConfig,
        items: &[Item],
        device: &B::Device,
    ) -> Result<OldTable<B>, TrainError> {
        let dims = shared_dims(old, &config.model.nesting_dims)?;
        let width = dims[dims.len() - 1];
        let table = cut(old.item_table(), old.items().len() + 1, width);
        let table = Tensor::from_data(TensorData::new(table, [old.items().len() + 1, width]), device);
        let rows = std::iter::once(Some(0)).chain(items.iter().map(|item| old.vocabulary().id(&item.key)));
        let rows: Vec<Option<u32>> = rows.collect();
        if rows.iter().skip(1).all(Option::is_none) {
            return Err(TrainError::Data(format!(
                "the Bundle {} to be compatible with has none of the Snapshot's {} items",
                old.id(),
                items.len()
            )));
        }
        let weights = vec![weight / dims.len() as f64; dims.len()];
        let logit_scales = config.objective.logit_scales(&dims);
        Ok(OldTable { table, rows, objective: Objective { dims, weights, logit_scales, distillation: 0.0 } })
    }

    /// User vectors whose label the old table has, cut to its width, and these labels as its rows.
    ///
    /// # Shapes
    /// `x` `[p, D]`, `labels` `p` -> `[q, W]` and `q` rows; none if `q` is 0.
    pub(crate) fn select(&self, x: &Tensor<B, 2>, labels: &[u32]) -> Option<(Tensor<B, 2>, Vec<u32>)> {
        let known = labels.iter().enumerate().filter_map(|(at, label)| Some((at as u32, self.rows[*label as usize]?)));
        let (positions, rows): (Vec<u32>, Vec<u32>) = known.unzip();
        let [_, width] = self.table.dims();
        let x = x.clone().narrow(1, 0, width);
        match positions.len() {
            0 => None,
            all if all == labels.len() => Some((x, rows)),
            _ => Some((gather(x, &positions), rows)),
        }
    }
}

/// The old Bundle's item vectors in the order of `items`, PAD first, cut to the largest shared dim.
///
/// # Errors
/// No shared dim, or an item that the old Bundle does not have.
pub(crate) fn old_vectors(old: &Bundle, dims: &[usize], items: &[Item]) -> Result<(Vec<f32>, Vec<usize>), TrainError> {
    let dims = shared_dims(old, dims)?;
    let width = dims[dims.len() - 1];
    let full = old.dims()[old.dims().len() - 1];
    let mut table = old.item_table()[..width].to_vec();
    for item in items {
        let Some(id) = old.vocabulary().id(&item.key) else {
            return Err(TrainError::Data(format!(
                "item {:?} is not in the older Bundle {}: its users cannot be ranked against that item table",
                item.key,
                old.id()
            )));
        };
        table.extend_from_slice(&old.item_table()[id as usize * full..][..width]);
    }
    Ok((table, dims))
}

fn shared_dims(old: &Bundle, dims: &[usize]) -> Result<Vec<usize>, TrainError> {
    let shared: Vec<usize> = dims.iter().copied().filter(|dim| old.dims().contains(dim)).collect();
    if shared.is_empty() {
        return Err(TrainError::Data(format!(
            "the older Bundle {} has dims {:?}, none of {dims:?}: name a shared one in model.nesting_dims",
            old.id(),
            old.dims()
        )));
    }
    Ok(shared)
}

/// The leading `width` columns of a row-major table of `rows` rows.
fn cut(table: &[f32], rows: usize, width: usize) -> Vec<f32> {
    table.chunks_exact(table.len() / rows).flat_map(|row| &row[..width]).copied().collect()
}

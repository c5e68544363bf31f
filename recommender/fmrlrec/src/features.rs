//! The item features of a training run: from the Snapshot's matrices to one checked tensor on the CPU, to what
//! training sees of it on its device, and the directions that the projector starts from.

use crate::model::principal::{Principal, principal_directions};
use crate::ops::host_values;
use crate::whitening::Whitening;
use crate::{Cpu, ProjectorStart, TrainConfig, TrainError};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use feature_store::Snapshot;

/// The item features of a run.
pub(crate) struct Features<B: Backend> {
    /// `[n + 1, f]`: what training sees, on its device.
    pub(crate) seen: Tensor<B, 2>,
    /// `[n + 1, f]`: as the Snapshot has them, where training sees others.
    raw: Option<Tensor<Cpu, 2>>,
    /// The directions that the projector starts from, if it does.
    pub(crate) principal: Option<Principal>,
    /// What made `seen` of the Snapshot's, if anything did.
    pub(crate) whitening: Option<Whitening>,
}

impl<B: Backend> Features<B> {
    /// The configured features of `rows` items, PAD included; `fresh` if a projector is to start from them.
    ///
    /// # Errors
    /// A feature that the Snapshot lacks or that does not fit, or fewer columns than dims.
    pub(crate) fn load(
        snapshot: &Snapshot,
        config: &TrainConfig,
        rows: usize,
        fresh: bool,
        device: &B::Device,
    ) -> Result<Features<B>, TrainError> {
        let raw = load_features(snapshot, config, rows)?;
        let whitened = config.model.projector_start == ProjectorStart::Whitened;
        let principal = if fresh || whitened { principal(config, &raw) } else { None };
        let whitening = match (config.model.projector_start, &principal) {
            (ProjectorStart::Whitened, Some(principal)) => Some(Whitening::new(principal, raw.dims()[1])),
            _ => None,
        };
        let (seen, raw) = match &whitening {
            Some(whitening) => (whitening.apply(&raw), Some(raw)),
            None => (raw, None),
        };
        Ok(Features { seen: carried::<Cpu, B>(seen, device), raw, principal, whitening })
    }

    /// `[n + 1, f]`: as the Snapshot has them.
    pub(crate) fn into_raw(self) -> Tensor<Cpu, 2> {
        let Features { seen, raw, .. } = self;
        raw.unwrap_or_else(|| carried::<B, Cpu>(seen, &Default::default()))
    }
}

/// The same values on another device. There may be none: items without features.
fn carried<A: Backend, B: Backend>(tensor: Tensor<A, 2>, device: &B::Device) -> Tensor<B, 2> {
    match tensor.dims() {
        [rows, 0] => Tensor::zeros([rows, 0], device),
        _ => Tensor::from_data(tensor.into_data(), device),
    }
}

/// The configured feature matrices side by side, `[n + 1, f]`.
fn load_features(snapshot: &Snapshot, config: &TrainConfig, rows: usize) -> Result<Tensor<Cpu, 2>, TrainError> {
    let found = snapshot.features()?;
    let mut parts: Vec<Tensor<Cpu, 2>> = Vec::new();
    for name in &config.features {
        let Some((_, matrix)) = found.iter().find(|(found, _)| found == name) else {
            let names: Vec<&String> = found.iter().map(|(name, _)| name).collect();
            return Err(TrainError::Config(format!("features: the Snapshot has no {name:?}; it has {names:?}")));
        };
        if matrix.rows() != rows {
            return Err(TrainError::Data(format!(
                "feature {name} has {} rows for {rows} item rows; build again",
                matrix.rows()
            )));
        }
        let values = matrix.to_f32();
        if let Some(at) = values.iter().position(|value| !value.is_finite()) {
            let (row, column) = (at / matrix.dim(), at % matrix.dim());
            return Err(TrainError::Data(format!(
                "feature {name}, item {row}, column {column} is {}: build again",
                values[at]
            )));
        }
        let data = TensorData::new(values, [rows, matrix.dim()]);
        parts.push(Tensor::<Cpu, 2>::from_data(data, &Default::default()));
    }
    if parts.is_empty() {
        return Ok(Tensor::<Cpu, 2>::zeros([rows, 0], &Default::default()));
    }
    let features = Tensor::cat(parts, 1);
    check_width(config, features.dims()[1])?;
    Ok(features)
}

/// Refuses a projector of more dims than feature columns: what it gives past them is made of the same columns
/// again. A learned vector per item has no such bound.
fn check_width(config: &TrainConfig, columns: usize) -> Result<(), TrainError> {
    let largest = config.model.largest_dim();
    if config.model.item_embedding || largest <= columns {
        return Ok(());
    }
    Err(TrainError::Config(format!(
        "model.nesting_dims: the largest dim {largest} is above the {columns} feature columns; lower it or set \
         model.item_embedding = true"
    )))
}

/// Widths of the configured features, which [`Features::load`] found in the Snapshot.
pub(crate) fn feature_widths(snapshot: &Snapshot, config: &TrainConfig) -> Vec<usize> {
    let all = &snapshot.manifest.features;
    let width = |name: &String| all.iter().find(|info| info.name == *name).map(|info| info.dim);
    config.features.iter().filter_map(width).collect()
}

/// The features' principal directions, if the projector starts from them.
fn principal(config: &TrainConfig, features: &Tensor<Cpu, 2>) -> Option<Principal> {
    let f = features.dims()[1];
    if f == 0 || config.model.projector_start == ProjectorStart::Normal {
        return None;
    }
    let values: Vec<f32> = host_values(features.clone());
    // Row 0 is PAD and has no features.
    Some(principal_directions(&values[f..], f, config.model.largest_dim(), config.seed))
}

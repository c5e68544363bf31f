//! The item features of a training run: from the Snapshot's matrices to one checked tensor, and the
//! directions that the projector starts from.

use crate::model::principal::{Principal, principal_directions};
use crate::ops::host_values;
use crate::{ProjectorStart, TrainConfig, TrainError};
use burn::tensor::{Tensor, TensorData, backend::Backend};
use feature_store::Snapshot;

/// The configured feature matrices side by side, `[n + 1, f]`.
pub(crate) fn load_features<B: Backend>(
    snapshot: &Snapshot,
    config: &TrainConfig,
    rows: usize,
    device: &B::Device,
) -> Result<Tensor<B, 2>, TrainError> {
    let found = snapshot.features()?;
    let mut parts = Vec::new();
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
        parts.push(Tensor::from_data(TensorData::new(values, [rows, matrix.dim()]), device));
    }
    if parts.is_empty() {
        return Ok(Tensor::zeros([rows, 0], device));
    }
    Ok(Tensor::cat(parts, 1))
}

/// Widths of the configured features, which [`load_features`] found in the Snapshot.
pub(crate) fn feature_widths(snapshot: &Snapshot, config: &TrainConfig) -> Vec<usize> {
    let all = &snapshot.manifest.features;
    let width = |name: &String| all.iter().find(|info| info.name == *name).map(|info| info.dim);
    config.features.iter().filter_map(width).collect()
}

/// The features' principal directions, if the projector starts from them.
pub(crate) fn principal<B: Backend>(config: &TrainConfig, features: &Tensor<B, 2>) -> Option<Principal> {
    let f = features.dims()[1];
    if f == 0 || config.model.projector_start == ProjectorStart::Normal {
        return None;
    }
    let values: Vec<f32> = host_values(features.clone());
    // Row 0 is PAD and has no features.
    Some(principal_directions(&values[f..], f, config.model.largest_dim(), config.seed))
}

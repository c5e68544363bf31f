//! The end of a training run: the best epoch's model on the CPU, its report on the test split, and the
//! Bundle. Whatever trained, the Bundle's item table is what the CPU makes of the Bundle's weights, because
//! that is where new items and users get their vectors.

use crate::bundle::{BundleConfig, BundleContents, write_bundle};
use crate::checkpoint::{Params, Progress};
use crate::data::Split;
use crate::evaluate::{Evaluation, baselines, split_name};
use crate::features::{Features, feature_widths};
use crate::model::FmrlRec;
use crate::ops::host_values;
use crate::params::{check_finite, load_params};
use crate::train::{Data, Job, checkpoint_path};
use crate::{Cpu, Report, TrainConfig, TrainError};
use burn::tensor::backend::Backend;

/// Evaluates the weights of the best epoch and writes the Bundle.
///
/// # Errors
/// A weight that is not finite, weights that do not fit, or what writing a Bundle may fail with.
pub(crate) fn finish<B: Backend>(
    job: &Job<'_>,
    data: &Data,
    features: Features<B>,
    progress: &Progress,
    mut best: Params,
) -> Result<Report, TrainError> {
    let Job { snapshot, config, old, output, .. } = *job;
    let epoch = progress.best_epoch;
    if let Some(whitening) = &features.whitening {
        whitening.fold(&mut best);
    }
    check_finite(&best).map_err(|what| TrainError::Diverged { epoch, what })?;
    let feature_dim = features.seen.dims()[1];
    let model = host_model(config, feature_dim, data.items.len(), &best)
        .map_err(|reason| TrainError::Checkpoint { path: checkpoint_path(output), reason })?;
    let table: Vec<f32> = host_values(model.item_table(features.into_raw()));
    let report = test_report(config, data, &model, &table, epoch);
    let bundle_config = BundleConfig {
        train: config.clone(),
        feature_dim,
        feature_widths: feature_widths(snapshot, config),
        snapshot_sha256: data.snapshot_sha256.clone(),
        compatible_with: old.map(|old| old.id().to_owned()),
    };
    let contents = BundleContents {
        config: &bundle_config,
        model: &model,
        table: &table,
        items: &data.items,
        attributes: &data.attributes,
        report: &report,
        curves: &progress.curves,
    };
    write_bundle(output, &contents)?;
    Ok(report)
}

/// The model on CPU, where it is evaluated and served.
///
/// # Errors
/// Parameters that are not of this configuration.
pub(crate) fn host_model(
    config: &TrainConfig,
    feature_dim: usize,
    items: usize,
    params: &Params,
) -> Result<FmrlRec<Cpu>, String> {
    let model = FmrlRec::blank(&config.model, feature_dim, items, &Default::default());
    load_params(model, params)
}

/// Quality on the test split; `epoch` says whose weights these are.
fn test_report(config: &TrainConfig, data: &Data, model: &FmrlRec<Cpu>, table: &[f32], epoch: usize) -> Report {
    let (held, split, items) = (&data.held, Split::Test, data.items.len());
    let evaluation = Evaluation { model, table, items, max_history: config.max_len, held, split, ranked: None };
    let whole = model.block_dims(config.model.blocks);
    Report {
        split: split_name(split).to_owned(),
        users: held.held_out(split).count(),
        items,
        dims: evaluation.quality(&config.model.nesting_dims, &whole, &mut |_, _| ()),
        exits: evaluation.exits(&config.exits()),
        block_dims: None,
        baselines: baselines(held, split, items),
        epoch,
    }
}

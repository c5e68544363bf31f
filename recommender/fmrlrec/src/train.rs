//! One visible training loop: Snapshot in, Bundle out.
//!
//! Where the paper's code slips, ours does not: norms, biases and the LRU's logs do not decay, the
//! first step has a learning rate above 0, and metrics are means over users, not over batches.

use crate::adamw::{AdamW, AdamWConfig};
use crate::checkpoint::{Checkpoint, Params, Progress, save_checkpoint};
use crate::compatibility::OldTable;
use crate::data::{LeaveOneOut, Split, check_sequences, training_batches};
use crate::evaluate::Evaluation;
use crate::features::Features;
use crate::finish::{finish, host_model};
use crate::gpu;
use crate::learner::Learner;
use crate::metrics::rounded;
use crate::model::FmrlRec;
use crate::model::principal::Principal;
use crate::ops::host_values;
use crate::params::{check_finite, load_params, named_params};
use crate::schedule::learning_rate;
use crate::{
    Bundle, CpuTraining, DimQuality, EpochLine, ProjectorStart, Report, TrainConfig, TrainError, TrainObserver,
    TrainingBackend,
};
use burn::module::AutodiffModule;
use burn::tensor::Tensor;
use feature_store::{Attribute, Item, Snapshot, StoreError, sha256_bytes};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Where training runs. Evaluation and the Bundle are the CPU's in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Device {
    /// All cores that rayon may use.
    Cpu,
    /// The first NVIDIA GPU; the program must be built with the feature `cuda`.
    Cuda,
    /// A GPU through Vulkan or Metal; the program must be built with the feature `wgpu`.
    Wgpu,
}

/// Trains at all dims at once and writes a Bundle to `output`. With `resume` it goes on from the
/// checkpoint beside `output`, on CPU to the same bytes as if it had never stopped.
///
/// # Errors
/// A device that is not there; configuration or data that cannot be trained on, found before the
/// first step; a stop asked for by the observer, after a checkpoint; a loss, a gradient norm or a
/// parameter that is not finite, with the last good checkpoint left as it is.
pub fn train(
    snapshot: &Snapshot,
    config: &TrainConfig,
    output: &Path,
    resume: bool,
    device: Device,
    observer: &mut dyn TrainObserver,
) -> Result<Report, TrainError> {
    train_compatible(snapshot, config, None, output, resume, device, observer)
}

/// As [`train`], so that user vectors also score against the item vectors of `old`, with the weight
/// that `config.compatibility` states.
///
/// # Errors
/// Those of [`train`]; `old` without `config.compatibility` or the other way round; no dim or no item
/// in common.
pub fn train_compatible(
    snapshot: &Snapshot,
    config: &TrainConfig,
    old: Option<&Bundle>,
    output: &Path,
    resume: bool,
    device: Device,
    observer: &mut dyn TrainObserver,
) -> Result<Report, TrainError> {
    let job = Job { snapshot, config, old, output, resume };
    match device {
        Device::Cpu => train_on::<CpuTraining>(&job, &Default::default(), observer),
        Device::Cuda => gpu::train_cuda(&job, observer),
        Device::Wgpu => gpu::train_wgpu(&job, observer),
    }
}

/// What to train from and where to.
pub(crate) struct Job<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) config: &'a TrainConfig,
    pub(crate) old: Option<&'a Bundle>,
    pub(crate) output: &'a Path,
    /// Whether to go on from the checkpoint.
    resume: bool,
}

pub(crate) fn train_on<B: TrainingBackend>(
    job: &Job<'_>,
    device: &B::Device,
    observer: &mut dyn TrainObserver,
) -> Result<Report, TrainError> {
    let Job { snapshot, config, .. } = *job;
    config.validate_new()?;
    let data = Data::read(snapshot)?;
    let name = run_name(job, &data.snapshot_sha256)?;
    // What may be refused comes before what takes long.
    let checkpoint = job.resume.then(|| read_checkpoint(&checkpoint_path(job.output), &name)).transpose()?;
    let old_table = old_table::<B>(job, &data.items, device)?;
    let features = Features::<B>::load(snapshot, config, data.items.len() + 1, checkpoint.is_none(), device)?;
    let mut run = Run::start(job, name, &features, old_table, checkpoint)?;
    while run.progress.epoch < config.epochs && !run.is_stale() {
        run.epoch(&data.held, &features.seen, observer)?;
    }
    let report = finish(job, &data, features, &run.progress, run.best)?;
    // The Bundle is there: the checkpoint has done its work. A failure to remove it harms nobody.
    let _ = std::fs::remove_file(&run.checkpoint);
    Ok(report)
}

/// What a run reads of the Snapshot, beside features.
pub(crate) struct Data {
    pub(crate) items: Vec<Item>,
    pub(crate) attributes: Vec<Attribute>,
    pub(crate) held: LeaveOneOut,
    pub(crate) snapshot_sha256: String,
}

impl Data {
    fn read(snapshot: &Snapshot) -> Result<Data, TrainError> {
        let items = snapshot.items()?;
        let held = LeaveOneOut::new(snapshot.sequences()?);
        check_sequences(&held, items.len())?;
        Ok(Data { items, attributes: snapshot.attributes()?, held, snapshot_sha256: snapshot.fingerprint()? })
    }
}

/// A run in progress.
struct Run<'a, B: TrainingBackend> {
    config: &'a TrainConfig,
    checkpoint: PathBuf,
    learner: Learner<B>,
    progress: Progress,
    best: Params,
}

impl<'a, B: TrainingBackend> Run<'a, B> {
    /// Fresh, or from a checkpoint of this run.
    fn start(
        job: &Job<'a>,
        name: String,
        features: &Features<B>,
        old_table: Option<OldTable<B>>,
        checkpoint: Option<Checkpoint>,
    ) -> Result<Run<'a, B>, TrainError> {
        let Job { config, output, .. } = *job;
        let optimizer = AdamW::new(AdamWConfig::new(config.optimizer.weight_decay, config.optimizer.clip_norm));
        let [rows, feature_dim] = features.seen.dims();
        let device = features.seen.device();
        let mut model = FmrlRec::new(&config.model, feature_dim, rows - 1, config.seed, &device);
        if let Some(Principal { directions, variances, .. }) = &features.principal {
            let variance = match config.model.projector_start {
                ProjectorStart::Whitened => 1.0,
                _ => variances.iter().sum::<f64>() / variances.len() as f64,
            };
            model.start_projector(directions, variance);
        }
        let mut run = Run {
            config,
            checkpoint: checkpoint_path(output),
            learner: Learner {
                model,
                optimizer,
                dropout: config.dropout_of_columns(),
                seed: config.seed,
                exits: config.exits(),
                old_table,
            },
            progress: Progress { run: name, ..Progress::default() },
            best: Default::default(),
        };
        if let Some(Checkpoint { progress, params, best, moments }) = checkpoint {
            run.learner.model = load_params(run.learner.model.clone(), &params)
                .map_err(|reason| checkpoint_error(&run.checkpoint, reason))?;
            run.learner.optimizer.resume(progress.step, moments, &device);
            (run.best, run.progress) = (best, progress);
        }
        Ok(run)
    }

    fn save(&self, params: &Params) -> Result<(), TrainError> {
        if let Some(parent) = self.checkpoint.parent() {
            std::fs::create_dir_all(parent).map_err(|source| StoreError::Io { path: parent.to_path_buf(), source })?;
        }
        let moments = self.learner.optimizer.moments(params);
        save_checkpoint(&self.checkpoint, &self.progress, params, &self.best, &moments)?;
        Ok(())
    }

    /// The parameters, which are finite: others are never written, so that the last good checkpoint stays.
    fn params(&self) -> Result<Params, TrainError> {
        let params = named_params(&self.learner.model);
        check_finite(&params).map_err(|what| TrainError::Diverged { epoch: self.progress.epoch + 1, what })?;
        Ok(params)
    }

    /// Whether the best epoch is too long ago.
    fn is_stale(&self) -> bool {
        self.progress.epoch >= self.progress.best_epoch + self.config.early_stopping.patience
    }

    /// The rest of the running epoch, then validation, with a checkpoint before and after it.
    fn epoch(
        &mut self,
        held: &LeaveOneOut,
        features: &Tensor<B, 2>,
        observer: &mut dyn TrainObserver,
    ) -> Result<(), TrainError> {
        let config = self.config;
        let (epoch, seed, objective) = (self.progress.epoch, config.seed, config.objective());
        let batches = training_batches(held, config.max_len, config.batch_positions, seed, epoch as u64);
        // Every epoch has about as many batches as this one.
        let total_steps = (batches.len() * config.epochs) as u64;
        for (index, batch) in batches.iter().enumerate().skip(self.progress.batch) {
            if observer.should_stop() {
                self.save(&self.params()?)?;
                return Err(TrainError::Interrupted { epoch: epoch + 1, checkpoint: self.checkpoint.clone() });
            }
            let loss = self
                .learner
                .step(batch, features, &objective, learning_rate(&config.optimizer, self.progress.step, total_steps))
                .map_err(|what| TrainError::Diverged { epoch: epoch + 1, what })?;
            self.progress.step += 1;
            self.progress.batch = index + 1;
            self.progress.loss_sum = rounded(self.progress.loss_sum + loss);
            observer.step(epoch + 1, index + 1, batches.len(), loss);
        }
        let params = self.params()?;
        // Validation takes other memory than a step: if it is too much, the epoch is not lost.
        self.save(&params)?;
        let rate = learning_rate(&config.optimizer, self.progress.step - 1, total_steps);
        let line = self.finish_epoch(held, features, batches.len(), rate, &params);
        observer.epoch(&line);
        self.progress.curves.push(line);
        self.save(&params)
    }

    fn finish_epoch(
        &mut self,
        held: &LeaveOneOut,
        features: &Tensor<B, 2>,
        batches: usize,
        rate: f64,
        params: &Params,
    ) -> EpochLine {
        let config = self.config;
        let table = host_values(self.learner.model.valid().item_table(features.clone().inner()));
        let [rows, feature_dim] = features.dims();
        let model = host_model(config, feature_dim, rows - 1, params)
            .expect("the parameters come from a model of this configuration");
        let whole = model.block_dims(config.model.blocks);
        let (items, max_history, split) = (rows - 1, config.max_len, Split::Validation);
        let evaluation = Evaluation { model: &model, table: &table, items, max_history, held, split, ranked: None };
        let validation = evaluation.quality(&config.model.nesting_dims, &whole, &mut |_, _| ());
        let metric = metric_of(&validation, &config.early_stopping.metric);
        let best_before = self.progress.curves.iter().map(|line| line.metric).fold(f64::NEG_INFINITY, f64::max);
        self.progress.epoch += 1;
        if metric > best_before {
            self.progress.best_epoch = self.progress.epoch;
            self.best = params.clone();
        }
        let loss = rounded(self.progress.loss_sum / batches as f64);
        (self.progress.batch, self.progress.loss_sum) = (0, 0.0);
        EpochLine {
            epoch: self.progress.epoch,
            loss,
            learning_rate: rounded(rate),
            metric,
            best: metric.max(best_before),
            validation,
        }
    }
}

/// The older item vectors that the run is to stay compatible with.
fn old_table<B: TrainingBackend>(
    job: &Job<'_>,
    items: &[Item],
    device: &B::Device,
) -> Result<Option<OldTable<B>>, TrainError> {
    match (job.old, &job.config.compatibility) {
        (None, None) => Ok(None),
        (Some(old), Some(compatibility)) => {
            OldTable::new(old, compatibility.weight, job.config, items, device).map(Some)
        }
        (None, Some(_)) => Err(TrainError::Config(
            "compatibility: names no Bundle to be compatible with; give one (--compatible-with) or leave the table out"
                .into(),
        )),
        (Some(old), None) => Err(TrainError::Config(format!(
            "compatibility: is missing, and Bundle {} is to be compatible with; state its weight",
            old.id()
        ))),
    }
}

/// Names a run by its configuration, its Snapshot and the older Bundle it is compatible with.
fn run_name(job: &Job<'_>, snapshot_sha256: &str) -> Result<String, TrainError> {
    let text = serde_json::to_string(job.config).map_err(|e| TrainError::Config(e.to_string()))?;
    let old = job.old.map_or("", Bundle::id);
    Ok(sha256_bytes(format!("{text}{snapshot_sha256}{old}").as_bytes()))
}

/// The checkpoint of the run of this name.
fn read_checkpoint(path: &Path, name: &str) -> Result<Checkpoint, TrainError> {
    let data = match std::fs::read(path) {
        Ok(data) => data,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(checkpoint_error(path, "is not there; run without --resume to begin"));
        }
        Err(source) => return Err(StoreError::Io { path: path.to_path_buf(), source }.into()),
    };
    let checkpoint = Checkpoint::read(&data).map_err(|reason| checkpoint_error(path, reason))?;
    if checkpoint.progress.run != name {
        let reason = "belongs to another configuration, Snapshot or older Bundle; remove it to begin anew";
        return Err(checkpoint_error(path, reason));
    }
    Ok(checkpoint)
}

fn checkpoint_error(path: &Path, reason: impl ToString) -> TrainError {
    TrainError::Checkpoint { path: path.to_path_buf(), reason: reason.to_string() }
}

/// `OUTPUT.checkpoint.safetensors`, beside the Bundle to be.
pub(crate) fn checkpoint_path(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_os_string();
    name.push(".checkpoint.safetensors");
    output.with_file_name(name)
}

/// The metric at the largest dim.
fn metric_of(quality: &[DimQuality], metric: &str) -> f64 {
    quality.last().and_then(|largest| largest.metrics.get(metric)).copied().unwrap_or(0.0)
}

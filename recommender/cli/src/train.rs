//! `train`: Snapshot + config -> Bundle with every dim, one progress line an epoch, Ctrl-C safe.

use crate::alone::{Alone, beside, folder};
use crate::arguments::TrainArgs;
use crate::artefacts::{check_bundle_output, open_bundle, open_snapshot};
use crate::failure::bad_input;
use crate::interrupt::Interrupt;
use crate::output::{note, say};
use crate::progress::Progress;
use anyhow::Context as _;
use feature_store::{Snapshot, StoreError};
use fmrlrec::{Bundle, Device, EpochLine, ProjectorStart, Report, TrainConfig, TrainObserver};
use std::path::Path;
use std::time::Instant;

/// Said on the first Ctrl-C, since the step under way is finished first.
pub(crate) const PROMISE: &str = "stopping after this step and keeping a checkpoint; Ctrl-C again ends at once";

/// Trains and prints quality at every dim beside the baselines.
pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let config: TrainConfig = crate::config::read(&args.config)?;
    config.validate_new().with_context(|| format!("config {}", args.config.display()))?;
    check_bundle_output(&args.output)?;
    let output = folder(&args.output);
    let checkpoint = beside(&output, "checkpoint.safetensors");
    if !args.resume && checkpoint.exists() {
        // The checkpoint of a training that runs is not left of anything.
        drop(Alone::take(&output)?);
        let left = checkpoint.display();
        return Err(bad_input(format!(
            "{left} is left of an interrupted run; go on from it with --resume, or remove it to begin anew"
        )));
    }
    let snapshot = open_snapshot(&args.snapshot)?;
    let interrupt = Interrupt::install(PROMISE)?;
    let old = args.compatible_with.as_deref().map(open_bundle).transpose()?;
    let device = args.device.into();
    cautions(&config, &snapshot).iter().for_each(|caution| note(caution));
    let report = train(&snapshot, &config, old.as_ref(), &output, args.resume, device, &interrupt)?;
    say(&crate::table::quality(&report))?;
    if let Some(caution) = below_baseline(&report) {
        note(&caution);
    }
    say(&format!(
        "Bundle {}: {} users, {} items, {} split",
        args.output.display(),
        report.users,
        report.items,
        report.split
    ))
}

/// What a training will run with and hardly mean: settings that suit larger data.
fn cautions(config: &TrainConfig, snapshot: &Snapshot) -> Vec<String> {
    let manifest = &snapshot.manifest;
    let width = |name: &String| manifest.features.iter().find(|info| info.name == *name).map_or(0, |info| info.dim);
    let (items, columns) = (manifest.counts.items as usize, config.features.iter().map(width).sum::<usize>());
    let mut cautions = Vec::new();
    if config.model.projector_start == ProjectorStart::Whitened && items <= columns {
        cautions.push(format!(
            "caution: model.projector_start = \"whitened\" with {items} items of {columns} feature columns makes all items \
             equally unlike; set it to \"principal\" or \"normal\""
        ));
    }
    let steps = config.epochs as u64 * manifest.counts.interactions.div_ceil(config.batch_positions as u64);
    let warmup = config.optimizer.warmup_steps;
    if warmup.saturating_mul(4) > steps {
        cautions.push(format!(
            "caution: optimizer.warmup_steps = {warmup} of about {steps} steps in all: the learning rate hardly gets to its \
             peak; lower warmup_steps or batch_positions"
        ));
    }
    cautions
}

/// Says so if the best dim is no better than a baseline: there is no use in serving it.
fn below_baseline(report: &Report) -> Option<String> {
    const METRIC: &str = "ndcg@10";
    let value = |metrics: &std::collections::BTreeMap<String, f64>| metrics.get(METRIC).copied().unwrap_or(0.0);
    let best = report.dims.iter().map(|dim| value(&dim.metrics)).fold(0.0, f64::max);
    let beaten = report.baselines.iter().find(|baseline| value(&baseline.metrics) >= best)?;
    Some(format!(
        "caution: at no dim is {METRIC} above that of \"{}\": train longer, look at the configuration, or gather more data",
        beaten.name
    ))
}

/// Trains a Bundle into `output`. Ctrl-C ends it with the library's error that names the checkpoint.
pub(crate) fn train(
    snapshot: &Snapshot,
    config: &TrainConfig,
    old: Option<&Bundle>,
    output: &Path,
    resume: bool,
    device: Device,
    interrupt: &Interrupt,
) -> anyhow::Result<Report> {
    if let Some(parent) = output.parent() {
        std::fs::create_dir_all(parent).map_err(|source| StoreError::Io { path: parent.to_path_buf(), source })?;
    }
    let _alone = Alone::take(output)?;
    let mut observer = Watcher {
        progress: Progress::new(),
        interrupt: interrupt.clone(),
        metric: config.early_stopping.metric.clone(),
        epoch_started: Instant::now(),
    };
    let report = fmrlrec::train_compatible(snapshot, config, old, output, resume, device, &mut observer)?;
    observer.progress.clear();
    Ok(report)
}

/// Shows how training goes and passes on the request to stop.
struct Watcher {
    progress: Progress,
    interrupt: Interrupt,
    metric: String,
    epoch_started: Instant,
}

impl TrainObserver for Watcher {
    fn step(&mut self, epoch: usize, step: usize, steps: usize, loss: f64) {
        self.progress.update(&format!("train epoch {epoch}"), step as u64, steps as u64);
        self.progress.message(format!("loss {loss:.4}"));
    }

    fn epoch(&mut self, line: &EpochLine) {
        self.progress.clear();
        let seconds = self.epoch_started.elapsed().as_secs_f64();
        self.epoch_started = Instant::now();
        self.progress.line(&format!(
            "epoch {}: loss {:.4}, validation {} {:.4} (best {:.4}), rate {:.2e}, {seconds:.1} s",
            line.epoch, line.loss, self.metric, line.metric, line.best, line.learning_rate,
        ));
    }

    fn should_stop(&self) -> bool {
        self.interrupt.requested()
    }
}

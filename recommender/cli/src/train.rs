//! `train`: Snapshot + config -> Bundle with every dim, one progress line an epoch, Ctrl-C safe.

use crate::arguments::TrainArgs;
use crate::artefacts::{check_bundle_output, open_bundle, open_snapshot};
use crate::interrupt::Interrupt;
use crate::output::say;
use crate::progress::Progress;
use feature_store::Snapshot;
use fmrlrec::{Bundle, Device, EpochLine, Report, TrainConfig, TrainObserver};
use std::path::Path;
use std::time::Instant;

/// Said on the first Ctrl-C, since the step under way is finished first.
pub(crate) const PROMISE: &str = "stopping after this step and keeping a checkpoint; Ctrl-C again ends at once";

/// Trains and prints quality at every dim beside the baselines.
pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let config: TrainConfig = crate::config::read(&args.config)?;
    check_bundle_output(&args.output)?;
    let snapshot = open_snapshot(&args.snapshot)?;
    let interrupt = Interrupt::install(PROMISE)?;
    let old = args.compatible_with.as_deref().map(open_bundle).transpose()?;
    let device = args.device.into();
    let report = train(&snapshot, &config, old.as_ref(), &args.output, args.resume, device, &interrupt)?;
    say(&crate::table::quality(&report))?;
    say(&format!(
        "Bundle {}: {} users, {} items, {} split",
        args.output.display(),
        report.users,
        report.items,
        report.split
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

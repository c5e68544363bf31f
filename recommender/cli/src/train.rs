//! `train`: Snapshot + config -> Bundle with every dim, one progress line an epoch, Ctrl-C safe.

use crate::arguments::TrainArgs;
use crate::artefacts::{check_bundle_output, open_bundle, open_snapshot};
use crate::failure::bad_input;
use crate::interrupt::Interrupt;
use crate::output::say;
use crate::progress::Progress;
use feature_store::{Snapshot, StoreError};
use fmrlrec::{Bundle, Device, EpochLine, Report, TrainConfig, TrainObserver};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Said on the first Ctrl-C, since the step under way is finished first.
pub(crate) const PROMISE: &str = "stopping after this step and keeping a checkpoint; Ctrl-C again ends at once";

/// Trains and prints quality at every dim beside the baselines.
pub(crate) fn run(args: &TrainArgs) -> anyhow::Result<()> {
    let config: TrainConfig = crate::config::read(&args.config)?;
    check_bundle_output(&args.output)?;
    let checkpoint = beside(&args.output, "checkpoint.safetensors");
    if !args.resume && checkpoint.exists() {
        // The checkpoint of a training that runs is not left of anything.
        drop(Alone::take(&args.output)?);
        let left = checkpoint.display();
        return Err(bad_input(format!(
            "{left} is left of an interrupted run; go on from it with --resume, or remove it to begin anew"
        )));
    }
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

/// `OUTPUT.NAME`.
fn beside(output: &Path, name: &str) -> PathBuf {
    let mut file = output.file_name().unwrap_or_default().to_os_string();
    file.push(format!(".{name}"));
    output.with_file_name(file)
}

/// One training an output: two would share a checkpoint, and one would replace the other's Bundle. A lock that a
/// killed run left is no lock any more.
struct Alone {
    _locked: File,
    path: PathBuf,
}

impl Alone {
    fn take(output: &Path) -> anyhow::Result<Alone> {
        let path = beside(output, "lock");
        let failure = |source| StoreError::Io { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failure)?;
        }
        let file = File::create(&path).map_err(failure)?;
        match file.try_lock() {
            Ok(()) => Ok(Alone { _locked: file, path }),
            Err(std::fs::TryLockError::WouldBlock) => {
                let output = output.display();
                Err(bad_input(format!(
                    "another training writes {output} (it holds {}); wait for it, or name another output",
                    path.display()
                )))
            }
            Err(std::fs::TryLockError::Error(error)) => Err(failure(error).into()),
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Left behind it does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
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

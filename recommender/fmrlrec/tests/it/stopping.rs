//! Early stopping: when a run ends, and that one that was stopped or failed around its end goes on to the same Bundle.

use crate::training::{StopAt, bytes, config, snapshot};
use fmrlrec::{Device, EarlyStopping, EpochLine, TrainConfig, TrainError, TrainObserver, train};
use std::path::{Path, PathBuf};

/// Keeps what the checkpoint is when the epoch is trained and validated and not yet written down.
struct BeforeTheEnd<'a> {
    checkpoint: &'a Path,
    kept: &'a Path,
}

impl TrainObserver for BeforeTheEnd<'_> {
    fn epoch(&mut self, line: &EpochLine) {
        if line.epoch == 1 {
            std::fs::copy(self.checkpoint, self.kept).unwrap();
        }
    }
}

/// Learns nothing, so no epoch is better than the first.
fn config_that_stands_still(patience: usize) -> TrainConfig {
    let mut config = config();
    config.early_stopping = EarlyStopping { metric: "ndcg@10".into(), patience };
    config.optimizer.learning_rate = 1e-30;
    config
}

/// Counts steps, and after an epoch puts a folder where the Bundle is to be.
#[derive(Default)]
struct Watch {
    steps: usize,
    /// Steps done at the end of each epoch.
    epochs: Vec<usize>,
    blocks_after: Option<(usize, PathBuf)>,
}

impl TrainObserver for Watch {
    fn step(&mut self, _: usize, _: usize, _: usize, _: f64) {
        self.steps += 1;
    }

    fn epoch(&mut self, line: &EpochLine) {
        self.epochs.push(self.steps);
        if let Some((_, path)) = self.blocks_after.as_ref().filter(|(epoch, _)| *epoch == line.epoch) {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("notes.txt"), "somebody's").unwrap();
        }
    }
}

fn same_bundles(one: &Path, other: &Path) {
    for file in ["bundle.json", "weights.safetensors", "report.json", "curves.csv"] {
        assert!(bytes(one, file) == bytes(other, file), "{file} differs");
    }
}

#[test]
fn a_run_ends_when_patience_is_over_and_keeps_its_best_epoch() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let check = |patience: usize, most: usize, expect: usize| {
        let config = TrainConfig { epochs: most, ..config_that_stands_still(patience) };
        let (output, mut watch) = (dir.path().join(format!("{patience}-{most}")), Watch::default());
        let report = train(&snapshot, &config, &output, false, Device::Cpu, &mut watch).unwrap();
        assert_eq!((watch.epochs.len(), report.epoch), (expect, 1), "patience {patience} of {most} epochs");
    };
    check(1, 12, 2);
    check(2, 12, 3);
    check(12, 3, 3);
}

#[test]
fn a_run_stopped_around_its_early_end_goes_on_to_the_same_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let config = config_that_stands_still(1);
    let (whole, stopped) = (dir.path().join("whole"), dir.path().join("stopped"));
    let mut watch = Watch::default();
    train(&snapshot, &config, &whole, false, Device::Cpu, &mut watch).unwrap();

    // Before each step of both epochs: the last stops are in the epoch that ends the run.
    for steps in 1..watch.steps {
        let stop = train(&snapshot, &config, &stopped, false, Device::Cpu, &mut StopAt(steps, Default::default()));
        assert!(matches!(stop, Err(TrainError::Interrupted { .. })), "after {steps} steps: {stop:?}");
        let mut rest = Watch { steps, ..Watch::default() };
        train(&snapshot, &config, &stopped, true, Device::Cpu, &mut rest).unwrap();
        let epochs_left: Vec<usize> = watch.epochs.iter().copied().filter(|end| *end > steps).collect();
        assert_eq!((rest.epochs, rest.steps), (epochs_left, watch.steps), "after {steps} steps");
        same_bundles(&whole, &stopped);
    }
}

/// Epochs are over and the Bundle could not be written: what goes on from there trains no more.
#[test]
fn a_run_that_failed_after_its_early_end_writes_the_same_bundle() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let config = config_that_stands_still(1);
    let (whole, failed) = (dir.path().join("whole"), dir.path().join("failed"));
    train(&snapshot, &config, &whole, false, Device::Cpu, &mut ()).unwrap();

    let mut watch = Watch { blocks_after: Some((2, failed.clone())), ..Watch::default() };
    train(&snapshot, &config, &failed, false, Device::Cpu, &mut watch).unwrap_err();
    assert_eq!(watch.epochs.len(), 2);
    std::fs::remove_dir_all(&failed).unwrap();
    let mut rest = Watch::default();
    train(&snapshot, &config, &failed, true, Device::Cpu, &mut rest).unwrap();
    assert_eq!((rest.epochs.len(), rest.steps), (0, 0));
    same_bundles(&whole, &failed);
}

/// Validation takes other memory than training: if it is too much, the epoch before it is not lost.
#[test]
fn an_epoch_that_is_trained_is_kept_before_it_is_validated() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let (whole, killed) = (dir.path().join("whole"), dir.path().join("killed"));
    let (of_whole, kept) =
        (dir.path().join("whole.checkpoint.safetensors"), dir.path().join("killed.checkpoint.safetensors"));
    let mut watch = BeforeTheEnd { checkpoint: &of_whole, kept: &kept };
    train(&snapshot, &config(), &whole, false, Device::Cpu, &mut watch).unwrap();
    let (mut all, mut rest) = (Watch::default(), Watch::default());
    train(&snapshot, &config(), &killed, true, Device::Cpu, &mut rest).unwrap();
    same_bundles(&whole, &killed);
    train(&snapshot, &config(), &dir.path().join("again"), false, Device::Cpu, &mut all).unwrap();
    assert_eq!(
        (rest.epochs.len(), rest.steps),
        (all.epochs.len(), all.steps - all.epochs[0]),
        "nothing is trained twice"
    );
}

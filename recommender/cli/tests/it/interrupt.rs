//! Ctrl-C during training: a checkpoint stays, and a resumed run ends in the bytes of one that was
//! never stopped.

use crate::data::Data;
use crate::program::{Running, command, refuse, succeed, text};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(120);

/// A Snapshot and a training long enough that a signal meets it under way, short enough for a test.
struct Training {
    data: Data,
    snapshot: PathBuf,
    config: PathBuf,
    bundle: PathBuf,
    checkpoint: PathBuf,
}

impl Training {
    fn new() -> Training {
        let data = Data::new();
        let (bundle, checkpoint) = (data.path("bundle"), data.path("bundle.checkpoint.safetensors"));
        let (snapshot, config) = (data.built("snapshot"), data.train_config_with_epochs(400));
        Training { data, snapshot, config, bundle, checkpoint }
    }

    fn to<'a>(&'a self, output: &'a Path) -> [&'a str; 7] {
        ["train", "--config", text(&self.config), "--snapshot", text(&self.snapshot), "--output", text(output)]
    }

    /// The Bundle is that of a run that was never stopped.
    fn assert_same_as_uninterrupted(&self) {
        let whole = self.data.path("whole");
        succeed(self.to(&whole));
        for file in ["weights.safetensors", "item_table.safetensors", "report.json", "curves.csv"] {
            assert_eq!(
                fs::read(self.bundle.join(file)).unwrap(),
                fs::read(whole.join(file)).unwrap(),
                "{file} differs"
            );
        }
    }
}

#[test]
fn interrupted_training_resumes_to_the_same_bundle() {
    let training = Training::new();
    let Training { bundle, checkpoint, .. } = &training;
    let args = training.to(bundle);

    let running = Running::start(command().args(args));
    let end = std::time::Instant::now() + LIMIT;
    while !checkpoint.exists() {
        assert!(std::time::Instant::now() < end, "no checkpoint after {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal("INT");
    let done = running.wait(LIMIT);
    assert_eq!(done.code, Some(130), "stdout: {}\nstderr: {}", done.stdout, done.stderr);
    assert!(
        done.stderr.contains("bundle.checkpoint.safetensors") && done.stderr.contains("--resume"),
        "{}",
        done.stderr
    );
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    assert!(checkpoint.is_file() && !bundle.exists());

    refuse(args, &["bundle.checkpoint.safetensors", "go on from it with --resume"]);
    succeed(args.into_iter().chain(["--resume"]));
    assert!(!checkpoint.exists(), "the checkpoint outlived its Bundle");
    training.assert_same_as_uninterrupted();
}

#[test]
fn a_checkpoint_that_does_not_fit_is_refused() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let bundle = data.path("bundle");
    let checkpoint = data.path("bundle.checkpoint.safetensors");
    let config = data.train_config();
    let args =
        ["train", "--config", text(&config), "--snapshot", text(&snapshot), "--output", text(&bundle), "--resume"];
    refuse(args, &["bundle.checkpoint.safetensors"]);
    fs::write(&checkpoint, "no tensors").unwrap();
    refuse(args, &["bundle.checkpoint.safetensors"]);
    assert!(!bundle.exists());
}

/// Rounds of `kill -9`, each at another moment after the start.
const KILLS: u64 = 20;

#[test]
fn kill_nine_at_any_moment_leaves_a_checkpoint_to_go_on_from() {
    let training = Training::new();
    let Training { bundle, checkpoint, .. } = &training;
    let args = training.to(bundle);
    let resume = |checkpoint: &Path| checkpoint.exists().then_some("--resume");

    let mut killed = 0;
    for round in 0..KILLS {
        let running = Running::start(command().args(args).args(resume(checkpoint)));
        // Moments spread over a run's first tenths of a second: start, steps and writes of checkpoints.
        std::thread::sleep(Duration::from_millis(20 + round * 37 % 240));
        running.signal("KILL");
        let done = running.wait(LIMIT);
        // A run may also have ended by itself; what it must not do is refuse what the last one left.
        assert!(matches!(done.code, None | Some(0)), "round {round}: {:?} {}", done.code, done.stderr);
        killed += u64::from(done.code.is_none());
        if bundle.exists() {
            fs::remove_dir_all(bundle).unwrap();
        }
    }
    assert!(killed > KILLS / 2, "only {killed} of {KILLS} runs met the signal");

    succeed(args.into_iter().chain(resume(checkpoint)));
    training.assert_same_as_uninterrupted();
}

//! Progress on stderr: bars when it is a terminal, one plain line a stage otherwise.

use crate::output::{note, thousands};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal as _;
use std::time::Instant;

/// Follows one stage after another.
pub(crate) struct Progress {
    bars: bool,
    current: Option<Stage>,
}

struct Stage {
    name: String,
    started: Instant,
    done: u64,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// Looks once at what stderr is.
    pub(crate) fn new() -> Progress {
        Progress { bars: std::io::stderr().is_terminal(), current: None }
    }

    /// Tells how far a stage is; a new name ends the stage before it. `total` 0 means unknown.
    pub(crate) fn update(&mut self, name: &str, done: u64, total: u64) {
        if self.current.as_ref().is_none_or(|stage| stage.name != name) {
            self.finish();
            self.current = Some(Stage::start(name, total, self.bars));
        }
        if let Some(stage) = &mut self.current {
            stage.done = done;
            if let Some(bar) = &stage.bar {
                bar.set_length(total);
                bar.set_position(done);
            }
        }
    }

    /// What stands at the end of the bar, such as the loss; nothing without a terminal.
    pub(crate) fn message(&self, message: String) {
        if let Some(bar) = self.current.as_ref().and_then(|stage| stage.bar.as_ref()) {
            bar.set_message(message);
        }
    }

    /// A line that stays, above the bar if there is one.
    pub(crate) fn line(&self, line: &str) {
        match self.current.as_ref().and_then(|stage| stage.bar.as_ref()) {
            Some(bar) => bar.suspend(|| note(line)),
            None => note(line),
        }
    }

    /// Ends the current stage with a line that says what it took.
    pub(crate) fn finish(&mut self) {
        if let Some(stage) = self.current.take() {
            let line = stage.summary();
            if let Some(bar) = stage.bar {
                bar.finish_and_clear();
            }
            note(&line);
        }
    }

    /// Ends the current stage without a line, when its lines were printed on the way.
    pub(crate) fn clear(&mut self) {
        if let Some(bar) = self.current.take().and_then(|stage| stage.bar) {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        // After an error the bar must not stay on the line where the error is printed.
        self.clear();
    }
}

impl Stage {
    fn start(name: &str, total: u64, bars: bool) -> Stage {
        let bar = bars.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
            let style = ProgressStyle::with_template("{prefix:<24} {bar:32} {human_pos}/{human_len} {elapsed} {msg}")
                .expect("the template is a constant");
            bar.set_style(style);
            bar.set_prefix(name.to_owned());
            bar
        });
        Stage { name: name.to_owned(), started: Instant::now(), done: 0, bar }
    }

    fn summary(&self) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        if self.done > 1 {
            format!("{}: {} in {seconds:.1} s", self.name, thousands(self.done))
        } else {
            format!("{}: done in {seconds:.1} s", self.name)
        }
    }
}

//! `completions`: the script that teaches a shell this program's verbs and flags.

use crate::arguments::{Cli, CompletionsArgs};
use clap::CommandFactory as _;

/// Prints the script to stdout.
pub(crate) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    // Into memory first: the generator panics when a write fails, and a closed pipe is no panic here.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "recommender", &mut script);
    crate::output::write_stdout(&script)
}

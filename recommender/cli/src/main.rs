//! `recommender`: the command-line program. A verb is a thin shell over a library function: this
//! crate turns arguments, configs and signals into calls, and results and errors into text and an
//! exit code. It is the only crate that reads the environment and the clock.

mod alone;
mod arguments;
mod artefacts;
mod build;
mod comparison;
mod completions;
mod config;
mod demo;
mod evaluate;
mod export;
mod failure;
mod ingest;
mod ingest_stream;
mod interrupt;
mod metrics_port;
mod output;
mod progress;
mod ranges;
mod sample;
mod serve;
mod state;
mod streamed;
mod table;
mod traces;
mod train;
mod tune;

use arguments::{Cli, Verb};
use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    // clap prints usage errors itself and ends with 2, the code of bad input.
    let cli = Cli::parse();
    let done = match cli.verb {
        Verb::Build(args) => build::run(&args),
        Verb::Train(args) => train::run(&args),
        Verb::Evaluate(args) => evaluate::run(&args),
        Verb::Tune(args) => tune::run(&args),
        Verb::Serve(args) => serve::run(&args),
        Verb::Ingest(args) => ingest::run(&args),
        Verb::ExportInteractions(args) => export::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Completions(args) => completions::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}

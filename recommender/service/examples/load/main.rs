//! Load on a running service, open-loop: requests leave on a schedule that does not wait for answers,
//! and a latency counts from the scheduled moment, so a slow service cannot hide its own queue
//! (coordinated omission). `deploy/load-test.sh` is the one command that uses it.
//!
//! ```text
//! load bundle  --output DIR          a Bundle of synthetic items, trained for a moment
//! load events  --address A           histories for the users that `run` asks about
//! load run     --address A --rate R  one open-loop run, one line of JSON
//! load capacity --address A          closed-loop: as many answers a second as come
//! load table   --lines F --bundle D  those lines as a table
//! ```

mod bundle;
mod connection;
mod measure;
mod run;
mod table;
mod usage;

use clap::{Args, Parser, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Makes load, and says what came of it.
#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Trains a Bundle on synthetic data whose next item follows from the last one.
    Bundle(BundleArgs),
    /// Sends events, so that the users of `run` have histories.
    Events(Target),
    /// Open-loop load at a rate.
    Run(RunArgs),
    /// Closed-loop load: each connection asks again as soon as it is answered.
    Capacity(CapacityArgs),
    /// Turns `label<TAB>json` lines into a table.
    Table(TableArgs),
}

#[derive(Debug, Args)]
pub(crate) struct TableArgs {
    /// File of lines.
    #[arg(long)]
    lines: PathBuf,
    /// Bundle that was served, for its quality at each dim.
    #[arg(long)]
    bundle: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct BundleArgs {
    /// Folder to make.
    #[arg(long)]
    output: PathBuf,
    /// Items in the catalogue.
    #[arg(long, default_value_t = 12_000)]
    items: usize,
    /// Largest dim; the smaller ones are its halves down to 16.
    #[arg(long, default_value_t = 256)]
    dim: usize,
    /// Epochs of training.
    #[arg(long, default_value_t = 2)]
    epochs: usize,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Target {
    /// Address and port of the service.
    #[arg(long)]
    address: SocketAddr,
    /// Users asked about, in turn.
    #[arg(long, default_value_t = 1_000)]
    users: usize,
    /// Items of a user's history.
    #[arg(long, default_value_t = 50)]
    history: usize,
    /// Items a request asks for.
    #[arg(long, default_value_t = 10)]
    k: usize,
    /// Tier named in every request; none if absent.
    #[arg(long)]
    tier: Option<String>,
    /// Send the history inline instead of a user id: one forward pass a request.
    #[arg(long)]
    inline: bool,
    /// Process whose CPU time and memory are reported; the service's.
    #[arg(long)]
    pid: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    target: Target,
    /// Requests a second.
    #[arg(long)]
    rate: f64,
    /// Seconds.
    #[arg(long, default_value_t = 10.0)]
    seconds: f64,
    /// Connections: a request waits for a free one, and the wait counts.
    #[arg(long, default_value_t = 256)]
    connections: usize,
}

#[derive(Debug, Args)]
pub(crate) struct CapacityArgs {
    #[command(flatten)]
    target: Target,
    /// Seconds.
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// Connections.
    #[arg(long, default_value_t = 16)]
    connections: usize,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    match Cli::parse().verb {
        Verb::Bundle(args) => bundle::make(&args),
        Verb::Events(target) => run::events(&target),
        Verb::Run(args) => run::open_loop(&args),
        Verb::Capacity(args) => run::closed_loop(&args),
        Verb::Table(args) => table::print(&args),
    }
}

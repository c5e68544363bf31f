//! What can be typed: the verbs, their flags, and the manual that `--help` prints.

use crate::ranges;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::net::SocketAddr;
use std::path::PathBuf;

const MANUAL: &str = "\
DATA FLOW
  interactions + item text, images --build--> Snapshot
                                                 | train
                                                 v
                            report.json <--evaluate-- Bundle (one set of weights, every dim)
                                                 | serve (a tier is a dim is a prefix)
  events --(POST /v1/events, ingest)--> user state --+--> recommendations

  Each verb reads files and writes files. An artefact appears whole or not at all: it is written
  beside its place and renamed.

EXAMPLES
  Everything on the sample in the repository, from raw ratings to a service:
    recommender demo

  Step by step:
    recommender build    --config pipeline/sample/movielens-small/build.toml --output runs/snapshot
    recommender train    --config recommender/fmrlrec/configs/demo.toml \\
                         --snapshot runs/snapshot --output runs/bundle
    recommender evaluate --bundle runs/bundle --snapshot runs/snapshot --output runs/report
    cp recommender/service/configs/serve.toml runs/serve.toml
    recommender ingest   --events events.jsonl --store runs/state/users
    recommender serve    --config runs/serve.toml

  Events from a topic or a log, until Ctrl-C; and back to a table for the next build:
    recommender ingest   --config pipeline/configs/stream-kafka.toml
    recommender export-interactions --store runs/state/users --output runs/stream.parquet

  The service of the last demo again, with its user state:
    recommender serve    --config runs/demo/serve.toml

  Completions for this shell session:
    source <(recommender completions bash)

FILES
  *.toml                  configs: every value stated, an unknown or missing one is an error
  SNAPSHOT/manifest.json  counts, dims, encoders with checksums, sources with checksums, version
  BUNDLE/bundle.json      version and checksums; beside it config, weights, vocabulary, item table,
                          report.json, curves.csv and a model card
  BUNDLE.checkpoint.safetensors
                          what an interrupted train left beside its output
  REPORT/report.json      Recall, NDCG and MRR at every dim beside the baselines
  events.jsonl            one event a line; event_id may be left out, with it a repeat is dropped:
    {\"user_id\":\"u1\",\"item_id\":\"260\",\"timestamp_ms\":1700000000000,\"event_id\":\"e1\"}
  STORE/                  user state, a folder; one process at a time has it open
  LOG/                    an event log: what stands in for a broker on one machine

EXIT CODES
  0    done, or the reader of stdout went away
  1    internal failure (a full disk, a broken machine, a bug)
  2    bad input: an argument, a config, a data file, an artefact, a busy port; one sentence on
       stderr names it
  130  train or demo stopped by Ctrl-C or SIGTERM; train keeps a checkpoint that --resume goes on
       from. serve and ingest --config, which end in no other way, end with 0; the other verbs end
       at once, by the signal, and leave what was there before

ENVIRONMENT
  RECOMMENDER_LOG     what serve, demo and ingest --config log to stderr: error, warn, info, debug or
                      a filter
  RECOMMENDER_LOG_FORMAT
                      text (the default) or json: one object a line, from when the arguments are read
  RECOMMENDER_BIND    as serve --bind
  RECOMMENDER_BUNDLE  as serve --bundle
  RECOMMENDER_STATE   as serve --state; in place of state.path for ingest --config too
  RECOMMENDER_TIERS_FILE
                      as serve --tiers-file
  OTEL_EXPORTER_OTLP_ENDPOINT
                      a collector that serve sends traces to, where it was built with the feature otlp
";

/// Train one multimodal sequential recommender once, serve it at any dimension.
///
/// The model is fMRLRec: frozen text and image features, one projector, linear recurrent blocks
/// whose every weight nests the smaller models inside the larger ones. One training run gives every
/// dim; a small dim is cheap to serve, a large one ranks better.
#[derive(Debug, Parser)]
#[command(name = "recommender", version, after_long_help = MANUAL, max_term_width = 100)]
#[command(after_help = "`recommender --help` prints the manual: data flow, examples, files, exit codes.")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The verbs, in the order of the data flow.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Build a Snapshot: aligned features and sequences from raw tables, text and images.
    Build(BuildArgs),
    /// Train every dim in one run: from a Snapshot to a Bundle.
    Train(TrainArgs),
    /// Rank every item for every user and report quality at each dim beside the baselines.
    Evaluate(EvaluateArgs),
    /// Choose how to search a large item table for a stated recall, and write it into the Bundle.
    Tune(TuneArgs),
    /// Serve recommendations over HTTP at any trained dim.
    Serve(ServeArgs),
    /// Load events into the user state store: from a file, a Kafka topic or a log.
    Ingest(IngestArgs),
    /// Write the histories of a user state store as a table that `build` reads.
    ExportInteractions(ExportArgs),
    /// Build, train, compare and serve the sample, in one command.
    Demo(DemoArgs),
    /// Print the completion script of a shell.
    Completions(CompletionsArgs),
}

/// Arguments of `build`.
#[derive(Debug, Args)]
pub(crate) struct BuildArgs {
    /// Build config (TOML). Relative paths inside it start at the folder it lies in.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// Folder of the Snapshot; an older Snapshot there is replaced, anything else is refused.
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
}

/// Arguments of `train`.
#[derive(Debug, Args)]
pub(crate) struct TrainArgs {
    /// Training config (TOML).
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The Snapshot to train on.
    #[arg(long, value_name = "DIR")]
    pub(crate) snapshot: PathBuf,
    /// Folder of the Bundle; an older Bundle there is replaced, anything else is refused.
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Go on from the checkpoint that an interrupted run of the same config left for this output.
    #[arg(long)]
    pub(crate) resume: bool,
    /// An older Bundle whose item vectors the new user vectors are to fit too; the config states the
    /// weight ([compatibility]).
    #[arg(long, value_name = "DIR")]
    pub(crate) compatible_with: Option<PathBuf>,
    /// Where to train; cuda and wgpu need a program built with the feature of that name.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    pub(crate) device: DeviceName,
}

/// A device by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DeviceName {
    /// All cores.
    Cpu,
    /// The first NVIDIA GPU.
    Cuda,
    /// A GPU through Vulkan or Metal.
    Wgpu,
}

impl From<DeviceName> for fmrlrec::Device {
    fn from(name: DeviceName) -> fmrlrec::Device {
        match name {
            DeviceName::Cpu => fmrlrec::Device::Cpu,
            DeviceName::Cuda => fmrlrec::Device::Cuda,
            DeviceName::Wgpu => fmrlrec::Device::Wgpu,
        }
    }
}

/// Arguments of `evaluate`.
#[derive(Debug, Args)]
pub(crate) struct EvaluateArgs {
    /// The Bundle to evaluate.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// The Snapshot it was trained on.
    #[arg(long, value_name = "DIR")]
    pub(crate) snapshot: PathBuf,
    /// Which held-out item of each user to predict: the last one, or the one before it.
    #[arg(long, value_enum, default_value_t = SplitName::Test)]
    pub(crate) split: SplitName,
    /// Evaluate a cut of the model: for each block the leading columns it works on, a trained dim, or 0
    /// to leave the block out. For example 256,64 or 256,0 of a model with two blocks.
    #[arg(long, value_name = "DIM,DIM...", value_delimiter = ',')]
    pub(crate) block_dims: Option<Vec<usize>>,
    /// Rank against the item vectors of an older Bundle, at the dims that both have.
    #[arg(long, value_name = "DIR", conflicts_with = "block_dims")]
    pub(crate) against: Option<PathBuf>,
    /// Folder that gets report.json; a Bundle or a Snapshot is refused.
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
}

/// A held-out part of the leave-one-out split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SplitName {
    /// Each user's last item.
    Test,
    /// Each user's last item but one.
    Validation,
}

/// Arguments of `tune`.
#[derive(Debug, Args)]
pub(crate) struct TuneArgs {
    /// The Bundle; the plans are written into it, in place of those that it has.
    #[arg(long, value_name = "DIR")]
    pub(crate) bundle: PathBuf,
    /// Share of the exact results that must come back, above 0 and at most 1.
    #[arg(long, value_parser = ranges::recall)]
    pub(crate) recall: f64,
    /// The one dim to choose for; every trained dim if left out.
    #[arg(long)]
    pub(crate) dim: Option<usize>,
    /// Results of a query, from 1 to 1000; larger ones are searched exactly.
    #[arg(long, default_value_t = 10, value_parser = ranges::results)]
    pub(crate) k: usize,
    /// Queries, from 20 to 100000: half of them choose, half of them measure.
    #[arg(long, default_value_t = 400, value_parser = ranges::queries)]
    pub(crate) queries: usize,
    /// Snapshot whose histories are the queries; walks among neighbouring items if left out.
    #[arg(long, value_name = "DIR")]
    pub(crate) snapshot: Option<PathBuf>,
    /// Seed of the walks and of the cells.
    #[arg(long, default_value_t = 7)]
    pub(crate) seed: u64,
}

/// Arguments of `serve`.
#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Service config (TOML): limits, tiers, user state.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: PathBuf,
    /// The Bundle to serve, in place of the config's.
    #[arg(long, value_name = "DIR", env = "RECOMMENDER_BUNDLE")]
    pub(crate) bundle: Option<PathBuf>,
    /// Where user state is, in place of the config's: a folder, or a URL such as
    /// redis://127.0.0.1:6379?name=shop.
    #[arg(long, value_name = "DIR|URL", env = "RECOMMENDER_STATE", hide_env_values = true)]
    pub(crate) state: Option<String>,
    /// File that keeps live changes of the tiers, in place of the config's: each service has its own.
    #[arg(long, value_name = "FILE", env = "RECOMMENDER_TIERS_FILE")]
    pub(crate) tiers_file: Option<PathBuf>,
    /// Stream config (TOML): apply its topic or log to the service's user state while serving. Its
    /// [state] is not read.
    #[arg(long, value_name = "FILE")]
    pub(crate) stream: Option<PathBuf>,
    /// Address and port to listen on, in place of the config's; port 0 picks a free one.
    #[arg(long, value_name = "ADDRESS:PORT", env = "RECOMMENDER_BIND")]
    pub(crate) bind: Option<SocketAddr>,
}

/// Arguments of `ingest`: a file and a store, or a config of a stream.
#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    /// Stream config (TOML): read a Kafka topic or a log on this machine, until stopped.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["events", "store", "max_history", "format"])]
    pub(crate) config: Option<PathBuf>,
    /// Events, one JSON object a line. A file is applied once, however often it is named; one that has changed, by
    /// a single line more, is another file, whose events are dropped as repeats by their event_id alone.
    #[arg(long, value_name = "FILE", required_unless_present = "config", requires = "store")]
    pub(crate) events: Option<PathBuf>,
    /// The user state store: a folder, which no service may have open, or a URL such as
    /// redis://127.0.0.1:6379?name=shop. It is made if absent.
    #[arg(long, value_name = "DIR|URL", required_unless_present = "config")]
    pub(crate) store: Option<String>,
    /// Newest events kept for a user, from 1 to 10000; not fewer than the store keeps. Left out, as many as
    /// it keeps, and 400 in a new one.
    #[arg(long, value_name = "N", value_parser = ranges::history)]
    pub(crate) max_history: Option<usize>,
    /// Format of the file's lines.
    #[arg(long, value_enum, default_value_t = FormatName::Native)]
    pub(crate) format: FormatName,
    /// Only check every line or message and say what would be refused; nothing is written.
    #[arg(long)]
    pub(crate) validate: bool,
    /// With --config: stop when everything that was there at the start is applied.
    #[arg(long, requires = "config", conflicts_with = "validate")]
    pub(crate) until_end: bool,
    /// With --config: send the dead letters that are valid now back to the topic or log, and stop.
    #[arg(long, requires = "config", conflicts_with_all = ["validate", "until_end"])]
    pub(crate) redrive: bool,
}

/// A format of events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FormatName {
    /// This project's events, bare or in a CloudEvents envelope.
    Native,
    /// Segment `track` calls.
    Segment,
    /// Snowplow enriched events as JSON.
    Snowplow,
    /// Google Analytics 4 Measurement Protocol bodies.
    Ga4,
    /// gorse feedback.
    Gorse,
    /// metarank events.
    Metarank,
}

impl From<FormatName> for pipeline::stream::Format {
    fn from(name: FormatName) -> pipeline::stream::Format {
        match name {
            FormatName::Native => pipeline::stream::Format::Native,
            FormatName::Segment => pipeline::stream::Format::Segment,
            FormatName::Snowplow => pipeline::stream::Format::Snowplow,
            FormatName::Ga4 => pipeline::stream::Format::Ga4,
            FormatName::Gorse => pipeline::stream::Format::Gorse,
            FormatName::Metarank => pipeline::stream::Format::Metarank,
        }
    }
}

/// Arguments of `export-interactions`.
#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The user state store: a folder, which no service may have open, or a URL such as
    /// redis://127.0.0.1:6379?name=shop.
    #[arg(long, value_name = "DIR|URL")]
    pub(crate) store: String,
    /// The Parquet table to write: user, item, timestamp_ms. A build reads it as a table.
    #[arg(long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Newest events written for a user, from 1 to 10000.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = ranges::history)]
    pub(crate) max_history: usize,
}

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder of the Snapshot, the Bundle and the user state.
    #[arg(long, value_name = "DIR", default_value = "runs/demo")]
    pub(crate) output: PathBuf,
    /// Port on 127.0.0.1; it must be free. 0 picks a free one.
    #[arg(long, value_name = "PORT", default_value_t = 8080)]
    pub(crate) port: u16,
    /// Folder of another sample: it must hold a build.toml.
    #[arg(long, value_name = "DIR")]
    pub(crate) sample: Option<PathBuf>,
    /// Another training config.
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// Arguments of `completions`.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell.
    #[arg(value_enum)]
    pub(crate) shell: clap_complete::Shell,
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }
}

//! `demo`: every verb on the sample, in one command: build, train, compare two dims, serve.
//!
//! Nothing of an earlier run is reused but the checkpoint of an interrupted training: Snapshot and Bundle are made anew and
//! renamed into place, and the user state of the last demo is removed. So it works in a folder of its own alone, and not while the last
//! one is served.

use crate::alone::beside;
use crate::arguments::DemoArgs;
use crate::artefacts::{check_bundle_output, open_bundle, open_snapshot};
use crate::failure::{Interrupted, bad_input};
use crate::interrupt::Interrupt;
use crate::output::say;
use crate::{build, comparison, sample, serve, train};
use anyhow::Context as _;
use feature_store::{AttributeValues, UserStateStore, write_whole};
use fmrlrec::{Bundle, Device, TrainConfig, TrainError};
use service::ServiceConfig;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Said on the first Ctrl-C, whatever the demo is doing then.
const PROMISE: &str = "stopping at the next safe point; Ctrl-C again ends at once";
/// File that marks a demo's folder.
const MARKER: &str = "demo.txt";
/// Newest events kept for a user of the demo.
const MAX_HISTORY: usize = 400;

/// Runs the stages and prints the seconds of each.
pub(crate) fn run(args: &DemoArgs) -> anyhow::Result<()> {
    let started = Instant::now();
    serve::init_log("warn")?;
    let configs = sample::find(args.sample.as_deref(), args.config.as_deref())?;
    let train_config: TrainConfig = crate::config::read(&configs.train)?;
    // The port is taken first: a busy one must not cost a training run.
    let listener = serve::listen(&format!("127.0.0.1:{}", args.port), "--port PORT")?;
    let places = Places::new(&args.output);
    check_bundle_output(&places.bundle)?;
    places.clear()?;
    let interrupt = Interrupt::install(PROMISE)?;

    let manifest = timed("build", || build::build(&configs.build, &places.snapshot))?;
    say(&build::summary(&manifest, &places.snapshot))?;
    stop_if_asked(&interrupt, "the Snapshot is built")?;

    let snapshot = open_snapshot(&places.snapshot)?;
    let report = timed("train and evaluate", || {
        let train =
            |resume| train::train(&snapshot, &train_config, None, &places.bundle, resume, Device::Cpu, &interrupt);
        let begun = beside(&places.bundle, "checkpoint.safetensors").exists();
        match train(begun) {
            // Of another configuration or program: no use to anybody.
            Err(error) if begun && is_of_the_checkpoint(&error) => train(false),
            trained => trained,
        }
        .map_err(how_to_resume)
    })?;
    say(&format!("\nleave-one-out {} split, {} items ranked, seen items not removed", report.split, report.items))?;
    say(&crate::table::quality(&report))?;

    let bundle = open_bundle(&places.bundle)?;
    let history = comparison::pick_history(&bundle)?;
    let compared = timed("compare dims", || comparison::two_dims(&bundle, &history))?;
    say(&format!("\n{compared}"))?;

    let config = service_config(&bundle, &places, args.port)?;
    let store = UserStateStore::open(&places.state, MAX_HISTORY)?;
    let address = listener.local_addr().context("reading the bound address")?;
    say(&format!(
        "\nready after {:.1} s, listening on http://{address}; a page to try it is at /ui; Ctrl-C stops it\n",
        started.elapsed().as_secs_f64()
    ))?;
    say(&curl_lines(&format!("http://{address}"), &bundle, &history))?;
    serve::serve(listener, config, bundle, store, &interrupt)
}

/// Where a demo keeps its files.
struct Places {
    root: PathBuf,
    snapshot: PathBuf,
    bundle: PathBuf,
    state: PathBuf,
    tiers: PathBuf,
    serve_config: PathBuf,
}

impl Places {
    fn new(root: &Path) -> Places {
        Places {
            root: root.to_path_buf(),
            snapshot: root.join("snapshot"),
            bundle: root.join("bundle"),
            state: root.join("demo-state"),
            tiers: root.join("demo-tiers.json"),
            serve_config: root.join("serve.toml"),
        }
    }

    /// Makes the folder and forgets the user state and the tier changes of an earlier demo.
    fn clear(&self) -> anyhow::Result<()> {
        let shown = self.root.display();
        std::fs::create_dir_all(&self.root).map_err(|error| bad_input(format!("--output {shown}: {error}")))?;
        let marker = self.root.join(MARKER);
        let mut entries = std::fs::read_dir(&self.root).with_context(|| format!("reading {shown}"))?;
        if !marker.exists() && entries.next().is_some() {
            return Err(bad_input(format!(
                "--output {shown}: holds files, and no {MARKER} that says that a demo made them; name an empty folder or a \
                 new one"
            )));
        }
        write_whole(&marker, b"`recommender demo` made this folder and replaces what is in it.\n")?;
        if self.state.exists() {
            // Opened once, so that one that is served is refused and not pulled away.
            drop(UserStateStore::open(&self.state, MAX_HISTORY)?);
        }
        let state = std::fs::remove_dir_all(&self.state).map_err(|error| (&self.state, error));
        let tiers = std::fs::remove_file(&self.tiers).map_err(|error| (&self.tiers, error));
        for (left, error) in [state, tiers].into_iter().filter_map(Result::err) {
            if error.kind() != std::io::ErrorKind::NotFound {
                return Err(error).with_context(|| format!("removing {}", left.display()));
            }
        }
        Ok(())
    }
}

fn is_of_the_checkpoint(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(TrainError::Checkpoint { .. }))
}

/// The next demo goes on by itself.
fn how_to_resume(error: anyhow::Error) -> anyhow::Error {
    let Some(TrainError::Interrupted { epoch, checkpoint }) = error.downcast_ref() else { return error };
    let checkpoint = checkpoint.display();
    Interrupted(format!("stopped in epoch {epoch}; {checkpoint} holds everything done so far: run demo again to go on"))
        .into()
}

fn timed<T>(stage: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let started = Instant::now();
    let done = work()?;
    say(&format!("[{stage}: {:.1} s]", started.elapsed().as_secs_f64()))?;
    Ok(done)
}

fn stop_if_asked(interrupt: &Interrupt, so_far: &str) -> anyhow::Result<()> {
    if interrupt.requested() {
        return Err(Interrupted(format!("stopped: {so_far}; run demo again for the rest")).into());
    }
    Ok(())
}

/// One tier a dim, the largest by default, in a file that `serve --config` reads as well.
fn service_config(bundle: &Bundle, places: &Places, port: u16) -> anyhow::Result<ServiceConfig> {
    let text = serve_toml(bundle.dims(), port);
    write_whole(&places.serve_config, text.as_bytes())
        .with_context(|| format!("writing {}", places.serve_config.display()))?;
    let mut config: ServiceConfig = crate::config::parse(&text, &places.serve_config.display().to_string())?;
    serve::resolve_paths(&mut config, &places.root);
    Ok(config)
}

fn serve_toml(dims: &[usize], port: u16) -> String {
    let mut text = format!(
        r#"# Written by `recommender demo`: `recommender serve --config` with this file serves the same again.
# Relative paths start at this folder.
bind = "127.0.0.1:{port}"
bundle = "bundle"
tiers_file = "demo-tiers.json"
tier_header = "x-tier"

[state]
path = "demo-state"
max_history = {MAX_HISTORY}
cache_mib = 64

[server]
workers = 2
blocking_threads = 2
max_in_flight = 256
compute_threads = 2
max_queue = 1024
max_batch = 32
max_wait_us = 200
max_connections = 1024
request_timeout_s = 10
drain_delay_s = 0
shutdown_timeout_s = 10

[limits]
body_bytes = 65536
max_k = 200
default_k = 10
history = 1000
exclude = 1000
batch = 100
key_bytes = 256
added_items = 10000

[ui]
picture_url = ""

[access]
required = false
keys = []
"#
    );
    let smallest = dims[0];
    for dim in dims {
        let default = dims.last() == Some(dim);
        text.push_str(&format!(
            "\n[[tiers]]\nname = \"dim-{dim}\"\ndim = {dim}\nmin_dim = {smallest}\ndefault = {default}\nmax_k = 200\n\
             latency_target_ms = 100\nrate_per_s = 0\nburst = 0\nshare_permille = 1000\nheader_values = [\"dim-{dim}\"]\n"
        ));
    }
    text
}

/// Requests to paste into another terminal, in an order that shows what an event changes.
fn curl_lines(url: &str, bundle: &Bundle, history: &[u32]) -> String {
    let keys: Vec<&str> = history.iter().filter_map(|id| bundle.vocabulary().key(*id)).collect();
    let list = serde_json::json!(keys);
    let first = keys.first().copied().unwrap_or_default();
    let small = comparison::small_dim(bundle.dims());
    let post = format!("curl -s -H 'content-type: application/json' {url}");
    let mut lines = vec![
        format!("{post}/v1/recommend -d '{{\"history\":{list},\"k\":5,\"dim\":{small}}}'"),
        format!("{post}/v1/recommend -d '{{\"history\":{list},\"k\":5}}'"),
        format!("{post}/v1/recommend -d '{{\"user_id\":\"me\",\"k\":5}}'"),
    ];
    for (place, key) in keys.iter().enumerate() {
        let event = serde_json::json!({
            "user_id": "me", "item_id": key, "timestamp_ms": 1_700_000_000_000_i64 + place as i64, "event_id": format!("demo-{place}"),
        });
        lines.push(format!("{post}/v1/events -d '{event}'"));
    }
    lines.push(format!("{post}/v1/recommend -d '{{\"user_id\":\"me\",\"k\":5}}'"));
    if let Some(attribute) = bundle.attributes().iter().find(|of| matches!(of.values, AttributeValues::Numbers(_))) {
        let filter = serde_json::json!({"range": {"attribute": attribute.name, "from": 1990, "to": 1999}});
        lines.push(format!("{post}/v1/recommend -d '{{\"user_id\":\"me\",\"k\":5,\"filter\":{filter}}}'"));
    }
    lines.push(format!("curl -s '{url}/v1/items/{first}/similar?k=5'"));
    lines.push(format!("curl -s {url}/readyz"));
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::serve_toml;
    use service::ServiceConfig;

    #[test]
    fn the_written_config_is_one_that_serve_accepts() {
        for dims in [&[4][..], &[8, 16, 32, 64, 128][..]] {
            let config: ServiceConfig = toml::from_str(&serve_toml(dims, 8080)).unwrap();
            config.validate(&fmrlrec::BundleShape::of_dims(dims)).unwrap();
            let served: Vec<usize> = config.tiers.iter().map(|tier| tier.dim).collect();
            assert_eq!(served, dims);
        }
    }
}

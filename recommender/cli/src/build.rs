//! `build`: raw tables, text and images -> Snapshot, through the `pipeline` crate.

use crate::arguments::BuildArgs;
use crate::artefacts::check_folder_outside_artefacts;
use crate::failure::bad_input;
use crate::output::{say, thousands};
use crate::progress::Progress;
use feature_store::{Manifest, lies_in};
use pipeline::BuildConfig;
use std::path::Path;

/// Builds and prints what the manifest counts.
pub(crate) fn run(args: &BuildArgs) -> anyhow::Result<()> {
    let manifest = build(&args.config, &args.output)?;
    say(&summary(&manifest, &args.output))
}

/// Builds the Snapshot of a config; relative paths in the config start at the folder it lies in.
pub(crate) fn build(config_path: &Path, output: &Path) -> anyhow::Result<Manifest> {
    let config: BuildConfig = crate::config::read(config_path)?;
    let base_dir = config_path.parent().unwrap_or(Path::new(""));
    if let Some(cache_dir) = &config.cache_dir {
        check_folder_outside_artefacts("config cache_dir", &base_dir.join(cache_dir))?;
    }
    check_apart_from_cache(&config, base_dir, output)?;
    crate::artefacts::check_snapshot_output(output)?;
    let mut progress = Progress::new();
    let manifest = pipeline::build(&config, base_dir, output, &mut |at: pipeline::Progress| {
        progress.update(at.stage, at.done, at.total);
    })?;
    progress.finish();
    Ok(manifest)
}

/// Refuses an output inside the cache, or around it: a cache outlives Snapshots, and a Snapshot holds nothing else.
fn check_apart_from_cache(config: &BuildConfig, base_dir: &Path, output: &Path) -> anyhow::Result<()> {
    let Some(cache_dir) = config.cache_dir.as_ref().map(|dir| base_dir.join(dir)) else { return Ok(()) };
    let relation = if lies_in(output, &cache_dir) {
        "lies in"
    } else if lies_in(&cache_dir, output) {
        "holds"
    } else {
        return Ok(());
    };
    Err(bad_input(format!(
        "--output {}: {relation} {}, the config's cache_dir; name a place outside of it",
        output.display(),
        cache_dir.display()
    )))
}

/// Counts, features and notes of a Snapshot, a line each.
pub(crate) fn summary(manifest: &Manifest, dir: &Path) -> String {
    let counts = &manifest.counts;
    let mut text = format!(
        "Snapshot {}: {} users, {} items, {} interactions",
        dir.display(),
        thousands(counts.users),
        thousands(counts.items),
        thousands(counts.interactions),
    );
    for feature in &manifest.features {
        text.push_str(&format!(
            "\n  {}: {} dims by {}, {} items without",
            feature.name,
            feature.dim,
            feature.encoder.name,
            thousands(feature.missing),
        ));
    }
    for (note, count) in &manifest.notes {
        text.push_str(&format!("\n  {note}: {}", thousands(*count)));
    }
    text
}

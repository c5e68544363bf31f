//! `build`: raw tables, text and images -> Snapshot, through the `pipeline` crate.

use crate::arguments::BuildArgs;
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
    check_outside_inputs(&config, base_dir, output)?;
    crate::artefacts::check_snapshot_output(output)?;
    let mut progress = Progress::new();
    let manifest = pipeline::build(&config, base_dir, output, &mut |at: pipeline::Progress| {
        progress.update(at.stage, at.done, at.total);
    })?;
    progress.finish();
    Ok(manifest)
}

/// Refuses an output inside a folder that the config names: what is kept there has another life, as a cache has.
fn check_outside_inputs(config: &BuildConfig, base_dir: &Path, output: &Path) -> anyhow::Result<()> {
    for (field, folder) in config.folders() {
        if lies_in(output, &base_dir.join(folder)) {
            return Err(bad_input(format!(
                "--output {}: lies in {}, the config's {field}; name a place outside of it",
                output.display(),
                base_dir.join(folder).display()
            )));
        }
    }
    Ok(())
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

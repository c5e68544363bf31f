//! Opening what earlier verbs wrote, and looking at where a verb will write before its work begins: the libraries
//! refuse a wrong place too, but only when they write, hours later.

use crate::failure::bad_input;
use anyhow::Context as _;
use feature_store::{Snapshot, StagedDir, StoreError, artefact_around, write_whole};
use fmrlrec::{Bundle, Report};
use std::path::{Path, PathBuf};

/// The file that makes a folder a Snapshot.
const SNAPSHOT_MARKER: &str = "manifest.json";
/// The file that makes a folder a Bundle.
const BUNDLE_MARKER: &str = "bundle.json";

/// Opens a Snapshot; a folder that is none says which verb makes one.
pub(crate) fn open_snapshot(dir: &Path) -> anyhow::Result<Snapshot> {
    require(dir, SNAPSHOT_MARKER, "Snapshot", "build")?;
    Ok(Snapshot::open(dir)?)
}

/// Opens a Bundle; a folder that is none says which verb makes one.
pub(crate) fn open_bundle(dir: &Path) -> anyhow::Result<Bundle> {
    require(dir, BUNDLE_MARKER, "Bundle", "train")?;
    Ok(Bundle::open(dir)?)
}

/// Writes `report.json` into a folder, beside and renamed. Returns its path.
pub(crate) fn write_report(report: &Report, dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.join("report.json");
    let mut json = serde_json::to_vec_pretty(report).context("turning the report into JSON")?;
    json.push(b'\n');
    write_whole(&path, &json).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Refuses a folder for a report that is an artefact: its own report.json has a checksum in the manifest.
pub(crate) fn check_report_output(dir: &Path) -> anyhow::Result<()> {
    let shown = dir.display();
    if dir.exists() && !dir.is_dir() {
        return Err(bad_input(format!("--output {shown}: is no folder; name another")));
    }
    check_outside_artefacts(dir)?;
    for (marker, kind) in [(BUNDLE_MARKER, "Bundle"), (SNAPSHOT_MARKER, "Snapshot")] {
        if dir.join(marker).exists() {
            return Err(bad_input(format!(
                "--output {shown}: holds {marker}, and a report there would spoil the {kind}; name another folder"
            )));
        }
    }
    Ok(())
}

/// Refuses an output folder that holds something else, or to which no folder can be renamed.
pub(crate) fn check_snapshot_output(dir: &Path) -> anyhow::Result<()> {
    check_output(dir, SNAPSHOT_MARKER, "Snapshot")
}

/// As [`check_snapshot_output`], for a Bundle.
pub(crate) fn check_bundle_output(dir: &Path) -> anyhow::Result<()> {
    check_output(dir, BUNDLE_MARKER, "Bundle")
}

/// Refuses an output inside a Snapshot or a Bundle: an artefact with a file that its manifest does not list is never
/// replaced again, and a new one would take the output with it.
pub(crate) fn check_outside_artefacts(output: &Path) -> anyhow::Result<()> {
    let kinds = [(BUNDLE_MARKER, "Bundle"), (SNAPSHOT_MARKER, "Snapshot")];
    let Some((dir, found)) = artefact_around(output, &kinds.map(|(marker, _)| marker)) else { return Ok(()) };
    let kind = kinds.into_iter().find(|(marker, _)| *marker == found).map_or("artefact", |(_, kind)| kind);
    let (output, dir) = (output.display(), dir.display());
    Err(bad_input(format!(
        "--output {output}: lies in the {kind} {dir}, which holds nothing but what its {found} lists; name a place \
         outside of it"
    )))
}

fn check_output(dir: &Path, marker: &str, kind: &str) -> anyhow::Result<()> {
    check_outside_artefacts(dir)?;
    let shown = dir.display();
    StagedDir::check(dir, marker).map_err(|error| match error {
        StoreError::Corrupt { reason, .. } => bad_input(format!("--output {shown}: no place for a {kind}: {reason}")),
        // The machine's own failure keeps its cause, and with it its exit code.
        other => anyhow::Error::new(other).context(format!("--output {shown}")),
    })
}

fn require(dir: &Path, file: &str, kind: &str, verb: &str) -> anyhow::Result<()> {
    let path = dir.join(file);
    if path.is_file() {
        return Ok(());
    }
    let shown = path.display();
    Err(bad_input(format!("{shown} is not there, so {} is no {kind}; `recommender {verb}` makes one", dir.display())))
}

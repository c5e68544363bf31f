//! Opening what earlier verbs wrote, and writing single files whole or not at all.

use crate::failure::bad_input;
use anyhow::Context as _;
use feature_store::Snapshot;
use fmrlrec::{Bundle, Report};
use std::fs::File;
use std::io::Write as _;
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

/// Writes a file beside its place, syncs it and renames it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    let part = path.with_added_extension("part");
    let mut file = File::create(&part)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&part, path)
}

/// Refuses an output folder that holds something else, before hours of work rather than after: the
/// libraries refuse it too, but only when they write.
pub(crate) fn check_snapshot_output(dir: &Path) -> anyhow::Result<()> {
    check_output(dir, SNAPSHOT_MARKER, "Snapshot")
}

/// As [`check_snapshot_output`], for a Bundle.
pub(crate) fn check_bundle_output(dir: &Path) -> anyhow::Result<()> {
    check_output(dir, BUNDLE_MARKER, "Bundle")
}

fn check_output(dir: &Path, marker: &str, kind: &str) -> anyhow::Result<()> {
    let shown = dir.display();
    let refuse = |why: String| bad_input(format!("--output {shown}: {why}; name another folder"));
    if dir.file_name().is_none() {
        return Err(refuse(format!("is no name that a {kind} can be renamed to")));
    }
    match std::fs::read_dir(dir).map(|mut entries| entries.next().is_none()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(refuse(error.to_string())),
        Ok(empty) if empty || dir.join(marker).is_file() => Ok(()),
        Ok(_) => Err(refuse(format!("holds files and no {marker}, so it is no {kind} and is not replaced"))),
    }
}

fn require(dir: &Path, file: &str, kind: &str, verb: &str) -> anyhow::Result<()> {
    let path = dir.join(file);
    if path.is_file() {
        return Ok(());
    }
    let shown = path.display();
    Err(bad_input(format!("{shown} is not there, so {} is no {kind}; `recommender {verb}` makes one", dir.display())))
}

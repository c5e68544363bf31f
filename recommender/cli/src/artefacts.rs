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

/// The file that an evaluation writes.
const REPORT: &str = "report.json";

/// What makes a folder an artefact, and what it is called.
const KINDS: [(&str, &str); 2] = [(BUNDLE_MARKER, "Bundle"), (SNAPSHOT_MARKER, "Snapshot")];

/// Opens a Snapshot; a folder that is none says which verb makes one.
pub(crate) fn open_snapshot(dir: &Path) -> anyhow::Result<Snapshot> {
    require(dir, SNAPSHOT_MARKER, "Snapshot", "build")?;
    Ok(Snapshot::open(dir)?)
}

/// Opens a Bundle; a folder that is none says which verb makes one.
pub(crate) fn open_bundle(dir: &Path) -> anyhow::Result<Bundle> {
    check_bundle(dir)?;
    Ok(Bundle::open(dir)?)
}

/// Refuses a folder that is no Bundle.
pub(crate) fn check_bundle(dir: &Path) -> anyhow::Result<()> {
    require(dir, BUNDLE_MARKER, "Bundle", "train")
}

/// Writes `report.json` into a folder, beside and renamed. Returns its path.
pub(crate) fn write_report(report: &Report, dir: &Path) -> anyhow::Result<PathBuf> {
    let path = dir.join(REPORT);
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
    let report = dir.join(REPORT);
    if report.exists() && !std::fs::read(&report).is_ok_and(|bytes| serde_json::from_slice::<Report>(&bytes).is_ok()) {
        return Err(bad_input(format!(
            "--output {shown}: holds a {REPORT} that no evaluation wrote; name another folder"
        )));
    }
    for (marker, kind) in KINDS {
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
    check_outside("--output", output)
}

/// The same of another file or folder; `field` says where it was named.
pub(crate) fn check_outside(field: &str, place: &Path) -> anyhow::Result<()> {
    refuse_inside(field, place, artefact_around(place, &KINDS.map(|(marker, _)| marker)))
}

/// The same of a folder that is made or written into beside an output, such as a log's; it may not be an artefact
/// itself either. `field` says where it was named.
pub(crate) fn check_folder_outside_artefacts(field: &str, dir: &Path) -> anyhow::Result<()> {
    refuse_inside(field, dir, artefact_around(&dir.join("within"), &KINDS.map(|(marker, _)| marker)))
}

fn refuse_inside(field: &str, place: &Path, around: Option<(PathBuf, &str)>) -> anyhow::Result<()> {
    let Some((dir, found)) = around else { return Ok(()) };
    let kind = KINDS.into_iter().find(|(marker, _)| *marker == found).map_or("artefact", |(_, kind)| kind);
    let (place, dir) = (place.display(), dir.display());
    Err(bad_input(format!(
        "{field} {place}: lies in the {kind} {dir}, which holds nothing but what its {found} lists; name a place \
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

//! `export-interactions`: user state store -> a Parquet table that `build` reads, so that the next
//! training run sees what the stream brought.

use crate::arguments::ExportArgs;
use crate::failure::bad_input;
use crate::output::{say, thousands};
use feature_store::{StateLocation, export_interactions, lies_in};
use std::io::Read as _;
use std::path::Path;

/// Writes the table and says how to name it in a build config.
pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let place = args.store.parse()?;
    // Opening would make one.
    if let StateLocation::Folder(path) = &place
        && !path.exists()
    {
        return Err(bad_input(format!("{} is not there; name the folder of a user state store", path.display())));
    }
    crate::artefacts::check_outside_artefacts(&args.output)?;
    check_output(&args.output, &place)?;
    let store = crate::state::open_to_read(&place, args.max_history)?;
    if store.shared() && store.users()? == 0 {
        return Err(bad_input(format!("{place} holds no users; correct its name")));
    }
    let rows = export_interactions(&store, &args.output)?;
    say(&format!(
        "{}: {} interactions of {} users; in a build config: format = \"parquet\", user = \"user\", item = \"item\", \
         timestamp = \"timestamp_ms\", timestamp_unit = \"ms\"",
        args.output.display(),
        thousands(rows),
        thousands(store.users()?),
    ))
}

/// Only a table is replaced, and nothing is written into the store.
fn check_output(output: &Path, place: &StateLocation) -> anyhow::Result<()> {
    let refused = |reason: &str| Err(bad_input(format!("--output {} {reason}", output.display())));
    let parent = output.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !parent.is_dir() {
        return refused("lies in no folder that is there; make it first");
    }
    if let StateLocation::Folder(store) = place
        && lies_in(output, store)
    {
        return refused("lies in the store itself; name a place outside of it");
    }
    let Ok(found) = std::fs::metadata(output) else { return Ok(()) };
    let mut magic = [0; 4];
    let is_table =
        found.is_file() && std::fs::File::open(output).and_then(|mut file| file.read_exact(&mut magic)).is_ok();
    match is_table && magic == *b"PAR1" {
        true => Ok(()),
        false => refused("is there and no Parquet table; it is not replaced, name another file"),
    }
}

//! `export-interactions`: user state store -> a Parquet table that `build` reads, so that the next
//! training run sees what the stream brought.

use crate::arguments::ExportArgs;
use crate::failure::bad_input;
use crate::output::{say, thousands};
use feature_store::{StateLocation, export_interactions};

/// Writes the table and says how to name it in a build config.
pub(crate) fn run(args: &ExportArgs) -> anyhow::Result<()> {
    let place = args.store.parse()?;
    // Opening would make one.
    if let StateLocation::Folder(path) = &place
        && !path.exists()
    {
        return Err(bad_input(format!("{} is not there; name the folder of a user state store", path.display())));
    }
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

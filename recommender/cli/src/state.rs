//! Opening user state, with a word about what a crash of its server could lose.

use crate::artefacts::check_folder_outside_artefacts;
use crate::output::note;
use feature_store::{StateLocation, UserStateStore};

/// Newest events that a new store keeps for a user where nothing says how many: as many as the configs of this
/// project say.
const NEW_MAX_HISTORY: usize = 400;

/// Opens or makes a store that keeps so many events for a user.
///
/// A folder inside a Snapshot or a Bundle is refused: the artefact could not be replaced any more.
pub(crate) fn open(place: &StateLocation, max_history: usize) -> anyhow::Result<UserStateStore> {
    check_place(place)?;
    Ok(told(place, UserStateStore::open_at(place, max_history)?))
}

/// Opens or makes a store that keeps as many events for a user as it says itself.
pub(crate) fn open_as_kept(place: &StateLocation) -> anyhow::Result<UserStateStore> {
    check_place(place)?;
    Ok(told(place, UserStateStore::open_as_kept(place, NEW_MAX_HISTORY)?))
}

/// Opens a store to read at most the `newest` events of each user.
pub(crate) fn open_to_read(place: &StateLocation, newest: usize) -> anyhow::Result<UserStateStore> {
    Ok(told(place, UserStateStore::open_to_read(place, newest)?))
}

fn check_place(place: &StateLocation) -> anyhow::Result<()> {
    match place {
        StateLocation::Folder(dir) => check_folder_outside_artefacts("user state", dir),
        StateLocation::Server(_) => Ok(()),
    }
}

fn told(place: &StateLocation, store: UserStateStore) -> UserStateStore {
    if let Some(caution) = store.caution() {
        note(&format!("user state on {place}: {caution}"));
    }
    store
}

//! Opening user state, with a word about what a crash of its server could lose.

use crate::output::note;
use feature_store::{StateLocation, UserStateStore};

/// Newest events that a new store keeps for a user where nothing says how many: as many as the configs of this
/// project say.
const NEW_MAX_HISTORY: usize = 400;

/// Opens or makes a store that keeps so many events for a user.
pub(crate) fn open(place: &StateLocation, max_history: usize) -> anyhow::Result<UserStateStore> {
    Ok(told(place, UserStateStore::open_at(place, max_history)?))
}

/// Opens or makes a store that keeps as many events for a user as it says itself.
pub(crate) fn open_as_kept(place: &StateLocation) -> anyhow::Result<UserStateStore> {
    Ok(told(place, UserStateStore::open_as_kept(place, NEW_MAX_HISTORY)?))
}

/// Opens a store to read at most the `newest` events of each user.
pub(crate) fn open_to_read(place: &StateLocation, newest: usize) -> anyhow::Result<UserStateStore> {
    Ok(told(place, UserStateStore::open_to_read(place, newest)?))
}

fn told(place: &StateLocation, store: UserStateStore) -> UserStateStore {
    if let Some(caution) = store.caution() {
        note(&format!("user state on {place}: {caution}"));
    }
    store
}

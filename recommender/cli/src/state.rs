//! Opening user state, with a word about what a crash of its server could lose.

use crate::output::note;
use feature_store::{StateLocation, UserStateStore};

/// Opens or makes a store.
pub(crate) fn open(place: &StateLocation, max_history: usize) -> anyhow::Result<UserStateStore> {
    let store = UserStateStore::open_at(place, max_history)?;
    if let Some(caution) = store.caution() {
        note(&format!("user state on {place}: {caution}"));
    }
    Ok(store)
}

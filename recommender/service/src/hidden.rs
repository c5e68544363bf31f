//! Ids of the items that a stream has hidden or let expire, for one Bundle: no search gives them.
//!
//! The store is read again when it says that items changed; once a second the list is made anew from what was read,
//! since an expiry needs no event to take effect.

use crate::clock::Clock;
use crate::problem::Problem;
use crate::view::View;
use feature_store::UserStateStore;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Age in milliseconds at which a list is made again.
const MAX_AGE_MS: i64 = 1_000;
/// Loads of Bundles whose lists are kept: the one of now, one before it, one on trial, and one in hand.
const MOST_BUNDLES: usize = 4;

/// One list, and what it was made from.
struct Kept {
    items_generation: u64,
    /// Of the added items, whose ids may change with it.
    added: u64,
    /// Every item that is or will be hidden, and from when on; ascending.
    from_ms: Vec<(u32, i64)>,
    made_ms: i64,
    ids: Arc<[u32]>,
}

/// The lists, by load of a Bundle.
pub(crate) struct HiddenItems {
    clock: Clock,
    kept: Mutex<BTreeMap<u64, Kept>>,
}

impl HiddenItems {
    pub(crate) fn new(clock: Clock) -> HiddenItems {
        HiddenItems { clock, kept: Mutex::new(BTreeMap::new()) }
    }

    /// Ids hidden now, ascending; keys that the view does not know are left out.
    ///
    /// # Errors
    /// The store's failure: nothing is recommended rather than something hidden.
    pub(crate) fn ids(&self, store: &UserStateStore, view: &View) -> Result<Arc<[u32]>, Problem> {
        let now_ms = (self.clock)();
        // Read before the list is made: a change in between makes the list stale, never the other way.
        let items_generation = store.items_generation()?;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let added = view.added().version;
        let current = kept
            .get_mut(&view.generation)
            .filter(|list| list.items_generation == items_generation && list.added == added);
        if let Some(list) = current {
            if !(0..MAX_AGE_MS).contains(&(now_ms - list.made_ms)) {
                (list.ids, list.made_ms) = (hidden_at(&list.from_ms, now_ms), now_ms);
            }
            return Ok(Arc::clone(&list.ids));
        }
        let mut from_ms = Vec::new();
        store.for_each_item(|key, state| from_ms.extend(view.id(key).zip(state.hidden_from())))?;
        from_ms.sort_unstable();
        let ids = hidden_at(&from_ms, now_ms);
        let list = Kept { items_generation, added, from_ms, made_ms: now_ms, ids: Arc::clone(&ids) };
        kept.insert(view.generation, list);
        while kept.len() > MOST_BUNDLES {
            kept.pop_first();
        }
        Ok(ids)
    }
}

/// Ids of the items hidden at a time, ascending.
fn hidden_at(from_ms: &[(u32, i64)], now_ms: i64) -> Arc<[u32]> {
    from_ms.iter().filter(|(_, from_ms)| *from_ms <= now_ms).map(|(id, _)| *id).collect()
}

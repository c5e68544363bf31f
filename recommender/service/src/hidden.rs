//! Ids of the items that a stream or a caller has hidden or let expire, for one Bundle: no search gives them.
//!
//! Read from the store together with the added items, off the compute threads. Once a second the list is made
//! anew from what was read, since an expiry needs no event to take effect.

use feature_store::{StoreError, UserStateStore};
use std::sync::{Arc, Mutex, PoisonError};

/// Age in milliseconds at which a list is made again.
const MAX_AGE_MS: i64 = 1_000;

/// What was read, and the list of now.
pub(crate) struct HiddenItems {
    /// Every item that is or will be hidden, and from when on; ascending.
    from_ms: Vec<(u32, i64)>,
    /// The list, and when it was made.
    made: Mutex<Option<(i64, Arc<[u32]>)>>,
}

impl HiddenItems {
    /// None.
    pub(crate) fn none() -> HiddenItems {
        HiddenItems { from_ms: Vec::new(), made: Mutex::new(None) }
    }

    /// Those of the store; keys that `id` does not know are left out. Reads every item that a stream has
    /// changed.
    ///
    /// # Errors
    /// The store's failure.
    pub(crate) fn read(store: &UserStateStore, id: impl Fn(&str) -> Option<u32>) -> Result<HiddenItems, StoreError> {
        let mut from_ms = Vec::new();
        store.for_each_item(|key, state| from_ms.extend(id(key).zip(state.hidden_from())))?;
        from_ms.sort_unstable();
        Ok(HiddenItems { from_ms, made: Mutex::new(None) })
    }

    /// Ids hidden at a time, ascending.
    pub(crate) fn at(&self, now_ms: i64) -> Arc<[u32]> {
        // The list is whole between calls, so a lock that a panic left behind is still good.
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((made_ms, ids)) = &*made
            && (0..MAX_AGE_MS).contains(&(now_ms - made_ms))
        {
            return Arc::clone(ids);
        }
        let ids: Arc<[u32]> =
            self.from_ms.iter().filter(|(_, from_ms)| *from_ms <= now_ms).map(|(id, _)| *id).collect();
        *made = Some((now_ms, Arc::clone(&ids)));
        ids
    }
}

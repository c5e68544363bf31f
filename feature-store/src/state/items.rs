//! What a stream has said about items: their title and text for the next build, and which of them
//! must not be recommended.
//!
//! Title and text are those of the latest upsert; an item is shown or hidden as the latest change
//! says. Latest means by the event's own time, so it does not matter in which order changes arrive;
//! of changes of one time, a hide wins over an expiry, and that over an upsert.

use super::UserStateStore;
use super::tables::Table;
use crate::{StoreError, StreamEvent};
use serde::{Deserialize, Serialize};

/// The state of one item, as stored (JSON, key: the item's key).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemState {
    /// Title, text and time of the latest upsert.
    document: Option<(i64, String, Option<String>)>,
    /// Time of the latest change of visibility, its rank among those of one time, and from when on
    /// the item is hidden; never if that is absent.
    visibility: (i64, u8, Option<i64>),
}

impl ItemState {
    /// Title of the latest upsert.
    pub fn title(&self) -> Option<&str> {
        self.document.as_ref().map(|(_, title, _)| title.as_str())
    }

    /// Text of the latest upsert.
    pub fn text(&self) -> Option<&str> {
        self.document.as_ref().and_then(|(_, _, text)| text.as_deref())
    }

    /// A time that is later than every change so far, and not before `now_ms`.
    pub(super) fn after(&self, now_ms: i64) -> i64 {
        let document = self.document.as_ref().map_or(i64::MIN, |(at, ..)| *at);
        now_ms.max(document.max(self.visibility.0).saturating_add(1))
    }

    /// Whether the item must not be recommended at `now_ms`.
    pub fn hidden_at(&self, now_ms: i64) -> bool {
        self.visibility.2.is_some_and(|from_ms| from_ms <= now_ms)
    }

    /// From when on the item must not be recommended (milliseconds since the Unix epoch); never if absent.
    pub fn hidden_from(&self) -> Option<i64> {
        self.visibility.2
    }

    /// Takes in a change of the item; other events are none.
    pub(super) fn change(&mut self, event: &StreamEvent) {
        let visibility = match event {
            StreamEvent::ItemUpsert { timestamp_ms, title, text, .. } => {
                self.document = self.document.take().max(Some((*timestamp_ms, title.clone(), text.clone())));
                (*timestamp_ms, 1, None)
            }
            StreamEvent::ItemExpire { timestamp_ms, expires_at_ms, .. } => (*timestamp_ms, 2, Some(*expires_at_ms)),
            StreamEvent::ItemHide { timestamp_ms, .. } => (*timestamp_ms, 3, Some(i64::MIN)),
            StreamEvent::Interaction(_) | StreamEvent::UserDelete { .. } => return,
        };
        self.visibility = self.visibility.max(visibility);
    }
}

impl UserStateStore {
    /// Calls `each` with every item that a stream has changed, in order of its key: keep what it gives and ask again
    /// when [`UserStateStore::items_generation`] has moved.
    ///
    /// # Errors
    /// The database's failure, or a record that is unreadable.
    pub fn for_each_item(&self, mut each: impl FnMut(&str, &ItemState)) -> Result<(), StoreError> {
        let inner = &self.inner;
        inner.tables.each_row(Table::Items, b"", &mut |key, value| {
            let item = std::str::from_utf8(key).map_err(|_| inner.damaged("an item's key"))?;
            each(item, &inner.decode_item(item, value)?);
            Ok(())
        })
    }

    /// What a stream has said about one item; `None` if nothing.
    ///
    /// # Errors
    /// As [`UserStateStore::for_each_item`].
    pub fn item(&self, item_id: &str) -> Result<Option<ItemState>, StoreError> {
        let bytes = self.inner.tables.get(Table::Items, item_id.as_bytes())?;
        bytes.map(|bytes| self.inner.decode_item(item_id, &bytes)).transpose()
    }
}

impl super::Inner {
    pub(super) fn decode_item(&self, item: &str, bytes: &[u8]) -> Result<ItemState, StoreError> {
        serde_json::from_slice(bytes).map_err(|_| self.damaged(&format!("the state of item {item:?}")))
    }
}

pub(super) fn encode(state: &ItemState) -> Vec<u8> {
    serde_json::to_vec(state).expect("numbers and text are always JSON")
}

//! Feature vectors and attributes of items that no Bundle may know yet. Two rows an item: a small one
//! that says when it changed, which a reader lists often, and the vectors, which it reads once.
//!
//! ```text
//! added     first:u64 changed:u64 (big-endian)   numbers of the change that brought it and of the last
//! contents  version:u8 timestamp_ms:signed
//!           features (name:text values x f32)    little-endian
//!           attributes (name:text kind:u8 VALUE) kind 0: number f64; 1: one text; 2: texts
//! ```
//! Counts, numbers and text are those of `codec`. Of two vectors the one of the later event time stays,
//! as with titles; a removal takes both rows away.

use super::codec::{Reader, put_i64, put_text, put_u64};
use super::tables::Table;
use super::{Inner, UserStateStore};
use crate::{AttributeValue, ItemContent, StoreError, StreamEvent};
use std::collections::BTreeMap;

const VERSION: u8 = 1;

/// An item with vectors, without them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddedItem {
    /// External item key.
    pub item_id: String,
    /// Number of the change that first brought it: the order in which items came.
    pub first: u64,
    /// Number of its last change; no two changes of a store have the same.
    pub changed: u64,
}

/// What was stored with an item's vectors.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Stored {
    pub(super) timestamp_ms: i64,
    pub(super) content: ItemContent,
}

/// A caller's own change of an item, which counts as later than everything before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewItem {
    /// External item key.
    pub item_id: String,
    /// What the item is called; the title it has, or its key, if absent.
    pub title: Option<String>,
    /// Vectors and attributes.
    pub content: ItemContent,
}

impl UserStateStore {
    /// Adds an item or replaces what it is, in one durable transaction. It is shown from then on, also if
    /// it was hidden. True if it had no vectors before.
    ///
    /// # Errors
    /// A key or title that [`StreamEvent::validate`] refuses, or the database's failure.
    pub fn put_item(&self, item: &NewItem, now_ms: i64) -> Result<bool, StoreError> {
        let (created, _) = self.inner.transact(|writer| {
            let before = writer.stored_item(&item.item_id)?;
            let known = before.as_ref().and_then(|state| state.title().map(str::to_owned));
            // Kept as the title is: a caller gives none, and the next build needs it.
            let text = before.as_ref().and_then(|state| state.text().map(str::to_owned));
            let event = StreamEvent::ItemUpsert {
                timestamp_ms: before.map_or(now_ms, |state| state.after(now_ms)),
                title: item.title.clone().or(known).unwrap_or_else(|| item.item_id.clone()),
                text,
                content: Some(Box::new(item.content.clone())),
                item_id: item.item_id.clone(),
            };
            event.validate()?;
            let created = !writer.has_content(&item.item_id)?;
            writer.event(&event, None)?;
            Ok(created)
        })?;
        Ok(created)
    }

    /// Hides an item and forgets its vectors, in one durable transaction. True if it had some.
    ///
    /// # Errors
    /// A key that [`StreamEvent::validate`] refuses, or the database's failure.
    pub fn remove_item(&self, item_id: &str, now_ms: i64) -> Result<bool, StoreError> {
        let (had, _) = self.inner.transact(|writer| {
            let before = writer.stored_item(item_id)?;
            let timestamp_ms = before.map_or(now_ms, |state| state.after(now_ms));
            let event = StreamEvent::ItemHide { item_id: item_id.to_owned(), timestamp_ms };
            event.validate()?;
            let had = writer.has_content(item_id)?;
            writer.event(&event, None)?;
            writer.forget_content(item_id);
            Ok(had)
        })?;
        Ok(had)
    }

    /// Forgets an item's vectors in one durable transaction and leaves what else is known of it: takes back a
    /// [`UserStateStore::put_item`] that had no room.
    ///
    /// # Errors
    /// The database's failure.
    pub fn forget_item(&self, item_id: &str) -> Result<(), StoreError> {
        self.inner.transact(|writer| {
            writer.forget_content(item_id);
            Ok(())
        })?;
        Ok(())
    }

    /// Every item with vectors, in the order in which they came.
    ///
    /// # Errors
    /// The database's failure, or a record that is unreadable.
    pub fn added_items(&self) -> Result<Vec<AddedItem>, StoreError> {
        let inner = &self.inner;
        let mut found = Vec::new();
        inner.tables.each_row(Table::Added, b"", &mut |key, value| {
            let item = std::str::from_utf8(key).map_err(|_| inner.damaged("an item's key"))?;
            let (first, changed) = inner.change_numbers(item, value)?;
            found.push(AddedItem { item_id: item.to_owned(), first, changed });
            Ok(())
        })?;
        found.sort_unstable_by_key(|item| item.first);
        Ok(found)
    }

    /// An item's vectors and attributes; `None` if none came.
    ///
    /// # Errors
    /// The database's failure, or a record that is unreadable.
    pub fn item_content(&self, item_id: &str) -> Result<Option<ItemContent>, StoreError> {
        let bytes = self.inner.tables.get(Table::Contents, item_id.as_bytes())?;
        Ok(bytes.map(|bytes| self.inner.decode_content(item_id, &bytes)).transpose()?.map(|stored| stored.content))
    }
}

impl Inner {
    /// Numbers of the first and the last change of an item with vectors.
    pub(super) fn change_numbers(&self, item: &str, bytes: &[u8]) -> Result<(u64, u64), StoreError> {
        let pair = bytes.split_at_checked(8).and_then(|(first, changed)| {
            Some((u64::from_be_bytes(first.try_into().ok()?), u64::from_be_bytes(changed.try_into().ok()?)))
        });
        pair.ok_or_else(|| self.damaged(&format!("the change numbers of item {item:?}")))
    }

    pub(super) fn decode_content(&self, item: &str, bytes: &[u8]) -> Result<Stored, StoreError> {
        Stored::decode(bytes).ok_or_else(|| self.damaged(&format!("the vectors of item {item:?}")))
    }
}

/// First and last change of an item, as stored.
pub(super) fn numbers(first: u64, changed: u64) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&first.to_be_bytes());
    bytes[8..].copy_from_slice(&changed.to_be_bytes());
    bytes
}

impl Stored {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_i64(&mut out, self.timestamp_ms);
        put_u64(&mut out, self.content.features().len() as u64);
        for (name, values) in self.content.features() {
            put_text(&mut out, name);
            put_u64(&mut out, values.len() as u64);
            values.iter().for_each(|value| out.extend_from_slice(&value.to_le_bytes()));
        }
        put_u64(&mut out, self.content.attributes().len() as u64);
        for (name, value) in self.content.attributes() {
            put_text(&mut out, name);
            put_attribute(&mut out, value);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Stored> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return None;
        }
        let timestamp_ms = reader.i64()?;
        let mut features = BTreeMap::new();
        for _ in 0..reader.u64()? {
            let name = reader.text()?.to_owned();
            let bytes = usize::try_from(reader.u64()?).ok()?.checked_mul(4)?;
            let values = reader.take(bytes)?.chunks_exact(4);
            features.insert(name, values.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect());
        }
        let mut attributes = BTreeMap::new();
        for _ in 0..reader.u64()? {
            attributes.insert(reader.text()?.to_owned(), attribute(&mut reader)?);
        }
        Some(Stored { timestamp_ms, content: ItemContent::new(features, attributes).ok()? })
    }
}

fn put_attribute(out: &mut Vec<u8>, value: &AttributeValue) {
    match value {
        AttributeValue::Number(number) => {
            out.push(0);
            out.extend_from_slice(&number.to_le_bytes());
        }
        AttributeValue::Text(text) => {
            out.push(1);
            put_text(out, text);
        }
        AttributeValue::Texts(texts) => {
            out.push(2);
            put_u64(out, texts.len() as u64);
            texts.iter().for_each(|text| put_text(out, text));
        }
    }
}

fn attribute(reader: &mut Reader<'_>) -> Option<AttributeValue> {
    Some(match reader.u8()? {
        0 => AttributeValue::Number(f64::from_le_bytes(reader.take(8)?.try_into().ok()?)),
        1 => AttributeValue::Text(reader.text()?.to_owned()),
        2 => {
            let count = reader.u64()?;
            let texts: Option<Vec<String>> = (0..count).map(|_| reader.text().map(str::to_owned)).collect();
            AttributeValue::Texts(texts?)
        }
        _ => return None,
    })
}

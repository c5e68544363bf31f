//! One user inside a transaction: the head as it will be, and the blocks that change.

use super::record::{BLOCK, Entries, Head};
use super::tables::Table;
use super::users::block_key;
use super::{HistoryEntry, Inner};
use crate::{Event, StoreError};
use std::collections::BTreeMap;

/// What a transaction has made of a user so far.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// The head; absent if the user is not there, or not any more.
    pub(super) head: Option<Head>,
    /// Whether the store has a head.
    pub(super) stored: bool,
    /// Blocks to write or, where `None`, to remove.
    pub(super) blocks: BTreeMap<u64, Option<Entries>>,
    /// Whether the user was forgotten in this transaction.
    pub(super) forgotten: bool,
    /// Partition and offset of the last event that came from a source with offsets.
    pub(super) place: Option<(u32, u64)>,
    /// Whether an event was added.
    changed: bool,
    /// The whole history in memory, once an event came that belongs into a sealed block.
    whole: Option<Vec<HistoryEntry>>,
}

impl Pending {
    /// A user as stored.
    pub(super) fn of(head: Option<Head>) -> Pending {
        Pending { stored: head.is_some(), head, ..Pending::default() }
    }

    /// Takes in an event; false if its id was seen, which `by_id` asks for. `created` is the number of a user made now.
    pub(super) fn add(
        &mut self,
        inner: &Inner,
        event: &Event,
        place: Option<(u32, u64)>,
        created: u64,
        by_id: bool,
    ) -> Result<bool, StoreError> {
        let head = self.head.get_or_insert_with(|| Head { created, ..Head::default() });
        if let Some(id) = event.event_id.as_ref().filter(|_| by_id)
            && !head.remember(id)
        {
            return Ok(false);
        }
        head.events += 1;
        self.changed = true;
        self.place = place.or(self.place);
        if self.whole.is_none() && head.entries.newest_ms() <= event.timestamp_ms {
            head.entries.push(event.timestamp_ms, &event.item_id);
            self.seal(inner, &event.user_id)?;
        } else {
            self.insert_late(inner, event)?;
        }
        Ok(true)
    }

    /// Whether there is anything to write: replayed events and duplicates leave a user as it was.
    pub(super) fn touched(&self) -> bool {
        self.changed || self.forgotten
    }

    /// Forgets the user; true if there was something to forget.
    pub(super) fn forget(&mut self) -> bool {
        let Some(head) = self.head.take() else { return false };
        for number in head.first_block..head.first_block + head.blocks {
            self.blocks.insert(number, None);
        }
        self.whole = None;
        self.place = None;
        self.forgotten = true;
        true
    }

    /// Cuts a history that was taken apart into head and blocks again.
    pub(super) fn settle(&mut self, max_history: usize) {
        let (Some(whole), Some(head)) = (self.whole.take(), self.head.as_mut()) else { return };
        let kept = &whole[whole.len().saturating_sub(max_history)..];
        for number in head.first_block..head.first_block + head.blocks {
            self.blocks.insert(number, None);
        }
        // As many blocks as adding one entry after another would have sealed.
        let sealed = (kept.len() / BLOCK).saturating_sub(1);
        for (block, number) in kept.chunks_exact(BLOCK).take(sealed).zip(head.first_block..) {
            self.blocks.insert(number, Some(Entries::of(block)));
        }
        head.blocks = sealed as u64;
        head.entries = Entries::of(&kept[sealed * BLOCK..]);
    }

    fn insert_late(&mut self, inner: &Inner, event: &Event) -> Result<(), StoreError> {
        let head = self.head.as_mut().expect("an event is added to a head");
        let entry = HistoryEntry { item_id: event.item_id.clone(), timestamp_ms: event.timestamp_ms };
        if let Some(whole) = &mut self.whole {
            if !insert(whole, entry) {
                head.reordered_at = head.events;
            }
            return Ok(());
        }
        head.reordered_at = head.events;
        let unreadable = || inner.damaged(&format!("the newest history of user {:?}", event.user_id));
        let mut newest = Vec::with_capacity(2 * BLOCK);
        head.entries.read_into(&mut newest).ok_or_else(unreadable)?;
        if head.blocks > 0 && newest.first().is_none_or(|first| event.timestamp_ms < first.timestamp_ms) {
            let mut whole = self.read_blocks(inner, &event.user_id)?;
            whole.extend(newest);
            insert(&mut whole, entry);
            self.whole = Some(whole);
        } else {
            insert(&mut newest, entry);
            head.entries = Entries::of(&newest);
            self.seal(inner, &event.user_id)?;
        }
        Ok(())
    }

    fn read_blocks(&self, inner: &Inner, user: &str) -> Result<Vec<HistoryEntry>, StoreError> {
        let head = self.head.as_ref().expect("blocks belong to a head");
        let mut history = Vec::new();
        for number in head.first_block..head.first_block + head.blocks {
            match self.blocks.get(&number) {
                Some(Some(entries)) => entries.read_into(&mut history),
                _ => {
                    let bytes = inner.tables.get(Table::Blocks, &block_key(user, number))?;
                    inner.read_block(user, number, bytes.as_deref(), &mut history)?;
                    Some(())
                }
            }
            .ok_or_else(|| inner.damaged(&format!("block {number} of the history of user {user:?}")))?;
        }
        Ok(history)
    }

    /// Seals the older half of a full head, and drops what lies beyond the bound: entries of a head
    /// that is all there is, else whole blocks.
    fn seal(&mut self, inner: &Inner, user: &str) -> Result<(), StoreError> {
        let head = self.head.as_mut().expect("a head is sealed");
        let unreadable = || inner.damaged(&format!("the newest history of user {user:?}"));
        if head.blocks == 0 && head.entries.len() > inner.max_history {
            let surplus = head.entries.len() - inner.max_history;
            head.entries.split_off(surplus).ok_or_else(unreadable)?;
        }
        if head.entries.len() == 2 * BLOCK {
            let block = head.entries.split_off(BLOCK).ok_or_else(unreadable)?;
            self.blocks.insert(head.first_block + head.blocks, Some(block));
            head.blocks += 1;
        }
        while head.blocks > 0 && (head.blocks as usize - 1) * BLOCK + head.entries.len() >= inner.max_history {
            self.blocks.insert(head.first_block, None);
            head.first_block += 1;
            head.blocks -= 1;
        }
        Ok(())
    }
}

/// Puts an entry after all that are not younger; true if that is the end.
fn insert(history: &mut Vec<HistoryEntry>, entry: HistoryEntry) -> bool {
    let at = history.partition_point(|other| other.timestamp_ms <= entry.timestamp_ms);
    history.insert(at, entry);
    at + 1 == history.len()
}

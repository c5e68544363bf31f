//! Writing: a transaction gathers what its events change, user by user, and commits it at once,
//! synced to disk. Nothing is written before `commit`, so an error half-way changes nothing.

use super::contents::{self, CHANGES_KEY, Stored};
use super::history::Pending;
use super::items::{ItemState, encode as encode_item};
use super::record::{Origin, encode_block};
use super::users::block_key;
use super::{CREATED_KEY, Inner, USERS_KEY, positions};
use crate::{Event, ItemContent, StoreError, StreamEvent};
use fjall::{OwnedWriteBatch, PersistMode};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};

/// One record of a source with offsets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceRecord {
    /// Partition it was read from.
    pub partition: u32,
    /// Its offset there; offsets of a partition grow from record to record.
    pub offset: u64,
    /// What it says, usually one event; none moves the position only, as for a record put aside.
    pub events: Vec<StreamEvent>,
}

/// What one [`super::UserStateStore::apply`] did with its records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchOutcome {
    /// Interactions now in a history (or older than a full one keeps).
    pub applied: usize,
    /// Interactions dropped because their event id was already there.
    pub duplicates: usize,
    /// Records skipped because they were at or before the stored position.
    pub replayed: usize,
    /// Users forgotten that had state.
    pub users_deleted: usize,
    /// Changes of items.
    pub items_changed: usize,
}

/// A transaction being gathered. There is one at a time.
pub(super) struct Writer<'a> {
    inner: &'a Inner,
    _writing: MutexGuard<'a, ()>,
    users: HashMap<String, Pending>,
    items: BTreeMap<String, ItemState>,
    /// Items whose vectors change, or whose title does while they have some; none where they go.
    contents: BTreeMap<String, Option<Stored>>,
    /// Source, and for each of its partitions the position that this transaction reaches.
    reached: Option<(String, BTreeMap<u32, Option<u64>>)>,
    created: Option<u64>,
    done: BatchOutcome,
}

impl Inner {
    pub(super) fn lock(&self) -> MutexGuard<'_, ()> {
        // It guards no value: a writer that panicked has left nothing half-written.
        self.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<'a> Writer<'a> {
    pub(super) fn begin(inner: &'a Inner) -> Writer<'a> {
        Writer {
            inner,
            _writing: inner.lock(),
            users: HashMap::new(),
            items: BTreeMap::new(),
            contents: BTreeMap::new(),
            reached: None,
            created: None,
            done: BatchOutcome::default(),
        }
    }

    /// Reads the users that events are about, in order of key: neighbours share blocks of the
    /// database and lines of the cache.
    pub(super) fn read_users<'e>(&mut self, events: impl Iterator<Item = &'e StreamEvent>) -> Result<(), StoreError> {
        let mut users: Vec<&str> = events.filter_map(StreamEvent::user).collect();
        users.sort_unstable();
        users.dedup();
        self.users.reserve(users.len());
        for user in users {
            self.users.insert(user.to_owned(), Pending::of(self.inner.head(user)?));
        }
        Ok(())
    }

    /// Takes in records of one source; those at or before its position are skipped.
    pub(super) fn source(&mut self, source: &str, records: &[SourceRecord]) -> Result<(), StoreError> {
        self.read_users(records.iter().flat_map(|record| &record.events))?;
        let mut reached: BTreeMap<u32, Option<u64>> = BTreeMap::new();
        for record in records {
            let position = match reached.get(&record.partition) {
                Some(position) => *position,
                None => self.inner.position(source, record.partition)?,
            };
            if position.is_some_and(|position| record.offset <= position) {
                self.done.replayed += 1;
                reached.insert(record.partition, position);
                continue;
            }
            reached.insert(record.partition, Some(record.offset));
            for event in &record.events {
                self.event(event, Some((record.partition, record.offset)))?;
            }
        }
        self.reached = Some((source.to_owned(), reached));
        Ok(())
    }

    /// Takes in an event, with where it came from if its source has offsets.
    pub(super) fn event(&mut self, event: &StreamEvent, place: Option<(u32, u64)>) -> Result<(), StoreError> {
        match event {
            StreamEvent::Interaction(event) => self.interaction(event, place),
            StreamEvent::UserDelete { user_id, .. } => {
                let found = self.delete_user(user_id)?;
                self.done.users_deleted += usize::from(found);
                Ok(())
            }
            _ => self.item(event),
        }
    }

    /// Takes in an interaction, with where it came from if its source has offsets.
    pub(super) fn interaction(&mut self, event: &Event, place: Option<(u32, u64)>) -> Result<(), StoreError> {
        if !self.users.contains_key(&event.user_id) {
            self.users.insert(event.user_id.clone(), Pending::of(self.inner.head(&event.user_id)?));
        }
        let pending = self.users.get_mut(&event.user_id).expect("it was just put there");
        let mut number = 0;
        if pending.head.is_none() {
            number = match self.created {
                Some(created) => created,
                None => self.inner.counter(CREATED_KEY)?,
            };
            self.created = Some(number + 1);
        }
        if pending.add(self.inner, event, place, number)? {
            self.done.applied += 1;
        } else {
            self.done.duplicates += 1;
        }
        Ok(())
    }

    /// Forgets a user; true if there was something to forget.
    pub(super) fn delete_user(&mut self, user: &str) -> Result<bool, StoreError> {
        if !self.users.contains_key(user) {
            self.users.insert(user.to_owned(), Pending::of(self.inner.head(user)?));
        }
        Ok(self.users.get_mut(user).expect("it was just put there").forget())
    }

    fn item(&mut self, event: &StreamEvent) -> Result<(), StoreError> {
        let mut state = match self.items.remove(event.key()) {
            Some(state) => state,
            None => self.inner.item(event.key())?.unwrap_or_default(),
        };
        state.change(event);
        self.items.insert(event.key().to_owned(), state);
        self.done.items_changed += 1;
        match event {
            StreamEvent::ItemUpsert { item_id, timestamp_ms, content, .. } => {
                self.content(item_id, *timestamp_ms, content.as_deref())
            }
            _ => Ok(()),
        }
    }

    /// Takes in an upsert's vectors, if it brings some, and marks the item as changed if it has some.
    fn content(&mut self, item: &str, timestamp_ms: i64, content: Option<&ItemContent>) -> Result<(), StoreError> {
        let before = match self.contents.remove(item) {
            Some(pending) => pending,
            None => self.inner.content(item)?,
        };
        let later = before.as_ref().is_none_or(|before| before.timestamp_ms <= timestamp_ms);
        let next = match content {
            Some(content) if later => Some(Stored { timestamp_ms, content: content.clone() }),
            _ => before,
        };
        if let Some(next) = next {
            self.contents.insert(item.to_owned(), Some(next));
        }
        Ok(())
    }

    /// Forgets an item's vectors.
    pub(super) fn forget_content(&mut self, item: &str) {
        self.contents.insert(item.to_owned(), None);
    }

    /// Writes everything, synced to disk.
    pub(super) fn commit(self) -> Result<BatchOutcome, StoreError> {
        let Writer { inner, users, items, contents, reached, created, done, _writing } = self;
        let items_changed = !items.is_empty();
        let mut batch = inner.database.batch().durability(Some(PersistMode::SyncData));
        let source = reached.as_ref().map_or("", |(source, _)| source.as_str());
        let mut appeared = 0_i64;
        let mut users: Vec<(String, Pending)> = users.into_iter().filter(|(_, pending)| pending.touched()).collect();
        users.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (user, pending) in users {
            appeared += i64::from(pending.head.is_some()) - i64::from(pending.stored);
            put_user(inner, &mut batch, &user, pending, source)?;
        }
        for (item, state) in items {
            batch.insert(&inner.items, item.as_str(), encode_item(&state));
        }
        put_contents(inner, &mut batch, contents)?;
        for (partition, position) in reached.iter().flat_map(|(_, partitions)| partitions) {
            if let Some(position) = position {
                batch.insert(&inner.positions, positions::key(source, *partition), position.to_be_bytes());
            }
        }
        if appeared != 0 {
            let users = inner.counter(USERS_KEY)?.saturating_add_signed(appeared);
            batch.insert(&inner.meta, USERS_KEY, users.to_be_bytes());
        }
        if let Some(created) = created {
            batch.insert(&inner.meta, CREATED_KEY, created.to_be_bytes());
        }
        if !batch.is_empty() {
            batch.commit().map_err(|error| inner.failure(&error))?;
        }
        if items_changed {
            inner.items_generation.fetch_add(1, Ordering::AcqRel);
        }
        Ok(done)
    }
}

/// Numbers the changes of items with vectors, in order of key, and writes them.
fn put_contents(
    inner: &Inner,
    batch: &mut OwnedWriteBatch,
    changes: BTreeMap<String, Option<Stored>>,
) -> Result<(), StoreError> {
    if changes.is_empty() {
        return Ok(());
    }
    let mut number = inner.counter(CHANGES_KEY)?;
    for (item, change) in changes {
        match change {
            Some(stored) => {
                number += 1;
                let first = inner.added(&item)?.map_or(number, |(first, _)| first);
                batch.insert(&inner.added, item.as_str(), contents::numbers(first, number));
                batch.insert(&inner.contents, item.as_str(), stored.encode());
            }
            None => {
                batch.remove(&inner.added, item.as_str());
                batch.remove(&inner.contents, item.as_str());
            }
        }
    }
    batch.insert(&inner.meta, CHANGES_KEY, number.to_be_bytes());
    Ok(())
}

fn put_user(
    inner: &Inner,
    batch: &mut OwnedWriteBatch,
    user: &str,
    mut pending: Pending,
    source: &str,
) -> Result<(), StoreError> {
    pending.settle(inner.max_history);
    for (number, block) in &pending.blocks {
        match block {
            Some(entries) => batch.insert(&inner.blocks, block_key(user, *number), encode_block(entries)),
            None => batch.remove(&inner.blocks, block_key(user, *number)),
        }
    }
    if pending.forgotten {
        batch.remove(&inner.hidden, user);
    }
    match &mut pending.head {
        Some(head) => {
            if let Some((partition, offset)) = pending.place {
                head.applied = Some(Origin { source: source.to_owned(), partition, offset });
            }
            batch.insert(&inner.heads, user, head.encode());
        }
        None if pending.stored => batch.remove(&inner.heads, user),
        None => (),
    }
    Ok(())
}

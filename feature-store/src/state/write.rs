//! Writing: a transaction gathers what its events change, user by user, and commits it at once, durably.
//! Nothing is written before `commit`, so an error half-way changes nothing; and where another process may
//! have changed what was read, the transaction runs anew ([`super::Inner::transact`]).

use super::contents::{self, Stored};
use super::history::Pending;
use super::items::{ItemState, encode as encode_item};
use super::record::{Origin, encode_block};
use super::tables::{Bytes, Commit, Series, Table};
use super::users::block_key;
use super::{ATTEMPTS, Inner, positions};
use crate::{Event, ItemContent, StoreError, StreamEvent};
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

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

impl BatchOutcome {
    /// Counts another one in.
    pub(super) fn add(&mut self, other: BatchOutcome) {
        self.applied += other.applied;
        self.duplicates += other.duplicates;
        self.replayed += other.replayed;
        self.users_deleted += other.users_deleted;
        self.items_changed += other.items_changed;
    }
}

/// A transaction being gathered.
pub(super) struct Writer<'a> {
    inner: &'a Inner,
    /// Rows that decided something, where others may change them meanwhile.
    read: Option<BTreeMap<(Table, Bytes), Option<Bytes>>>,
    users: HashMap<String, Pending>,
    items: BTreeMap<String, ItemState>,
    /// Items whose vectors change, or whose title does while they have some; none where they go.
    contents: BTreeMap<String, Option<Stored>>,
    /// Source, and for each of its partitions the position that this transaction reaches.
    reached: Option<(String, BTreeMap<u32, Option<u64>>)>,
    done: BatchOutcome,
}

impl Inner {
    /// Runs a transaction: `gather` reads and decides, and what it decided is committed. It runs again if what it
    /// read was changed by another process in between.
    pub(super) fn transact<T>(
        &self,
        gather: impl Fn(&mut Writer<'_>) -> Result<T, StoreError>,
    ) -> Result<(T, BatchOutcome), StoreError> {
        self.check_writing()?;
        let alone = self.tables.alone();
        for attempt in 0..ATTEMPTS {
            // Others get on while this one waits a little longer each time.
            std::thread::sleep(Duration::from_millis(u64::from(attempt.saturating_sub(3))));
            let mut writer = Writer {
                inner: self,
                read: alone.is_none().then(BTreeMap::new),
                users: HashMap::new(),
                items: BTreeMap::new(),
                contents: BTreeMap::new(),
                reached: None,
                done: BatchOutcome::default(),
            };
            let given = match gather(&mut writer) {
                // What looks like damage may be rows that went while they were read.
                Err(_) if writer.outdated()? => continue,
                gathered => gathered?,
            };
            let done = writer.done;
            if self.tables.commit(writer.commit()?)? {
                return Ok((given, done));
            }
        }
        Err(self.busy("a write"))
    }
}

impl Writer<'_> {
    /// Whether a row that was read is another one by now.
    fn outdated(&self) -> Result<bool, StoreError> {
        for ((table, key), value) in self.read.iter().flatten() {
            if self.inner.tables.get(*table, key)? != *value {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A row that the transaction depends on.
    fn get(&mut self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let value = self.inner.tables.get(table, key)?;
        if let Some(read) = &mut self.read {
            // The first reading counts: it may already have decided something.
            read.entry((table, key.into())).or_insert_with(|| value.clone());
        }
        Ok(value)
    }

    /// A user inside this transaction.
    fn user(&mut self, user: &str) -> Result<&mut Pending, StoreError> {
        if !self.users.contains_key(user) {
            let bytes = self.get(Table::Heads, user.as_bytes())?;
            let head = bytes.map(|bytes| self.inner.decode_head(user, &bytes)).transpose()?;
            self.users.insert(user.to_owned(), Pending::of(head));
        }
        Ok(self.users.get_mut(user).expect("it was just put there"))
    }

    /// Reads users, in order of key: neighbours share blocks of the
    /// database and lines of the cache.
    pub(super) fn read_users<'e>(&mut self, users: impl Iterator<Item = &'e str>) -> Result<(), StoreError> {
        let mut users: Vec<&str> = users.collect();
        users.sort_unstable();
        users.dedup();
        let keys: Vec<&[u8]> = users.iter().map(|user| user.as_bytes()).collect();
        let heads = self.inner.tables.get_many(Table::Heads, &keys)?;
        self.users.reserve(users.len());
        for (user, bytes) in users.into_iter().zip(heads) {
            let head = bytes.as_ref().map(|bytes| self.inner.decode_head(user, bytes)).transpose()?;
            self.users.insert(user.to_owned(), Pending::of(head));
            if let Some(read) = &mut self.read {
                read.insert((Table::Heads, user.into()), bytes);
            }
        }
        Ok(())
    }

    /// Takes in records of one source; those at or before its position are skipped. The position of a partition must
    /// not be before the one `known`.
    pub(super) fn source(
        &mut self,
        source: &str,
        records: &[SourceRecord],
        known: &BTreeMap<u32, u64>,
    ) -> Result<(), StoreError> {
        self.read_users(records.iter().flat_map(|record| &record.events).filter_map(StreamEvent::user))?;
        let mut reached: BTreeMap<u32, Option<u64>> = BTreeMap::new();
        for record in records {
            let position = match reached.get(&record.partition) {
                Some(position) => *position,
                None => {
                    let bytes = self.get(Table::Positions, &positions::key(source, record.partition))?;
                    let stored = bytes.map(|bytes| self.inner.offset(source, &bytes)).transpose()?;
                    self.check_not_behind(source, record.partition, stored, known)?;
                    stored
                }
            };
            if position.is_some_and(|position| record.offset <= position) {
                self.done.replayed += 1;
                reached.insert(record.partition, position);
                continue;
            }
            reached.insert(record.partition, Some(record.offset));
            self.record(record)?;
        }
        self.reached = Some((source.to_owned(), reached));
        Ok(())
    }

    /// Takes in the events of one record. Those of a user with one id are parts of one message, such as the products of
    /// an order: what becomes of the first becomes of all, however many there are.
    fn record(&mut self, record: &SourceRecord) -> Result<(), StoreError> {
        let place = Some((record.partition, record.offset));
        let mut seen: HashMap<(&str, &str), bool> = HashMap::new();
        for event in &record.events {
            let StreamEvent::Interaction(part) = event else {
                self.event(event, place)?;
                continue;
            };
            let Some(id) = &part.event_id else {
                self.interaction(part, place, true)?;
                continue;
            };
            match seen.get(&(part.user_id.as_str(), id.as_str())) {
                Some(true) => {
                    self.interaction(part, place, false)?;
                }
                Some(false) => self.done.duplicates += 1,
                None => {
                    let new = self.interaction(part, place, true)?;
                    seen.insert((&part.user_id, id), new);
                }
            }
        }
        Ok(())
    }

    fn check_not_behind(
        &self,
        source: &str,
        partition: u32,
        stored: Option<u64>,
        known: &BTreeMap<u32, u64>,
    ) -> Result<(), StoreError> {
        match known.get(&partition) {
            Some(&offset) if stored < Some(offset) => Err(StoreError::Behind {
                store: self.inner.tables.place().display().to_string(),
                stream: source.to_owned(),
                partition,
                offset,
                stored,
            }),
            _ => Ok(()),
        }
    }

    /// Takes in an event, with where it came from if its source has offsets.
    pub(super) fn event(&mut self, event: &StreamEvent, place: Option<(u32, u64)>) -> Result<(), StoreError> {
        match event {
            StreamEvent::Interaction(event) => self.interaction(event, place, true).map(drop),
            StreamEvent::UserDelete { user_id, .. } => {
                let found = self.delete_user(user_id)?;
                self.done.users_deleted += usize::from(found);
                Ok(())
            }
            _ => self.item(event),
        }
    }

    /// Takes in an interaction, with where it came from if its source has offsets; false if its id was seen. `by_id` is
    /// whether that is asked for.
    pub(super) fn interaction(
        &mut self,
        event: &Event,
        place: Option<(u32, u64)>,
        by_id: bool,
    ) -> Result<bool, StoreError> {
        let inner = self.inner;
        let pending = self.user(&event.user_id)?;
        let number = if pending.head.is_none() { inner.tables.take(Series::Created, 1)? } else { 0 };
        let new = pending.add(inner, event, place, number, by_id)?;
        self.done.applied += usize::from(new);
        self.done.duplicates += usize::from(!new);
        Ok(new)
    }

    /// Forgets a user; true if there was something to forget.
    pub(super) fn delete_user(&mut self, user: &str) -> Result<bool, StoreError> {
        Ok(self.user(user)?.forget())
    }

    /// What was said about an item before this transaction.
    pub(super) fn stored_item(&mut self, item: &str) -> Result<Option<ItemState>, StoreError> {
        let bytes = self.get(Table::Items, item.as_bytes())?;
        bytes.map(|bytes| self.inner.decode_item(item, &bytes)).transpose()
    }

    /// Whether an item had vectors before this transaction.
    pub(super) fn has_content(&mut self, item: &str) -> Result<bool, StoreError> {
        Ok(self.get(Table::Added, item.as_bytes())?.is_some())
    }

    fn item(&mut self, event: &StreamEvent) -> Result<(), StoreError> {
        let mut state = match self.items.remove(event.key()) {
            Some(state) => state,
            None => self.stored_item(event.key())?.unwrap_or_default(),
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
            None => {
                let bytes = self.get(Table::Contents, item.as_bytes())?;
                bytes.map(|bytes| self.inner.decode_content(item, &bytes)).transpose()?
            }
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

    /// Everything that changes.
    fn commit(mut self) -> Result<Commit, StoreError> {
        let items_changed = !self.items.is_empty() || !self.contents.is_empty();
        let mut commit = Commit { items_changed, ..Commit::default() };
        let source = self.reached.as_ref().map_or("", |(source, _)| source.as_str());
        let users = std::mem::take(&mut self.users);
        let mut users: Vec<(String, Pending)> = users.into_iter().filter(|(_, pending)| pending.touched()).collect();
        users.sort_unstable_by(|(one, _), (other, _)| one.cmp(other));
        for (user, pending) in users {
            commit.users_more += i64::from(pending.head.is_some()) - i64::from(pending.stored);
            put_user(self.inner, &mut commit, &user, pending, source);
        }
        for (partition, position) in self.reached.iter().flat_map(|(_, partitions)| partitions) {
            if let Some(position) = position {
                commit.put(Table::Positions, positions::key(source, *partition), position.to_be_bytes());
            }
        }
        for (item, state) in std::mem::take(&mut self.items) {
            commit.put(Table::Items, item.as_str(), encode_item(&state));
        }
        self.put_contents(&mut commit)?;
        commit.read.extend(self.read.into_iter().flatten().map(|((table, key), value)| (table, key, value)));
        Ok(commit)
    }

    /// Numbers the changes of items with vectors, in order of key.
    fn put_contents(&mut self, commit: &mut Commit) -> Result<(), StoreError> {
        let changes = std::mem::take(&mut self.contents);
        let stay = changes.values().flatten().count() as u64;
        let mut number = if stay == 0 { 0 } else { self.inner.tables.take(Series::ContentChanges, stay)? };
        for (item, change) in changes {
            let Some(stored) = change else {
                commit.remove(Table::Added, item.as_str());
                commit.remove(Table::Contents, item.as_str());
                continue;
            };
            number += 1;
            let before = self.get(Table::Added, item.as_bytes())?;
            let before = before.map(|bytes| self.inner.change_numbers(&item, &bytes)).transpose()?;
            let first = before.map_or(number, |(first, _)| first);
            commit.put(Table::Added, item.as_str(), contents::numbers(first, number));
            commit.put(Table::Contents, item.as_str(), stored.encode());
        }
        Ok(())
    }
}

fn put_user(inner: &Inner, commit: &mut Commit, user: &str, mut pending: Pending, source: &str) {
    pending.settle(inner.max_history);
    for (number, block) in &pending.blocks {
        match block {
            Some(entries) => commit.put(Table::Blocks, block_key(user, *number), encode_block(entries)),
            None => commit.remove(Table::Blocks, block_key(user, *number)),
        }
    }
    match &mut pending.head {
        Some(head) => {
            if let Some((partition, offset)) = pending.place {
                head.applied = Some(Origin { source: source.to_owned(), partition, offset });
            }
            commit.put(Table::Heads, user, head.encode());
        }
        None if pending.stored => commit.remove(Table::Heads, user),
        None => (),
    }
}

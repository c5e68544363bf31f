//! User state as the service sees it: the store, and what was computed from it.
//!
//! A known user costs no model step: the user vector is kept under (user, revision of the history, load of
//! a Bundle), with the hidden state behind it. After an event it takes one step to the next vector, whatever
//! the length of the history; only the newest entries are read for that. Nesting makes one entry serve every
//! dim up to its own: a smaller dim is a prefix of it (law 1). The revision is read at every request: so it
//! does not matter who wrote, a route of this service or a stream consumer beside it. After a swap of the
//! Bundle a user's state is folded from the history on first use.
//!
//! `kept.rs` says which items the model reads. Limits: the cache is bounded in bytes.

use crate::kept::{Kept, Window};
use crate::problem::Problem;
use crate::view::View;
use feature_store::{Applied, Event, NewestEntries, Revision, StoreError, UserStateStore};
use fmrlrec::{Cut, UserState};
use quick_cache::{Equivalent, Weighter, sync::Cache};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Version of a history: a hash of its revision, or of its keys if it came with a request. Always keyed
/// alike, so that a cursor outlives a restart; who makes two histories collide spoils an answer of his own.
fn version_of(history: &impl Hash) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(history)
}

/// Bytes of an entry beside its vectors and lists, about: keys, pointers, the cache's own links.
const ENTRY_BYTES: usize = 256;

/// What is known of a user at one revision of the history.
#[derive(Clone)]
pub(crate) struct UserEntry {
    /// Tells histories apart: what a page's cursor names.
    pub(crate) version: u64,
    /// None for a user without a history, and for a history that came with a request.
    revision: Option<Revision>,
    kept: Kept,
    /// Added items of the history, with the marks that their ids had ([`crate::added::Added::mark`]).
    added: Box<[(u32, u64)]>,
    /// How much of it the model reads.
    window: Window,
    /// Vector and hidden state at the largest dim computed so far.
    state: UserState,
    /// Place of the first item that the state holds, among all entries that ever came.
    start: u64,
    /// Items that the model read to make the state, from that place on.
    pub(crate) history_len: usize,
}

/// Where an entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Made {
    /// It was there.
    Kept,
    /// One step for each new item, from the one that was there.
    Advanced,
    /// Folded from the history.
    Folded,
}

/// An entry, where it came from, and what that cost.
pub(crate) struct Found {
    pub(crate) entry: Arc<UserEntry>,
    pub(crate) made: Made,
    /// Items that the model read for it now.
    pub(crate) model_items: usize,
}

impl UserEntry {
    /// The user vector at `dim`, which the entry was asked for.
    pub(crate) fn vector(&self, dim: usize) -> &[f32] {
        &self.state.vector()[..dim]
    }

    /// Ids of the history, ascending.
    pub(crate) fn seen(&self) -> &[u32] {
        self.kept.seen()
    }

    /// Keys that the Bundle does not know, each once.
    pub(crate) fn unknown(&self) -> Vec<String> {
        self.kept.unknown()
    }

    /// Ids that the model reads, oldest first.
    pub(crate) fn read_ids(&self) -> Vec<u32> {
        self.kept.window(self.window)
    }

    fn fold(
        view: &View,
        (dim, cut): (usize, &Cut),
        revision: Option<Revision>,
        kept: Kept,
        window: Window,
    ) -> Result<UserEntry, Problem> {
        let read = kept.window(window);
        let state = view.fold(&read, dim, cut)?;
        let (version, added, history_len) = (version_of(&revision), marks(&kept, view), read.len());
        let start = kept.window_start(window);
        Ok(UserEntry { version, revision, kept, added, window, state, start, history_len })
    }

    /// Whether it would come out the same among the items of a view: what it used of the added ones is as
    /// it was, and what it did not know has not come since.
    fn holds_in(&self, view: &View) -> bool {
        self.added.iter().all(|&(id, mark)| view.added().mark(id) == Some(mark))
            && (view.added().len() == 0 || self.kept.unknown_keys().all(|key| view.added().id(key).is_none()))
    }

    /// The entry after the store's newer entries, and how many items the model read; none if they do not
    /// follow on this one.
    fn advanced(
        &self,
        view: &View,
        newest: &NewestEntries,
        most: usize,
    ) -> Result<Option<(UserEntry, usize)>, Problem> {
        let Some(revision) = self.revision else { return Ok(None) };
        // A store on a server may come back without its last events, and then get others.
        let Some(new) = newest.revision.events.checked_sub(revision.events) else { return Ok(None) };
        let Some(before) = newest.entries.len().checked_sub(new as usize) else { return Ok(None) };
        let (before, new) = newest.entries.split_at(before);
        let same = self.kept.ends_with(|key| view.id(key), before.iter().map(|entry| entry.item_id.as_str()));
        if revision.created != newest.revision.created || revision.events < newest.reordered_at || !same {
            return Ok(None);
        }
        let mut entry = self.clone();
        entry.revision = Some(newest.revision);
        entry.version = version_of(&entry.revision);
        let mut known = Vec::with_capacity(new.len());
        for added in new {
            known.extend(entry.kept.push(|key| view.id(key), &added.item_id, most));
        }
        // The window moved: its state is another one.
        if entry.kept.window_start(self.window) != entry.start {
            let made_by = (self.state.dim(), self.state.cut());
            let folded = UserEntry::fold(view, made_by, entry.revision, entry.kept, self.window)?;
            let read = folded.history_len;
            return Ok(Some((folded, read)));
        }
        for id in &known {
            entry.state = view.advance(&entry.state, *id)?;
        }
        entry.history_len += known.len();
        entry.added = marks(&entry.kept, view);
        Ok(Some((entry, known.len())))
    }

    fn bytes(&self) -> usize {
        size_of::<UserEntry>() + self.state.bytes() + self.kept.bytes() + size_of_val(&*self.added)
    }
}

/// The added items among the known ones.
fn marks(kept: &Kept, view: &View) -> Box<[(u32, u64)]> {
    kept.seen().iter().filter_map(|&id| Some((id, view.added().mark(id)?))).collect()
}

/// A user under one load of a Bundle: entries of the next one can be made before it is served.
#[derive(Clone, PartialEq, Eq)]
struct UserKey {
    generation: u64,
    cut: Cut,
    user: Box<str>,
}

/// A [`UserKey`] to look up without copying the user's key.
struct UserRef<'a> {
    generation: u64,
    cut: &'a Cut,
    user: &'a str,
}

/// By the user alone: all entries of one are in the same part of the cache, so that [`UserStates::take_over`] makes room
/// where it needs it.
impl Hash for UserKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.user.hash(state);
    }
}

impl Hash for UserRef<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.user.hash(state);
    }
}

impl Equivalent<UserKey> for UserRef<'_> {
    fn equivalent(&self, key: &UserKey) -> bool {
        self.generation == key.generation && *self.cut == key.cut && self.user == &*key.user
    }
}

#[derive(Clone)]
struct InBytes;

impl Weighter<UserKey, Arc<UserEntry>> for InBytes {
    fn weight(&self, key: &UserKey, entry: &Arc<UserEntry>) -> u64 {
        (ENTRY_BYTES + key.user.len() + entry.bytes()) as u64
    }
}

/// The store and the cache over it.
pub(crate) struct UserStates {
    store: UserStateStore,
    cache: Cache<UserKey, Arc<UserEntry>, InBytes>,
    /// Whether the store refused the last events, for a reason of its own.
    writes_fail: AtomicBool,
}

impl UserStates {
    /// A cache of at most `cache_bytes`, about.
    pub(crate) fn new(store: UserStateStore, cache_bytes: usize) -> UserStates {
        let entries = cache_bytes / (8 * ENTRY_BYTES) + 1;
        let cache = Cache::with_weighter(entries, cache_bytes as u64, InBytes);
        UserStates { store, cache, writes_fail: AtomicBool::new(false) }
    }

    /// Makes events durable.
    pub(crate) fn append(&self, events: &[Event]) -> Result<Applied, StoreError> {
        let done = self.store.append(events);
        // What is wrong with an event says nothing of the store.
        if !matches!(done, Err(StoreError::Invalid { .. })) {
            self.writes_fail.store(done.is_err(), Ordering::Release);
        }
        done
    }

    /// Whether the last events could not be stored.
    pub(crate) fn writes_fail(&self) -> bool {
        self.writes_fail.load(Ordering::Acquire)
    }

    /// The store itself.
    pub(crate) fn store(&self) -> &UserStateStore {
        &self.store
    }

    /// Users with state.
    pub(crate) fn users(&self) -> Result<u64, StoreError> {
        self.store.users()
    }

    /// Item keys of a user's history, oldest first.
    pub(crate) fn history_keys(&self, user: &str) -> Result<Vec<String>, StoreError> {
        Ok(self.store.history(user)?.into_iter().map(|entry| entry.item_id).collect())
    }

    /// The user's entry with a vector of at least `dim`, through a cut of the model.
    pub(crate) fn entry(&self, view: &View, user: &str, dim: usize, cut: &Cut) -> Result<Found, Problem> {
        let newest = self.store.newest(user)?;
        let revision = newest.as_ref().map(|newest| newest.revision);
        let generation = view.generation;
        let kept = self.cache.get(&UserRef { generation, cut, user });
        if let Some(entry) = kept.filter(|entry| entry.state.dim() >= dim && entry.holds_in(view)) {
            if entry.revision == revision {
                return Ok(Found { entry, made: Made::Kept, model_items: 0 });
            }
            if let Some(newest) = &newest
                && let Some((entry, model_items)) = entry.advanced(view, newest, self.store.max_history())?
            {
                return Ok(self.keep(view, user, entry, Made::Advanced, model_items));
            }
        }
        let record = self.store.user(user)?;
        let (history, revision) = record.map_or((Vec::new(), None), |it| (it.history, Some(it.revision)));
        let keys = history.iter().map(|entry| entry.item_id.as_str());
        let kept = Kept::of(|key| view.id(key), keys, revision.map_or(0, |revision| revision.events));
        let entry = UserEntry::fold(view, (dim, cut), revision, kept, self.window(view))?;
        // The start token is an item too.
        let model_items = entry.history_len.max(1);
        Ok(self.keep(view, user, entry, Made::Folded, model_items))
    }

    /// An entry of a history that came with a request, all of it, oldest first. Runs the model.
    pub(crate) fn inline(&self, view: &View, dim: usize, cut: &Cut, keys: &[String]) -> Result<UserEntry, Problem> {
        let kept = Kept::of(|key| view.id(key), keys.iter().map(String::as_str), keys.len() as u64);
        let entry = UserEntry::fold(view, (dim, cut), None, kept, self.window(view))?;
        Ok(UserEntry { version: version_of(&keys), ..entry })
    }

    fn window(&self, view: &View) -> Window {
        Window::new(view.bundle.max_history(), self.store.max_history())
    }

    fn keep(&self, view: &View, user: &str, entry: UserEntry, made: Made, model_items: usize) -> Found {
        let entry = Arc::new(entry);
        self.cache.insert(
            UserKey { generation: view.generation, cut: entry.state.cut().clone(), user: user.into() },
            Arc::clone(&entry),
        );
        Found { entry, made, model_items }
    }

    /// After a switch from `before` to `now`: computes an entry of `now` for each user that has one of `before`,
    /// until `deadline`, and gives their number. So a swap does not turn every known user into a model step at once.
    /// An old entry goes before the new one comes: in a full cache the new ones would push out each other.
    pub(crate) fn take_over(&self, before: &View, now: &View, deadline: Instant) -> Result<usize, Problem> {
        let mut made = 0;
        for (key, entry) in self.cache.iter().filter(|(key, _)| key.generation == before.generation) {
            if Instant::now() >= deadline {
                break;
            }
            self.cache.remove(&key);
            let dims = now.dims();
            let at = dims.partition_point(|&dim| dim < entry.state.dim()).min(dims.len() - 1);
            let cut = if key.cut == before.whole { &now.whole } else { &key.cut };
            // A cut of another model: whoever asks for it is no tier's any more.
            if now.shape.has(cut) {
                self.entry(now, &key.user, dims[at], cut)?;
                made += 1;
            }
        }
        Ok(made)
    }

    /// Users and bytes in the cache.
    pub(crate) fn cached(&self) -> (usize, u64) {
        (self.cache.len(), self.cache.weight())
    }
}

//! User state as the service sees it: the store, and what was computed from it.
//!
//! A known user costs no model step: the user vector is kept under (user, version of the history, load
//! of a Bundle). Nesting makes one entry serve every dim up to its length: a smaller dim is a prefix of
//! it (law 1). The version is a hash of the history, which is read at every request: so it does not
//! matter who wrote it, a route of this service or a stream consumer beside it.
//!
//! Limits: the cache is bounded in bytes.

use crate::clock::Clock;
use crate::hidden::HiddenItems;
use crate::lookup::{Resolved, resolve};
use crate::problem::Problem;
use crate::view::View;
use feature_store::{Applied, Event, StoreError, UserStateStore};
use quick_cache::{Equivalent, Weighter, sync::Cache};
use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Instant;

/// Version of a history: a hash of its keys. Always keyed alike, so that a cursor outlives a restart; who
/// makes two histories collide spoils an answer of his own.
pub(crate) fn version_of<K: AsRef<str>>(keys: &[K]) -> u64 {
    let keys: Vec<&str> = keys.iter().map(AsRef::as_ref).collect();
    BuildHasherDefault::<DefaultHasher>::default().hash_one(keys)
}

/// Bytes of an entry beside its vectors and lists, about: keys, pointers, the cache's own links.
const ENTRY_BYTES: usize = 256;

/// What is known of a user at one version of the history.
pub(crate) struct UserEntry {
    pub(crate) version: u64,
    /// The user vector at the largest dim computed so far.
    vector: Box<[f32]>,
    /// Ids of the history, ascending, each once.
    pub(crate) seen: Box<[u32]>,
    /// Added items of the history, with the marks that their ids had ([`crate::added::Added::mark`]).
    added: Box<[(u32, u64)]>,
    /// Keys that the Bundle does not know, each once.
    pub(crate) unknown: Box<[String]>,
    /// Items that the model read.
    pub(crate) history_len: usize,
}

impl UserEntry {
    /// The user vector at `dim`, which the entry was asked for.
    pub(crate) fn vector(&self, dim: usize) -> &[f32] {
        &self.vector[..dim]
    }

    /// A vector from a history's ids in order. Runs the model.
    pub(crate) fn compute(view: &View, dim: usize, version: u64, resolved: Resolved) -> Result<UserEntry, Problem> {
        let Resolved { ids, unknown } = resolved;
        let read = &ids[ids.len().saturating_sub(view.bundle.max_history())..];
        let vector = view.user_vector(read, dim)?.into_boxed_slice();
        let history_len = read.len();
        let mut seen = ids;
        seen.sort_unstable();
        seen.dedup();
        let added = seen.iter().filter_map(|&id| Some((id, view.added().mark(id)?)));
        Ok(UserEntry {
            version,
            vector,
            added: added.collect(),
            seen: seen.into_boxed_slice(),
            unknown: unknown.into_boxed_slice(),
            history_len,
        })
    }

    /// Whether it would come out the same among the items of a view: what it used of the added ones is as
    /// it was, and what it did not know has not come since.
    fn holds_in(&self, view: &View) -> bool {
        self.added.iter().all(|&(id, mark)| view.added().mark(id) == Some(mark))
            && (view.added().len() == 0 || self.unknown.iter().all(|key| view.added().id(key).is_none()))
    }

    fn bytes(&self) -> usize {
        let keys: usize = self.unknown.iter().map(|key| key.len() + size_of::<String>()).sum();
        size_of::<UserEntry>() + self.vector.len() * 4 + self.seen.len() * 4 + self.added.len() * 16 + keys
    }
}

/// A user under one load of a Bundle: entries of the next one can be made before it is served.
#[derive(Clone, PartialEq, Eq, Hash)]
struct UserKey {
    generation: u64,
    user: Box<str>,
}

/// A [`UserKey`] to look up without copying the user's key; it hashes alike.
#[derive(Hash)]
struct UserRef<'a> {
    generation: u64,
    user: &'a str,
}

impl Equivalent<UserKey> for UserRef<'_> {
    fn equivalent(&self, key: &UserKey) -> bool {
        self.generation == key.generation && self.user == &*key.user
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
    hidden: HiddenItems,
}

impl UserStates {
    /// A cache of at most `cache_bytes`, about.
    pub(crate) fn new(store: UserStateStore, cache_bytes: usize, clock: Clock) -> UserStates {
        let entries = cache_bytes / (8 * ENTRY_BYTES) + 1;
        UserStates {
            store,
            cache: Cache::with_weighter(entries, cache_bytes as u64, InBytes),
            hidden: HiddenItems::new(clock),
        }
    }

    /// Makes events durable.
    pub(crate) fn append(&self, events: &[Event]) -> Result<Applied, StoreError> {
        self.store.append(events)
    }

    /// Ids of items that must not be recommended now, ascending.
    pub(crate) fn hidden(&self, view: &View) -> Result<Arc<[u32]>, Problem> {
        self.hidden.ids(&self.store, view)
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

    /// The user's entry with a vector of at least `dim`, and whether it took no model step.
    pub(crate) fn entry(&self, view: &View, user: &str, dim: usize) -> Result<(Arc<UserEntry>, bool), Problem> {
        let keys = self.history_keys(user)?;
        let version = version_of(&keys);
        let generation = view.generation;
        let kept = self.cache.get(&UserRef { generation, user });
        let kept = kept.filter(|entry| entry.version == version && entry.vector.len() >= dim && entry.holds_in(view));
        if let Some(entry) = kept {
            return Ok((entry, true));
        }
        let resolved = resolve(view, keys.iter().map(String::as_str));
        let entry = Arc::new(UserEntry::compute(view, dim, version, resolved)?);
        self.cache.insert(UserKey { generation, user: user.into() }, Arc::clone(&entry));
        Ok((entry, false))
    }

    /// Makes entries under `next` for users that have one under `now`, until `deadline`; gives their
    /// number. So a swap does not turn every known user into a model step at once.
    pub(crate) fn warm_up(&self, now: &View, next: &View, deadline: Instant) -> Result<usize, Problem> {
        let mut made = 0;
        for (key, entry) in self.cache.iter().filter(|(key, _)| key.generation == now.generation) {
            if Instant::now() >= deadline {
                break;
            }
            let dims = next.dims();
            let at = dims.partition_point(|&dim| dim < entry.vector.len()).min(dims.len() - 1);
            self.entry(next, &key.user, dims[at])?;
            made += 1;
        }
        Ok(made)
    }

    /// Users and bytes in the cache.
    pub(crate) fn cached(&self) -> (usize, u64) {
        (self.cache.len(), self.cache.weight())
    }
}

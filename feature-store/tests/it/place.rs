//! Where a store can be: what holds in one place must hold in the other.

use crate::redis_server::RedisServer;
use feature_store::{ItemState, StateLocation, UserStateStore};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs a test in a folder, and on a Redis server where there is one; it is given a maker of new places.
pub(crate) fn on_each(test: impl Fn(&dyn Fn() -> StateLocation)) {
    let (dir, made) = (tempfile::tempdir().unwrap(), AtomicUsize::new(0));
    let next = || made.fetch_add(1, Ordering::Relaxed);
    test(&|| dir.path().join(format!("deep/{}", next())).into());
    if let Some(server) = RedisServer::start(&[]) {
        test(&|| server.url(&next().to_string()).parse().unwrap());
    }
}

/// Keys of the items that must not be recommended at `now_ms`, in order.
pub(crate) fn hidden(store: &UserStateStore, now_ms: i64) -> Vec<String> {
    let mut hidden = Vec::new();
    let note = |item: &str, state: &ItemState| {
        if state.hidden_at(now_ms) {
            hidden.push(item.to_owned());
        }
    };
    store.for_each_item(note).unwrap();
    hidden
}

/// The store in a place.
pub(crate) fn open(place: &StateLocation, max_history: usize) -> UserStateStore {
    UserStateStore::open_at(place, max_history).unwrap()
}

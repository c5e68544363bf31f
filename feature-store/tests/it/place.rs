//! Where a store can be: what holds in one place must hold in the other.

use crate::redis_server::RedisServer;
use feature_store::{StateLocation, UserStateStore};
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

/// The store in a place.
pub(crate) fn open(place: &StateLocation, max_history: usize) -> UserStateStore {
    UserStateStore::open_at(place, max_history).unwrap()
}

//! What only a server is asked for: several processes at once, and a server that goes away.

use crate::place::{hidden, open};
use crate::redis_server::RedisServer;
use feature_store::{Event, SourceRecord, StateLocation, StoreError, StreamEvent, UserStateStore};
use std::collections::{BTreeMap, BTreeSet};

fn event(user: String, item: String, timestamp_ms: i64) -> Event {
    Event { user_id: user, item_id: item, timestamp_ms, event_id: None }
}

fn place(server: &RedisServer, name: &str) -> StateLocation {
    server.url(name).parse().unwrap()
}

/// Writers that read and write the same users all the time: every event counts, once.
#[test]
fn nothing_is_lost_between_processes_that_change_the_same_users() {
    const WRITERS: usize = 4;
    const USERS: usize = 3;
    const EVENTS: usize = 150;
    let Some(server) = RedisServer::start(&[]) else { return };
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            // A store of its own, as another process has: they share nothing but the server.
            let store = open(&place(&server, "busy"), 2000);
            scope.spawn(move || {
                for n in 0..EVENTS {
                    let item = format!("{writer}-{n}");
                    store.append(&[event(format!("u{}", n % USERS), item, n as i64)]).unwrap();
                }
            });
        }
    });
    let store = open(&place(&server, "busy"), 2000);
    let (mut created, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for user in 0..USERS {
        let user = store.user(&format!("u{user}")).unwrap().unwrap();
        assert_eq!(user.revision.events as usize, user.history.len());
        assert!(user.history.windows(2).all(|pair| pair[0].timestamp_ms <= pair[1].timestamp_ms));
        seen.extend(user.history.into_iter().map(|entry| entry.item_id));
        created.insert(user.revision.created);
    }
    assert_eq!(seen.len(), WRITERS * EVENTS);
    assert_eq!((created.len(), store.users().unwrap()), (USERS, USERS as u64), "each made once");
}

/// Two consumers that both believe to own a partition, as after a rebalance that one has not heard of.
#[test]
fn two_consumers_of_one_partition_apply_it_once() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let records: Vec<SourceRecord> = (0..400)
        .map(|offset| {
            let event = event(format!("u{}", offset % 7), offset.to_string(), offset as i64);
            SourceRecord { partition: 0, offset, events: vec![StreamEvent::Interaction(event)] }
        })
        .collect();
    std::thread::scope(|scope| {
        for size in [3, 5] {
            let (store, records) = (open(&place(&server, "twice"), 100), &records);
            scope.spawn(move || {
                for part in records.chunks(size) {
                    store.apply("s", part).unwrap();
                }
            });
        }
    });
    let alone = open(&place(&server, "once"), 100);
    alone.apply("s", &records).unwrap();
    let store = open(&place(&server, "twice"), 100);
    let all = |store: &UserStateStore| {
        let mut found = BTreeMap::new();
        let note = |user: &str, history| -> Result<(), StoreError> {
            found.insert(user.to_owned(), history);
            Ok(())
        };
        store.for_each_user(note).unwrap();
        found
    };
    assert_eq!(all(&store), all(&alone));
    assert_eq!(store.positions("s").unwrap(), BTreeMap::from([(0, 399)]));
}

/// A batch larger than a transaction on a server: a position that is behind stops it, and what was applied stays.
#[test]
fn a_large_batch_is_applied_in_parts_with_their_positions() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let store = open(&place(&server, "large"), 2000);
    let record = |partition, offset: u64| {
        let event = event(format!("u{}", offset % 3), offset.to_string(), offset as i64);
        SourceRecord { partition, offset, events: vec![StreamEvent::Interaction(event)] }
    };
    let records: Vec<SourceRecord> = (0..1500).map(|offset| record(0, offset)).collect();
    assert_eq!(store.apply("s", &records).unwrap().applied, 1500);
    assert_eq!(store.positions("s").unwrap(), BTreeMap::from([(0, 1499)]));
    assert_eq!(store.history("u0").unwrap().len(), 500);
    let more: Vec<SourceRecord> = (1500..2500).map(|offset| record(0, offset)).chain([record(1, 7)]).collect();
    let error = store.apply_after("s", &more, &BTreeMap::from([(0, 1499), (1, 6)])).unwrap_err();
    assert!(matches!(error, StoreError::Behind { partition: 1, offset: 6, stored: None, .. }), "{error}");
    assert_eq!(store.positions("s").unwrap(), BTreeMap::from([(0, 2011)]), "the first part is there, and no more");
    assert_eq!(store.history("u0").unwrap().len(), 671);
}

#[test]
fn what_one_process_hides_another_sees_soon() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let (one, other) = (open(&place(&server, "items"), 10), open(&place(&server, "items"), 10));
    let before = other.items_generation().unwrap();
    one.record(&[StreamEvent::ItemHide { item_id: "i".into(), timestamp_ms: 1 }]).unwrap();
    assert_eq!(hidden(&other, 5), ["i"], "a reader has no copy of its own");
    std::thread::sleep(std::time::Duration::from_millis(250));
    assert!(other.items_generation().unwrap() > before);
}

/// The server is killed and comes back: what was acknowledged is there, and the same store goes on.
#[test]
fn a_server_that_comes_back_has_everything_and_is_used_again() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let store = open(&place(&server, "state"), 10);
    assert_eq!(store.caution(), None, "an append-only file, synced at every write");
    store.append(&[event("u".into(), "a".into(), 1)]).unwrap();
    server.kill();
    let error = store.append(&[event("u".into(), "b".into(), 2)]).unwrap_err();
    assert!(matches!(&error, StoreError::Unreachable { .. }), "it may pass: {error}");
    assert!(error.to_string().contains(&server.address()), "{error}");
    assert!(matches!(UserStateStore::open_at(&place(&server, "state"), 10), Err(StoreError::Unreachable { .. })));
    server.restart();
    store.append(&[event("u".into(), "c".into(), 3)]).unwrap();
    let items: Vec<String> = store.history("u").unwrap().into_iter().map(|entry| entry.item_id).collect();
    assert_eq!(items, ["a", "c"]);
}

#[test]
fn stores_of_other_names_and_other_formats_are_left_alone() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let (one, other) = (open(&place(&server, "one"), 10), open(&place(&server, "other"), 10));
    one.append(&[event("u".into(), "a".into(), 1)]).unwrap();
    assert_eq!((one.users().unwrap(), other.users().unwrap()), (1, 0));
    let mut plain = redis::Client::open(format!("redis://{}", server.address())).unwrap().get_connection().unwrap();
    let meta = "{recommender:future}:meta";
    redis::cmd("HSET").arg(meta).arg("format").arg("recommender user state, format 3").exec(&mut plain).unwrap();
    let message = UserStateStore::open_at(&place(&server, "future"), 10).unwrap_err().to_string();
    assert!(message.contains("format 3") && message.contains("name=future"), "{message}");
    redis::cmd("HSET").arg("{recommender:one}:heads").arg("u").arg("rubbish").exec(&mut plain).unwrap();
    let message = one.history("u").unwrap_err().to_string();
    assert!(message.contains("the record of user \"u\" is unreadable"), "{message}");
}

#[test]
fn a_server_that_may_lose_rows_is_refused_or_spoken_of() {
    let check = |settings: &[&str], expect: Result<&str, &str>| {
        let Some(server) = RedisServer::start(settings) else { return };
        let store = UserStateStore::open_at(&place(&server, "state"), 10);
        match (&store, expect) {
            (Ok(store), Ok(part)) => {
                let caution = store.caution().unwrap();
                assert!(caution.contains(part), "{caution}");
            }
            (Err(error), Err(part)) => assert!(error.to_string().contains(part), "{error}"),
            _ => panic!("{store:?} for {settings:?}"),
        }
    };
    check(&["--appendfsync", "everysec"], Ok("appendfsync is everysec"));
    check(&["--appendonly", "no"], Ok("keeps no append-only file"));
    check(&["--maxmemory-policy", "allkeys-lru"], Err("maxmemory-policy allkeys-lru"));
    check(&["--requirepass", "secret"], Err("refused"));
}

#[test]
fn a_password_is_read_from_its_file() {
    let Some(server) = RedisServer::start(&["--requirepass", "secret"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("password"), "secret\n").unwrap();
    let within = |url: &str| url.parse::<StateLocation>().unwrap().within(dir.path());
    let url = format!("redis://{}?password_file=password", server.address());
    open(&within(&url), 10).append(&[event("u".into(), "a".into(), 1)]).unwrap();
    let message = UserStateStore::open_at(&within(&url.replace("=password", "=none")), 10).unwrap_err().to_string();
    assert!(message.contains("none"), "{message}");
    std::fs::write(dir.path().join("password"), "wrong").unwrap();
    let message = UserStateStore::open_at(&within(&url), 10).unwrap_err().to_string();
    assert!(message.contains(&server.address()) && !message.contains("secret"), "{message}");
}

//! Events from a source with offsets: replays change nothing, whatever is replayed and by whom.

use crate::place::{on_each, open};
use feature_store::{BatchOutcome, Event, HistoryEntry, Origin, SourceRecord, StreamEvent, UserStateStore};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::collections::BTreeMap;

fn interaction(user: &str, item: &str, timestamp_ms: i64) -> StreamEvent {
    StreamEvent::Interaction(Event { user_id: user.into(), item_id: item.into(), timestamp_ms, event_id: None })
}

fn record(partition: u32, offset: u64, event: StreamEvent) -> SourceRecord {
    SourceRecord { partition, offset, events: vec![event] }
}

fn all(store: &UserStateStore) -> BTreeMap<String, Vec<HistoryEntry>> {
    let mut users = BTreeMap::new();
    store
        .for_each_user::<feature_store::StoreError>(|user, history| {
            users.insert(user.to_owned(), history);
            Ok(())
        })
        .unwrap();
    assert_eq!(users.len() as u64, store.users().unwrap(), "the counter of users");
    users
}

#[test]
fn the_second_time_changes_nothing_even_after_a_deletion() {
    on_each(|fresh| {
        let store = open(&fresh(), 10);
        let batch = [
            record(3, 0, interaction("ada", "x", 5)),
            record(3, 1, interaction("bo", "x", 6)),
            record(3, 2, StreamEvent::UserDelete { user_id: "ada".into(), timestamp_ms: 7 }),
            SourceRecord { partition: 3, offset: 5, events: vec![] },
        ];
        let done = store.apply("events", &batch).unwrap();
        assert_eq!(done, BatchOutcome { applied: 2, users_deleted: 1, ..BatchOutcome::default() });
        let before = all(&store);
        assert_eq!(before.keys().collect::<Vec<_>>(), ["bo"]);
        let done = store.apply("events", &batch).unwrap();
        assert_eq!(done, BatchOutcome { replayed: 4, ..BatchOutcome::default() });
        assert_eq!(all(&store), before);
        assert_eq!(store.positions("events").unwrap(), BTreeMap::from([(3, 5)]));
        assert!(store.positions("event").unwrap().is_empty() && store.positions("events2").unwrap().is_empty());
        let bo = store.user("bo").unwrap().unwrap();
        assert_eq!(bo.applied, Some(Origin { source: "events".into(), partition: 3, offset: 1 }));
        // The same offsets of another source are other events.
        assert_eq!(store.apply("other", &batch[1..2]).unwrap().applied, 1);
        assert_eq!(store.history("bo").unwrap().len(), 2);
    });
}

/// An order of more products than ids are remembered, sent again: its one id is known.
#[test]
fn a_message_of_many_events_counts_once_by_its_one_id() {
    on_each(|fresh| {
        let store = open(&fresh(), 1000);
        let order = |offset: u64, id: &str| {
            let event = |item: usize| Event {
                user_id: "u".into(),
                item_id: item.to_string(),
                timestamp_ms: 5,
                event_id: Some(id.to_owned()),
            };
            SourceRecord { partition: 0, offset, events: (0..100).map(|item| event(item).into()).collect() }
        };
        let check = |offset: u64, id: &str, applied: usize, duplicates: usize| {
            let done = store.apply("s", &[order(offset, id)]).unwrap();
            assert_eq!(done, BatchOutcome { applied, duplicates, ..BatchOutcome::default() }, "offset {offset}");
        };
        check(0, "order 1", 100, 0);
        check(1, "order 1", 0, 100);
        check(2, "order 2", 100, 0);
        check(3, "order 1", 0, 100);
        assert_eq!(store.history("u").unwrap().len(), 200);
        // Two records with one id are two messages.
        let done = store.apply("s", &[order(4, "order 3"), order(5, "order 3")]).unwrap();
        assert_eq!((done.applied, done.duplicates), (100, 100));
    });
}

#[test]
fn a_bad_record_changes_nothing_and_moves_no_position() {
    on_each(|fresh| {
        let store = open(&fresh(), 10);
        let batch = [record(0, 0, interaction("ada", "x", 5)), record(0, 1, interaction("ada", "", 5))];
        assert!(store.apply("events", &batch).unwrap_err().to_string().contains("item_id"));
        assert!(all(&store).is_empty() && store.positions("events").unwrap().is_empty());
    });
}

#[test]
fn items_follow_the_latest_change_in_whatever_order_changes_arrive() {
    let upsert = |timestamp_ms, title: &str| StreamEvent::ItemUpsert {
        item_id: "i".into(),
        timestamp_ms,
        title: title.into(),
        text: None,
        content: None,
    };
    let hide = |timestamp_ms| StreamEvent::ItemHide { item_id: "i".into(), timestamp_ms };
    let expire =
        |timestamp_ms, expires_at_ms| StreamEvent::ItemExpire { item_id: "i".into(), timestamp_ms, expires_at_ms };
    on_each(|fresh| {
        let check = |changes: &[StreamEvent], now_ms: i64, hidden: bool, title: Option<&str>| {
            for order in [changes.to_vec(), changes.iter().rev().cloned().collect()] {
                let store = open(&fresh(), 10);
                let generation = store.items_generation().unwrap();
                for (offset, change) in (0..).zip(order) {
                    assert_eq!(store.apply("items", &[record(0, offset, change)]).unwrap().items_changed, 1);
                }
                assert!(store.items_generation().unwrap() > generation);
                let expect = if hidden { vec!["i"] } else { vec![] };
                assert_eq!(crate::place::hidden(&store, now_ms), expect, "{changes:?}");
                assert_eq!(store.item("i").unwrap().unwrap().title(), title, "{changes:?}");
            }
        };
        check(&[hide(5)], 0, true, None);
        check(&[upsert(1, "a"), hide(5)], 9, true, Some("a"));
        check(&[hide(5), upsert(6, "b")], 9, false, Some("b"));
        check(&[upsert(5, "a"), hide(5)], 9, true, Some("a"));
        check(&[upsert(1, "a"), upsert(2, "b")], 9, false, Some("b"));
        check(&[upsert(1, "a"), expire(2, 100)], 99, false, Some("a"));
        check(&[upsert(1, "a"), expire(2, 100)], 100, true, Some("a"));
        check(&[expire(2, 100), upsert(3, "a")], 100, false, Some("a"));
    });
}

#[test]
fn events_and_items_that_break_a_rule_are_named() {
    let check = |event: StreamEvent, field: &str| {
        let message = event.validate().unwrap_err().to_string();
        assert!(message.contains(field), "{message}");
    };
    check(StreamEvent::UserDelete { user_id: String::new(), timestamp_ms: 1 }, "user_id");
    check(StreamEvent::ItemHide { item_id: "i".into(), timestamp_ms: -1 }, "timestamp_ms");
    check(StreamEvent::ItemExpire { item_id: "i".into(), timestamp_ms: 1, expires_at_ms: -2 }, "expires_at_ms");
    let upsert = |title: String, text| StreamEvent::ItemUpsert {
        item_id: "i".into(),
        timestamp_ms: 1,
        title,
        text,
        content: None,
    };
    check(upsert("t".repeat(1025), None), "title");
    check(upsert("t".into(), Some("t".repeat(16 * 1024 + 1))), "text");
}

/// Consumers that crash, start over from anywhere, and overlap: in the end the state is that of
/// one quiet pass.
#[test]
fn any_replay_ends_in_the_state_of_one_pass() {
    on_each(|fresh| {
        let events = prop::collection::vec((0_u8..4, 0_i64..50, 0_u8..20), 1..120);
        let cuts = prop::collection::vec((0_usize..120, 1_usize..40), 1..12);
        let law = |(events, cuts): (Vec<Sketch>, Vec<(usize, usize)>)| {
            let records = records(&events);
            let (quiet, torn) = (open(&fresh(), 7), open(&fresh(), 7));
            quiet.apply("s", &records).unwrap();
            let mut end = 0;
            for (from, len) in cuts {
                // A consumer starts at or before the stored position, never after it.
                let from = from.min(end);
                let to = (from + len).min(records.len());
                torn.apply("s", &records[from..to]).unwrap();
                end = end.max(to);
            }
            torn.apply("s", &records[..]).unwrap();
            prop_assert_eq!(all(&torn), all(&quiet));
            prop_assert_eq!(torn.positions("s").unwrap(), quiet.positions("s").unwrap());
            Ok(())
        };
        TestRunner::new(ProptestConfig::with_cases(48)).run(&(events, cuts), law).unwrap();
    });
}

/// User, time and kind of an event.
type Sketch = (u8, i64, u8);

/// Interactions and deletions of a few users, each in one of two partitions.
fn records(events: &[Sketch]) -> Vec<SourceRecord> {
    let one = |((user, time, kind), offset): (&Sketch, u64)| {
        let name = format!("u{user}");
        let event = match kind {
            0 => StreamEvent::UserDelete { user_id: name, timestamp_ms: *time },
            _ => interaction(&name, &offset.to_string(), *time),
        };
        record(u32::from(user % 2), offset, event)
    };
    events.iter().zip(0..).map(one).collect()
}

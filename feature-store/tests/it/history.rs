//! Long histories: blocks, late events and deletions against the obvious implementation.

use crate::place::{on_each, open};
use feature_store::{Event, HistoryEntry};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn event(item: usize, timestamp_ms: i64) -> Event {
    Event { user_id: "u".into(), item_id: item.to_string(), timestamp_ms, event_id: None }
}

/// What the rules say, the slow way.
#[derive(Default)]
struct Plain(Vec<HistoryEntry>);

impl Plain {
    fn add(&mut self, event: &Event) {
        let at = self.0.partition_point(|entry| entry.timestamp_ms <= event.timestamp_ms);
        self.0.insert(at, HistoryEntry { item_id: event.item_id.clone(), timestamp_ms: event.timestamp_ms });
    }

    fn newest(&self, most: usize) -> &[HistoryEntry] {
        &self.0[self.0.len().saturating_sub(most)..]
    }
}

/// A walk in time: mostly forward, now and then far back.
fn steps() -> impl Strategy<Value = Vec<i64>> {
    let step = prop_oneof![12 => 0_i64..5, 1 => -8_i64..0, 1 => -600_i64..0];
    prop::collection::vec(step, 1..400)
}

#[test]
fn histories_are_those_of_the_obvious_implementation() {
    on_each(|fresh| {
        let input = (steps(), 1_usize..300, 1_usize..90, prop::option::of(0_usize..400));
        let law = |(steps, bound, call, deleted_at): (Vec<i64>, usize, usize, Option<usize>)| {
            let place = fresh();
            let store = open(&place, bound);
            let (mut plain, mut now_ms) = (Plain::default(), 10_000_i64);
            let mut at = |(item, step): (usize, &i64)| {
                now_ms = (now_ms + step).max(0);
                event(item, now_ms)
            };
            let events: Vec<Event> = steps.iter().enumerate().map(&mut at).collect();
            for (call, events) in events.chunks(call).enumerate() {
                if deleted_at == Some(call) {
                    prop_assert_eq!(store.delete("u").unwrap(), !plain.0.is_empty());
                    plain = Plain::default();
                }
                store.append(events).unwrap();
                events.iter().for_each(|event| plain.add(event));
                let found = store.history("u").unwrap();
                prop_assert_eq!(&found[..], plain.newest(bound));
            }
            drop(store);
            prop_assert_eq!(&open(&place, bound).history("u").unwrap()[..], plain.newest(bound));
            Ok(())
        };
        TestRunner::new(ProptestConfig::with_cases(48)).run(&input, law).unwrap();
    });
}

#[test]
fn a_history_of_ten_thousand_is_kept_whole_and_read_whole() {
    on_each(|fresh| {
        let store = open(&fresh(), 10_000);
        let events: Vec<Event> = (0..10_100).map(|item| event(item, item as i64)).collect();
        for part in events.chunks(1000) {
            store.append(part).unwrap();
        }
        let history = store.history("u").unwrap();
        assert_eq!((history.len(), history[0].item_id.as_str()), (10_000, "100"));
        assert!(history.windows(2).all(|pair| pair[0].timestamp_ms < pair[1].timestamp_ms));
        assert!(store.delete("u").unwrap());
        assert!(store.history("u").unwrap().is_empty() && store.users().unwrap() == 0);
    });
}

#[test]
fn a_revision_names_one_state_of_one_history() {
    on_each(|fresh| {
        let store = open(&fresh(), 50);
        let user = || store.user("u").unwrap().unwrap();
        store.append(&[event(1, 10)]).unwrap();
        let first = user();
        store.append(&[event(2, 20)]).unwrap();
        let second = user();
        assert_eq!(second.revision.events - first.revision.events, 1, "one step brings what was made of it up to date");
        assert_eq!((second.revision.created, second.reordered_at), (first.revision.created, 0));
        store.append(&[event(3, 5)]).unwrap();
        let third = user();
        assert_eq!(third.reordered_at, third.revision.events, "after a late event no step helps");
        store.delete("u").unwrap();
        store.append(&[event(1, 10)]).unwrap();
        assert_ne!(user().revision.created, first.revision.created, "another user of the same name is another");
    });
}

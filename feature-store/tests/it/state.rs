//! User state: order, bounds, duplicates, durability.

use crate::place::{on_each, open};
use feature_store::{Applied, Event, StateLocation, StoreError, UserStateStore};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

fn event(user: &str, item: &str, timestamp_ms: i64, id: Option<&str>) -> Event {
    Event { user_id: user.into(), item_id: item.into(), timestamp_ms, event_id: id.map(str::to_owned) }
}

fn items(store: &UserStateStore, user: &str) -> Vec<String> {
    store.history(user).unwrap().into_iter().map(|entry| entry.item_id).collect()
}

#[test]
fn histories_are_ordered_bounded_and_without_duplicates() {
    on_each(|fresh| {
        let store = open(&fresh(), 3);
        let events = [
            event("u", "b", 20, Some("1")),
            event("u", "a", 10, None),
            event("u", "b", 20, Some("1")),
            event("v", "z", 5, None),
        ];
        assert_eq!(store.append(&events).unwrap(), Applied { applied: 3, duplicates: 1 });
        assert_eq!(items(&store, "u"), ["a", "b"], "a late event takes its place in time");
        store.append(&[event("u", "c", 20, None), event("u", "d", 30, None)]).unwrap();
        assert_eq!(items(&store, "u"), ["b", "c", "d"], "ties keep arrival order and the oldest goes");
        assert_eq!(store.users().unwrap(), 2);
        assert!(store.delete("u").unwrap() && !store.delete("u").unwrap());
        assert!(items(&store, "u").is_empty() && items(&store, "nobody").is_empty());
    });
}

#[test]
fn a_bad_event_in_a_batch_changes_nothing() {
    on_each(|fresh| {
        let store = open(&fresh(), 3);
        assert!(store.append(&[event("u", "a", 1, None), event("u", "", 2, None)]).is_err());
        assert!(items(&store, "u").is_empty());
    });
}

#[test]
fn state_survives_reopening_and_a_second_opener_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/state");
    let store = UserStateStore::open(&path, 3).unwrap();
    store.append(&[event("u", "a", 1, None)]).unwrap();
    let message = UserStateStore::open(&path, 3).unwrap_err().to_string();
    assert!(message.contains("state"), "{message}");
    drop(store);
    assert_eq!(items(&UserStateStore::open(&path, 3).unwrap(), "u"), ["a"]);
}

#[test]
fn somebody_elses_folder_and_other_formats_are_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let check = |name: &str, file: &str, contents: &str, part: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::write(path.join(file), contents).unwrap();
        let message = UserStateStore::open(&path, 3).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains(part), "{message}");
        assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
    };
    check("docs", "letter.txt", "dear", "holds no format");
    check("future", "format", "recommender user state, format 3\n", "format 3");
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    UserStateStore::open(&empty, 3).unwrap().append(&[event("u", "a", 1, None)]).unwrap();
    assert_eq!(items(&UserStateStore::open(&empty, 3).unwrap(), "u"), ["a"]);
}

/// Both find nothing and make a store: one of them has it, and the other one's is never seen.
#[test]
fn of_two_that_make_one_store_at_once_one_has_it_and_keeps_it() {
    for round in 0..6 {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        if round % 2 == 1 {
            std::fs::create_dir(&path).unwrap();
        }
        let start = std::sync::Barrier::new(2);
        let make = |item: &str| -> Result<UserStateStore, StoreError> {
            start.wait();
            let store = UserStateStore::open(&path, 3)?;
            store.append(&[event("u", item, 1, None)])?;
            Ok(store)
        };
        let made = std::thread::scope(|scope| {
            let (one, other) = (scope.spawn(|| make("a")), scope.spawn(|| make("b")));
            (one.join().unwrap(), other.join().unwrap())
        });
        let (has, refused) = match &made {
            (Ok(_), Err(error)) => ("a", error.to_string()),
            (Err(error), Ok(_)) => ("b", error.to_string()),
            both => panic!("round {round}: {both:?}"),
        };
        assert!(refused.contains("is open in another process"), "{refused}");
        drop(made);
        assert_eq!(items(&UserStateStore::open(&path, 3).unwrap(), "u"), [has]);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }
}

#[test]
fn a_store_keeps_its_max_history_which_may_be_raised_and_not_lowered() {
    on_each(|fresh| {
        let place = fresh();
        open(&place, 3).append(&[event("u", "a", 1, None), event("u", "b", 2, None)]).unwrap();
        let refused = |asked: usize, kept: &str| {
            let message = UserStateStore::open_at(&place, asked).unwrap_err().to_string();
            assert!(message.contains(&format!("max_history: {asked} ")) && message.contains(kept), "{message}");
        };
        refused(2, "the 3 entries");
        assert_eq!(UserStateStore::open_as_kept(&place, 9).unwrap().max_history(), 3);
        assert_eq!(open(&place, 5).max_history(), 5);
        refused(4, "the 5 entries");
        // A reader may look at less, and changes nothing.
        let reader = UserStateStore::open_to_read(&place, 1).unwrap();
        assert_eq!(items(&reader, "u"), ["b"]);
        assert!(reader.delete("u").unwrap_err().to_string().contains("opened to be read"));
        drop(reader);
        assert_eq!(items(&open(&place, 5), "u"), ["a", "b"]);
    });
}

/// As one of an older version: a reader that finds nothing makes it, and notes no number.
#[test]
fn a_store_that_does_not_say_its_max_history_takes_the_first_that_is_given() {
    on_each(|fresh| {
        let check = |first: &dyn Fn(&StateLocation) -> UserStateStore, kept: usize| {
            let place = fresh();
            drop(UserStateStore::open_to_read(&place, 10_000).unwrap());
            assert_eq!(first(&place).max_history(), kept);
            assert!(UserStateStore::open_at(&place, kept - 1).is_err());
        };
        check(&|place| open(place, 4), 4);
        check(&|place| UserStateStore::open_as_kept(place, 7).unwrap(), 7);
    });
}

#[test]
fn rubbish_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rubbish");
    std::fs::write(&path, "not a database, but long enough to be looked at as one".repeat(100)).unwrap();
    assert!(UserStateStore::open(&path, 3).unwrap_err().to_string().contains("rubbish"));
    assert!(UserStateStore::open(&dir.path().join("x"), 0).unwrap_err().to_string().contains("max_history: 0"));
}

#[test]
fn however_events_are_cut_into_calls_the_history_is_the_newest_in_time_order() {
    on_each(|fresh| {
        let mut runner = TestRunner::new(ProptestConfig::with_cases(16));
        let input = (prop::collection::vec(0_i64..20, 1..30), 1_usize..6);
        let law = |(times, calls): (Vec<i64>, usize)| {
            let store = open(&fresh(), 8);
            let events: Vec<Event> =
                times.iter().enumerate().map(|(n, time)| event("u", &n.to_string(), *time, None)).collect();
            for part in events.chunks(events.len().div_ceil(calls)) {
                store.append(part).unwrap();
            }
            let found: Vec<i64> = store.history("u").unwrap().iter().map(|entry| entry.timestamp_ms).collect();
            let mut newest = times.clone();
            newest.sort_unstable();
            prop_assert_eq!(found, newest[newest.len().saturating_sub(8)..].to_vec());
            Ok(())
        };
        runner.run(&input, law).unwrap();
    });
}

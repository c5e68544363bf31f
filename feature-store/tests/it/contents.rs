//! Items with vectors: what a caller puts and removes, and what a stream brings, in whatever order.

use crate::place::{hidden, on_each, open};
use feature_store::{AttributeValue, ItemContent, NewItem, SourceRecord, StreamEvent, UserStateStore};
use std::collections::BTreeMap;

fn content(value: f32) -> ItemContent {
    let features = BTreeMap::from([("text".to_owned(), vec![value, -value]), ("image".to_owned(), vec![0.5])]);
    let attributes = BTreeMap::from([
        ("genre".to_owned(), AttributeValue::Texts(vec!["Drama".into(), "é".into()])),
        ("language".to_owned(), AttributeValue::Text("fr".into())),
        ("year".to_owned(), AttributeValue::Number(1994.0)),
    ]);
    ItemContent::new(features, attributes).unwrap()
}

fn item(key: &str, title: Option<&str>, value: f32) -> NewItem {
    NewItem { item_id: key.into(), title: title.map(str::to_owned), content: content(value) }
}

fn keys(store: &UserStateStore) -> Vec<String> {
    store.added_items().unwrap().into_iter().map(|item| item.item_id).collect()
}

#[test]
fn what_is_put_is_there_after_a_restart_in_the_order_it_came() {
    on_each(|fresh| {
        let place = fresh();
        let store = open(&place, 10);
        assert!(store.put_item(&item("b", Some("B"), 1.0), 5).unwrap());
        assert!(store.put_item(&item("a", None, 2.0), 5).unwrap());
        let before = store.items_generation().unwrap();
        assert!(!store.put_item(&item("b", None, 3.0), 5).unwrap(), "it was there");
        assert!(store.items_generation().unwrap() > before);
        drop(store);
        let store = open(&place, 10);
        assert_eq!(keys(&store), ["b", "a"]);
        let numbers: Vec<(u64, u64)> =
            store.added_items().unwrap().iter().map(|item| (item.first, item.changed)).collect();
        assert_eq!(numbers, [(1, 3), (2, 2)]);
        assert_eq!(store.item_content("b").unwrap(), Some(content(3.0)));
        assert_eq!(store.item("b").unwrap().unwrap().title(), Some("B"), "the title stays");
        assert_eq!(store.item("a").unwrap().unwrap().title(), Some("a"), "without one the key is it");
        assert_eq!(store.item_content("c").unwrap(), None);
    });
}

/// What a stream said of an item and a caller does not say stays: the next build reads it.
#[test]
fn a_put_keeps_the_title_and_the_text_of_a_stream() {
    on_each(|fresh| {
        let store = open(&fresh(), 10);
        let upsert = StreamEvent::ItemUpsert {
            item_id: "a".into(),
            timestamp_ms: 1_000,
            title: "A".into(),
            text: Some("a long text".into()),
            content: None,
        };
        store.record(&[upsert]).unwrap();
        store.put_item(&item("a", None, 1.0), 5).unwrap();
        store.put_item(&item("a", Some("B"), 2.0), 5).unwrap();
        let state = store.item("a").unwrap().unwrap();
        assert_eq!((state.title(), state.text()), (Some("B"), Some("a long text")));
    });
}

#[test]
fn a_callers_change_is_later_than_everything_before_it() {
    on_each(|fresh| {
        let store = open(&fresh(), 10);
        let hide = StreamEvent::ItemHide { item_id: "a".into(), timestamp_ms: 1_000 };
        store.record(&[hide]).unwrap();
        // The caller's clock is behind the producer's.
        store.put_item(&item("a", None, 1.0), 5).unwrap();
        assert!(hidden(&store, 2_000).is_empty());
        assert!(store.remove_item("a", 5).unwrap());
        assert_eq!((hidden(&store, 2_000), keys(&store)), (vec!["a".to_owned()], vec![]));
        assert!(!store.remove_item("a", 5).unwrap(), "nothing was left");
        assert!(store.put_item(&item("a", None, 1.0), 5).unwrap(), "it is new again");
        assert!(hidden(&store, 2_000).is_empty());
    });
}

#[test]
fn a_stream_brings_vectors_and_the_latest_stay() {
    on_each(|fresh| {
        let store = open(&fresh(), 10);
        let mut offset = 0;
        let mut apply = |timestamp_ms: i64, title: &str, value: Option<f32>| {
            offset += 1;
            let event = StreamEvent::ItemUpsert {
                item_id: "a".into(),
                timestamp_ms,
                title: title.into(),
                text: None,
                content: value.map(|value| Box::new(content(value))),
            };
            let record = SourceRecord { partition: 0, offset, events: vec![event] };
            store.apply("s", std::slice::from_ref(&record)).unwrap();
            assert_eq!(store.apply("s", &[record]).unwrap().replayed, 1);
            store.added_items().unwrap().first().map_or(0, |item| item.changed)
        };
        assert_eq!(apply(5, "no vectors", None), 0);
        assert_eq!(apply(10, "A", Some(1.0)), 1);
        assert_eq!(apply(8, "late", Some(2.0)), 2);
        assert_eq!(store.item_content("a").unwrap(), Some(content(1.0)), "an earlier one changes nothing");
        assert_eq!(apply(12, "new title", None), 3);
        assert_eq!(store.item_content("a").unwrap(), Some(content(1.0)), "one without vectors leaves them");
        assert_eq!(apply(13, "A", Some(4.0)), 4);
        assert_eq!(store.item_content("a").unwrap(), Some(content(4.0)));
    });
}

#[test]
fn what_breaks_a_limit_is_named() {
    let features = |name: &str, values: Vec<f32>| BTreeMap::from([(name.to_owned(), values)]);
    let attribute = |value| BTreeMap::from([("a".to_owned(), value)]);
    let check = |features, attributes, expect: &str| {
        let message = ItemContent::new(features, attributes).unwrap_err().to_string();
        assert!(message.contains(expect), "{message:?} lacks {expect:?}");
    };
    check(features("text", vec![0.0, f32::NAN]), BTreeMap::new(), "features: text[1] is NaN");
    check(features("text", vec![0.0; 16_385]), BTreeMap::new(), "16385 numbers");
    check(features(&"n".repeat(257), vec![]), BTreeMap::new(), "257 bytes");
    check((0..17).map(|n| (n.to_string(), vec![])).collect(), BTreeMap::new(), "17 names");
    let none = BTreeMap::new;
    check(none(), attribute(AttributeValue::Number(f64::INFINITY)), "attributes: a is inf");
    check(none(), attribute(AttributeValue::Texts(vec!["x".into(); 65])), "a has 65 values");
    check(none(), attribute(AttributeValue::Text(String::new())), "a is empty");
    let dir = tempfile::tempdir().unwrap();
    let store = UserStateStore::open(&dir.path().join("state"), 10).unwrap();
    let refused = |item: NewItem| store.put_item(&item, 5).unwrap_err().to_string();
    assert!(refused(item("", None, 1.0)).contains("item_id"));
    assert!(refused(item("a", Some(&"t".repeat(1025)), 1.0)).contains("title"));
    let empty = ItemContent::new(BTreeMap::new(), BTreeMap::new()).unwrap();
    assert!(refused(NewItem { item_id: "a".into(), title: None, content: empty }).contains("features: is empty"));
    assert!(keys(&store).is_empty());
}

//! Keys and ids.

use feature_store::{Event, PAD, Vocabulary};

#[test]
fn keys_and_ids_go_both_ways() {
    let vocabulary = Vocabulary::new(vec!["a".into(), "b".into()]).unwrap();
    assert_eq!((vocabulary.id("a"), vocabulary.id("b"), vocabulary.id("c")), (Some(1), Some(2), None));
    assert_eq!((vocabulary.key(PAD), vocabulary.key(1), vocabulary.key(3)), (None, Some("a"), None));
}

#[test]
fn bad_keys_and_events_are_named() {
    let message = Vocabulary::new(vec!["a".into(), "b".into(), "a".into()]).unwrap_err().to_string();
    assert!(message.contains("\"a\" is the key of items 1 and 3"), "{message}");
    assert!(Vocabulary::new(vec![String::new()]).unwrap_err().to_string().contains("item 1 is empty"));
    let check = |user: &str, item: &str, time: i64, id: Option<&str>, expect: &str| {
        let event =
            Event { user_id: user.into(), item_id: item.into(), timestamp_ms: time, event_id: id.map(str::to_owned) };
        let message = event.validate().unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    };
    check("", "i", 0, None, "user_id");
    check("u", "", 0, None, "item_id");
    check("u", "i", -1, None, "timestamp_ms: -1");
    check("u", "i", 0, Some(""), "event_id");
    check(&"x".repeat(257), "i", 0, None, "257 bytes");
}

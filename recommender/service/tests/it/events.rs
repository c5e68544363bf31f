//! `/v1/events`: what is accepted is stored, once, and moves the next recommendation.

use crate::fixture::{NOW_MS, Server, key};
use feature_store::{StreamEvent, UserStateStore};
use serde_json::{Value, json};

#[test]
fn the_next_recommendation_reflects_an_event() {
    let server = Server::start();
    let before = server.client.recommend(&json!({"user_id": "ada", "tier": "premium"}));
    for item in [3, 4, 5] {
        let answer = server.client.event(&json!({"user_id": "ada", "item_id": key(item), "timestamp_ms": item}));
        assert_eq!(
            (&answer["applied"], &answer["duplicate"], &answer["known_item"]),
            (&json!(true), &json!(false), &json!(true))
        );
    }
    let after = server.client.recommend(&json!({"user_id": "ada", "tier": "premium"}));
    let inline = server.client.recommend(&json!({"history": [key(3), key(4), key(5)], "tier": "premium"}));
    assert_ne!(before.item_ids(), after.item_ids());
    assert_eq!(after.item_ids(), inline.item_ids(), "the user's state is the inline history");
    assert_eq!(after.item_ids()[0], key(6));
    assert_eq!(after.json()["history_len"], 3);
    // Another user's state is another's.
    assert_eq!(server.client.recommend(&json!({"user_id": "bo", "tier": "premium"})).item_ids(), before.item_ids());
}

#[test]
fn a_retry_with_the_same_event_id_changes_nothing() {
    let server = Server::start();
    let event = json!({"user_id": "ada", "item_id": key(3), "event_id": "e1"});
    let check = |event: &Value, applied: bool, duplicate: bool, history_len: usize| {
        let answer = server.client.event(event);
        assert_eq!((&answer["applied"], &answer["duplicate"]), (&json!(applied), &json!(duplicate)), "{event}");
        assert_eq!(server.client.recommend(&json!({"user_id": "ada"})).json()["history_len"], history_len);
    };
    check(&event, true, false, 1);
    check(&event, false, true, 1);
    check(&json!({"user_id": "ada", "item_id": key(3), "event_id": "e2"}), true, false, 2);
    check(&json!({"user_id": "ada", "item_id": key(3)}), true, false, 3);
}

#[test]
fn a_batch_is_stored_whole_or_not_at_all() {
    let server = Server::start();
    let len = |user: &str| server.client.recommend(&json!({"user_id": user})).json()["history_len"].clone();
    let event = |user: &str, item: usize, id: &str| json!({"user_id": user, "item_id": key(item), "event_id": id});
    let events =
        json!({"events": [event("ada", 3, "a"), event("bo", 4, "b"), event("ada", 4, "c"), event("ada", 3, "a")]});
    let check = |applied: usize, duplicates: usize| {
        let reply = server.client.post("/v1/events/batch", &events);
        let json = reply.json();
        assert_eq!(reply.status, 200, "{}", reply.text);
        assert_eq!((&json["applied"], &json["duplicates"]), (&json!(applied), &json!(duplicates)), "{}", reply.text);
        assert_eq!((len("ada"), len("bo")), (json!(2), json!(1)));
    };
    check(4, 1);
    check(4, 4);
    let inline = server.client.recommend(&json!({"history": [key(3), key(4)]}));
    assert_eq!(
        server.client.recommend(&json!({"user_id": "ada"})).item_ids(),
        inline.item_ids(),
        "in the body's order"
    );

    let refused = |body: Value, part: &str| {
        let reply = server.client.post("/v1/events/batch", &body);
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.text.contains(part), "{} lacks {part:?}", reply.text);
    };
    refused(json!({"events": []}), "events has 0 entries; send 1 to 5");
    refused(json!({"events": vec![event("cy", 1, "x"); 6]}), "events has 6 entries");
    refused(json!({"events": [event("cy", 1, "x"), event("", 1, "y")]}), "events[1].user_id is empty");
    let early = json!({"user_id": "cy", "item_id": "a", "timestamp_ms": -1});
    refused(json!({"events": [event("cy", 1, "x"), early]}), "events[1].timestamp_ms");
    refused(json!({"events": [event("cy", 1, "x"), {"user_id": 7}]}), "events[1].user_id: invalid type");
    assert_eq!(len("cy"), 0, "nothing of a refused batch is stored");
    let unknown = json!({"events": [{"user_id": "cy", "item_id": "next season"}, event("cy", 1, "x")]});
    assert_eq!(server.client.post("/v1/events/batch", &unknown).json()["unknown_items"], 1);
}

#[test]
fn an_unknown_item_is_stored_and_said_to_be_unknown() {
    let server = Server::start();
    let answer = server.client.event(&json!({"user_id": "ada", "item_id": "next season"}));
    assert_eq!((&answer["applied"], &answer["known_item"]), (&json!(true), &json!(false)));
    let reply = server.client.recommend(&json!({"user_id": "ada"}));
    assert_eq!(reply.json()["unknown_items"], json!(["next season"]));
    assert_eq!(reply.json()["history_len"], 0);
}

#[test]
fn a_late_event_takes_its_place_in_time() {
    let server = Server::start();
    for (item, time) in [(5, 50), (3, 30), (4, 40)] {
        server.client.event(&json!({"user_id": "ada", "item_id": key(item), "timestamp_ms": time}));
    }
    let inline = server.client.recommend(&json!({"history": [key(3), key(4), key(5)]}));
    assert_eq!(server.client.recommend(&json!({"user_id": "ada"})).item_ids(), inline.item_ids());
}

#[test]
fn state_survives_a_restart_and_events_without_a_time_get_the_clocks() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let server = Server::on(&path, |_| ());
    server.client.event(&json!({"user_id": "ada", "item_id": key(3), "event_id": "e1"}));
    server.client.event(&json!({"user_id": "ada", "item_id": key(4), "timestamp_ms": 7}));
    let before = server.client.recommend(&json!({"user_id": "ada"}));
    server.stop().unwrap();

    let server = Server::on(&path, |_| ());
    let after = server.client.recommend(&json!({"user_id": "ada"}));
    assert_eq!(after.item_ids(), before.item_ids());
    assert_eq!(after.json()["history_len"], 2);
    assert_eq!(server.client.event(&json!({"user_id": "ada", "item_id": key(3), "event_id": "e1"}))["duplicate"], true);
    server.stop().unwrap();

    let history = UserStateStore::open(&path, 20).unwrap().history("ada").unwrap();
    let times: Vec<(String, i64)> = history.into_iter().map(|entry| (entry.item_id, entry.timestamp_ms)).collect();
    assert_eq!(times, [(key(4), 7), (key(3), NOW_MS)]);
}

#[test]
fn items_that_a_stream_hid_or_let_expire_are_not_recommended() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state");
    let best = Server::on(&path, |_| ()).client.recommend(&json!({"history": [key(3)], "k": 4})).item_ids();
    {
        let (item_id, timestamp_ms) = (best[0].clone(), NOW_MS - 10);
        let hidden = StreamEvent::ItemHide { item_id, timestamp_ms };
        let expire = |at: usize, expires_at_ms| StreamEvent::ItemExpire {
            item_id: best[at].clone(),
            timestamp_ms: NOW_MS - 10,
            expires_at_ms,
        };
        let store = UserStateStore::open(&path, 20).unwrap();
        store.record(&[hidden, expire(1, NOW_MS), expire(2, NOW_MS + 1)]).unwrap();
    }
    let server = Server::on(&path, |_| ());
    let after = server.client.recommend(&json!({"history": [key(3)], "k": 2}));
    assert_eq!(after.item_ids(), best[2..], "the first is hidden, the second expires now, the third later");
    let only = server.client.recommend(&json!({"history": [key(3)], "k": 2, "only": [best[0]]}));
    assert!(only.item_ids().is_empty(), "a hidden item came back by name");
}

//! `/v1/recommend`: the ranking is the Bundle's, at the dim asked for.

use crate::fixture::{DIMS, ITEMS, MAX_HISTORY, Server, bundle_dir, key};
use fmrlrec::Bundle;
use serde_json::{Value, json};

/// Keys by descending inner product, straight from the Bundle.
fn ranking(bundle: &Bundle, history: &[u32], dim: usize, hidden: &[u32]) -> Vec<String> {
    let user = bundle.fold(history, dim).unwrap();
    let width = DIMS[DIMS.len() - 1];
    let score = |id: u32| -> f32 {
        bundle.item_table()[id as usize * width..][..dim]
            .iter()
            .zip(user.vector())
            .map(|(item, user)| item * user)
            .sum()
    };
    let mut ids: Vec<u32> = (1..=ITEMS as u32).filter(|id| !hidden.contains(id)).collect();
    ids.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
    ids.into_iter().map(|id| key(id as usize)).collect()
}

#[test]
fn every_dim_gives_the_bundles_ranking_at_that_dim() {
    let server = Server::start();
    let bundle = Bundle::open(bundle_dir()).unwrap();
    let history = [3u32, 4, 5];
    let keys: Vec<String> = history.iter().map(|id| key(*id as usize)).collect();
    let mut seen = Vec::new();
    for dim in DIMS {
        let reply = server.client.recommend(&json!({"history": keys, "dim": dim, "k": 10}));
        let body = reply.json();
        assert_eq!(reply.item_ids(), ranking(&bundle, &history, dim, &history)[..10], "dim {dim}");
        assert_eq!((&body["dim"], &body["tier"]), (&json!(dim), &Value::Null));
        assert_eq!(body["bundle_id"], bundle.id());
        assert_eq!(body["history_len"], 3);
        assert_eq!(body["unknown_items"], json!([]));
        assert_eq!(body["request_id"], reply.header("x-request-id"));
        seen.push(reply.item_ids());
    }
    assert_ne!(seen[0], seen[2], "a small and the largest dim rank differently");
    assert_eq!(seen[2][0], key(6), "on the ring 6 follows 3, 4, 5");
    let first = server.client.recommend(&json!({"history": keys, "dim": 16, "k": 1})).json();
    assert_eq!(first["items"][0]["title"], "Item 6");
}

#[test]
fn excluded_and_seen_items_make_room_for_others() {
    let client = Server::start();
    let bundle = Bundle::open(bundle_dir()).unwrap();
    let check = |request: Value, history: &[u32], hidden: &[u32]| {
        let reply = client.client.recommend(&request);
        assert_eq!(reply.item_ids(), ranking(&bundle, history, 8, hidden)[..20], "{request}");
    };
    let keys = [key(3), key(4)];
    check(json!({"history": keys, "k": 20}), &[3, 4], &[3, 4]);
    check(json!({"history": keys, "k": 20, "include_seen": true}), &[3, 4], &[]);
    check(json!({"history": keys, "k": 20, "exclude": [key(5), key(7), "nowhere"]}), &[3, 4], &[3, 4, 5, 7]);
    check(json!({"history": keys, "k": 20, "include_seen": true, "exclude": [key(5)]}), &[3, 4], &[5]);
}

#[test]
fn new_users_are_served_from_the_start_token() {
    let server = Server::start();
    let bundle = Bundle::open(bundle_dir()).unwrap();
    let expect = &ranking(&bundle, &[], 8, &[])[..5];
    for request in [json!({"user_id": "nobody yet"}), json!({"history": []}), json!({"history": ["unknown"]})] {
        let reply = server.client.recommend(&request);
        assert_eq!(reply.item_ids(), expect, "{request}");
        assert_eq!(reply.json()["history_len"], 0, "{request}");
    }
}

#[test]
fn unknown_items_are_skipped_and_reported_once() {
    let server = Server::start();
    let mixed = server.client.recommend(&json!({"history": [key(3), "x", key(4), "y", "x", key(5)]}));
    let plain = server.client.recommend(&json!({"history": [key(3), key(4), key(5)]}));
    assert_eq!(mixed.item_ids(), plain.item_ids());
    assert_eq!(mixed.json()["unknown_items"], json!(["x", "y"]));
    assert_eq!(mixed.json()["history_len"], 3);
}

#[test]
fn of_a_long_history_the_newest_items_count() {
    let server = Server::with(|config| config.limits.history = 100);
    let bundle = Bundle::open(bundle_dir()).unwrap();
    // Of a history of 19 and a model of 8: those since the 16th, and the 8 before.
    for (len, read) in [(12, 12), (15, 15), (16, MAX_HISTORY), (19, MAX_HISTORY + 3)] {
        let ids: Vec<u32> = (1..=len).collect();
        let keys: Vec<String> = ids.iter().map(|id| key(*id as usize)).collect();
        let reply = server.client.recommend(&json!({"history": keys}));
        assert_eq!(reply.json()["history_len"], read, "of {len}");
        // All of it is seen, though, and not answered again.
        assert_eq!(reply.item_ids(), ranking(&bundle, &ids[len as usize - read..], 8, &ids)[..5], "of {len}");
    }
}

#[test]
fn a_tier_comes_from_the_body_or_a_key_or_a_header_or_the_default() {
    let server = Server::start();
    let check = |headers: &[(&str, &str)], choice: Value, tier: Value, dim: usize| {
        let mut headers = headers.to_vec();
        headers.push(("content-type", "application/json"));
        let mut body = json!({"history": [key(1)]});
        body.as_object_mut().unwrap().extend(choice.as_object().unwrap().clone());
        let reply = server.client.call("POST", "/v1/recommend", &headers, &body.to_string());
        assert_eq!(reply.status, 200, "{headers:?} {body}: {}", reply.text);
        assert_eq!((&reply.json()["tier"], &reply.json()["dim"]), (&tier, &json!(dim)), "{headers:?} {body}");
    };
    let (ada, gold, batch) = (("x-api-key", "key-of-ada"), ("x-tier", "gold"), ("x-tier", "batch"));
    check(&[], json!({}), json!("standard"), 8);
    check(&[ada], json!({}), json!("premium"), 16);
    check(&[batch], json!({}), json!("bulk"), 4);
    check(&[ada, batch], json!({}), json!("premium"), 16);
    check(&[ada, gold], json!({"tier": "bulk"}), json!("bulk"), 4);
    check(&[ada], json!({"dim": 4}), Value::Null, 4);
    check(&[("x-api-key", "wrong"), ("x-tier", "wrong")], json!({}), json!("standard"), 8);
    check(&[("x-api-key", "wrong"), batch], json!({}), json!("bulk"), 4);
}

#[test]
fn k_is_the_number_of_items() {
    let server = Server::start();
    let check = |request: Value, expect: usize| {
        assert_eq!(server.client.recommend(&request).item_ids().len(), expect, "{request}")
    };
    check(json!({"user_id": "a"}), 5);
    check(json!({"user_id": "a", "k": 1}), 1);
    check(json!({"user_id": "a", "k": 20}), 20);
}

/// A proxy that gives each tier a path of its own.
#[test]
fn a_path_names_a_tier() {
    let server = Server::start();
    let check = |tier: &str, body: Value, status: u16, expect: &str| {
        let reply = server.client.post(&format!("/v1/tiers/{tier}/recommend"), &body);
        assert_eq!(reply.status, status, "{tier} {body}: {}", reply.text);
        match status {
            200 => assert_eq!(
                (&reply.json()["tier"], &reply.json()["dim"].to_string()),
                (&json!(tier), &expect.to_owned())
            ),
            _ => assert!(reply.text.contains(expect), "{}", reply.text),
        }
    };
    check("bulk", json!({"user_id": "a"}), 200, "4");
    check("premium", json!({"history": [key(3)], "k": 2}), 200, "16");
    check("premium", json!({"user_id": "a", "dim": 4}), 400, "the path names the tier");
    check("premium", json!({"user_id": "a", "tier": "premium"}), 400, "the path names the tier");
    check("none", json!({"user_id": "a"}), 404, "there is no tier of this name");
    let body = json!({"history": [key(3)], "k": 2});
    let named = server.client.recommend(&json!({"history": [key(3)], "k": 2, "tier": "premium"})).json();
    assert_eq!(server.client.post("/v1/tiers/premium/recommend", &body).json()["items"], named["items"]);
    let metrics = server.client.get("/metrics").text;
    assert!(metrics.contains("recommender_answer_duration_seconds_count{bundle_id="), "{metrics}");
}

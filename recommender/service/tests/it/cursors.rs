//! Pages: together they are the ranking, and a cursor that is not valid any more says so.

use crate::fixture::{ITEMS, Server, key, other_bundle};
use serde_json::{Value, json};
use service::Scope;

const ADMIN: [(&str, &str); 2] = [("content-type", "application/json"), ("x-api-key", "key-of-root")];

/// Every page of a request, one after the other.
fn pages(server: &Server, request: &Value, k: usize) -> Vec<Vec<String>> {
    let (mut pages, mut body) = (Vec::new(), request.clone());
    body["k"] = json!(k);
    loop {
        let reply = server.client.recommend(&body);
        pages.push(reply.item_ids());
        match &reply.json()["next"] {
            Value::String(next) => body["cursor"] = json!(next),
            _ => return pages,
        }
    }
}

#[test]
fn pages_together_are_the_ranking() {
    let server = Server::start();
    for item in 3..=5 {
        server.client.event(&json!({"user_id": "ada", "item_id": key(item)}));
    }
    let even = json!({"equals": {"attribute": "genre", "value": "even"}});
    let check = |request: Value, count: usize| {
        let mut whole = request.clone();
        whole["k"] = json!(20);
        let ranking = server.client.recommend(&whole).item_ids();
        for k in [1, 4, 7] {
            let pages = pages(&server, &request, k);
            let all: Vec<String> = pages.concat();
            assert_eq!(all.len(), count, "{request} by {k}");
            assert_eq!(all[..count.min(20)], ranking[..count.min(20)], "{request} by {k}");
            let mut once = all.clone();
            once.sort();
            once.dedup();
            assert_eq!(once.len(), count, "{request} by {k}: an item twice");
            let (last, full) = pages.split_last().unwrap();
            assert!(full.iter().all(|page| page.len() == k) && last.len() <= k);
        }
    };
    check(json!({"user_id": "ada"}), ITEMS - 3);
    check(json!({"user_id": "ada", "include_seen": true, "dim": 4}), ITEMS);
    check(json!({"history": ["i3", "i4"], "tier": "premium"}), ITEMS - 2);
    check(json!({"history": ["i3"], "filter": even, "exclude": ["i8"]}), 13);
    check(json!({"history": ["i3"], "only": ["i8", "i9"]}), 2);
    check(json!({"user_id": "nobody yet"}), ITEMS);
}

#[test]
fn a_batch_pages_too_and_k_may_change() {
    let server = Server::start();
    let first = server.client.recommend(&json!({"history": ["i3"], "k": 5}));
    let next = first.json()["next"].clone();
    let requests = json!({"requests": [{"history": ["i3"], "k": 10, "cursor": next}, {"history": ["i3"], "k": 15}]});
    let answers = server.client.post("/v1/recommend/batch", &requests).json()["answers"].clone();
    assert_eq!(answers[0]["items"].as_array().unwrap()[..], answers[1]["items"].as_array().unwrap()[5..]);
    let diverse = server.client.recommend(&json!({"history": ["i3"], "diversity": 0.5}));
    assert_eq!(diverse.json()["next"], Value::Null);
}

#[test]
fn a_cursor_is_valid_under_one_bundle_and_one_history() {
    other_bundle();
    let server = Server::start();
    server.client.event(&json!({"user_id": "ada", "item_id": "i3"}));
    let first = |body: Value| server.client.recommend(&body).json()["next"].as_str().unwrap().to_owned();
    let check = |body: Value, status: u16, detail: &str| {
        let reply = server.client.post("/v1/recommend", &body);
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
        assert!(reply.json()["detail"].as_str().unwrap().contains(detail), "{} lacks {detail:?}", reply.text);
    };
    let of_ada = first(json!({"user_id": "ada"}));
    let inline = first(json!({"history": ["i3"]}));
    check(json!({"user_id": "ada", "cursor": "00"}), 400, "cursor is none that this call gave");
    check(json!({"user_id": "bo", "cursor": of_ada}), 400, "cursor is of another request");
    check(json!({"user_id": "ada", "exclude": ["i9"], "cursor": of_ada}), 400, "cursor is of another request");
    check(json!({"user_id": "ada", "tier": "premium", "cursor": of_ada}), 400, "cursor is of another request");
    check(json!({"user_id": "ada", "diversity": 0.5, "cursor": of_ada}), 400, "cursor and diversity");
    check(json!({"history": ["i4"], "cursor": inline}), 410, "the history has changed since");
    let catalogue = server.client.get("/v1/items?limit=2").json()["next"].as_str().unwrap().to_owned();
    check(json!({"user_id": "ada", "cursor": catalogue}), 400, "cursor is none that this call gave");

    server.client.recommend(&json!({"user_id": "ada", "cursor": of_ada}));
    server.client.event(&json!({"user_id": "ada", "item_id": "i4"}));
    check(json!({"user_id": "ada", "cursor": of_ada}), 410, "cursor is not valid any more: the history has changed");
    let body = json!({"bundle": "other"}).to_string();
    assert_eq!(server.client.call("POST", "/admin/v1/bundle", &ADMIN, &body).status, 200);
    check(json!({"history": ["i3"], "cursor": inline}), 410, "another bundle is served");
    let reply = server.client.get(&format!("/v1/items?cursor={catalogue}"));
    assert_eq!(reply.status, 410, "{}", reply.text);
}

/// It is no secret: anybody can write one down that names another dim.
#[test]
fn a_cursor_gives_no_larger_dim_than_the_request_would_get_without_it() {
    let server = Server::with(|config| {
        let key = &mut config.access.keys[1];
        (key.scopes, key.tier, key.may_choose) = (vec![Scope::Recommend], "bulk".into(), false);
    });
    let ask = |api_key: &str, cursor: &Value| {
        let headers = [("content-type", "application/json"), ("x-api-key", api_key)];
        let body = json!({"history": ["i3"], "k": 3, "cursor": cursor}).to_string();
        server.client.call("POST", "/v1/recommend", &headers, &body)
    };
    let dims = |api_key: &str| {
        let first = ask(api_key, &Value::Null).json();
        let second = ask(api_key, &first["next"]).json();
        ([first["dim"].clone(), second["dim"].clone()], first["next"].clone())
    };
    let (of_ada, next) = dims("key-of-ada");
    assert_eq!(of_ada, [16, 16]);
    assert_eq!(dims("key-of-root").0, [4, 4]);
    let refused = ask("key-of-root", &next);
    assert_eq!(refused.status, 410, "{}", refused.text);
    assert!(refused.text.contains("a tier with a smaller dim"), "{}", refused.text);
}

#[test]
fn a_cursor_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let server = Server::on(&state, |_| ());
    server.client.event(&json!({"user_id": "ada", "item_id": "i3"}));
    let whole = server.client.recommend(&json!({"user_id": "ada", "k": 10})).item_ids();
    let next = server.client.recommend(&json!({"user_id": "ada", "k": 5})).json()["next"].clone();
    server.stop().unwrap();
    let server = Server::on(&state, |_| ());
    let second = server.client.recommend(&json!({"user_id": "ada", "k": 5, "cursor": next})).item_ids();
    assert_eq!(second, whole[5..]);
}

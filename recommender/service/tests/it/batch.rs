//! Several requests in one call, filters, and errors that name the field.

use crate::fixture::{Server, key};
use serde_json::{Value, json};

#[test]
fn a_batch_answers_each_as_a_single_call_would() {
    let server = Server::start();
    let requests = [
        json!({"history": [key(3), key(4)], "k": 3}),
        json!({"user_id": "a", "k": 0}),
        json!({"user_id": "a", "tier": "premium", "k": 2}),
    ];
    let reply = server.client.post("/v1/recommend/batch", &json!({"requests": requests}));
    assert_eq!(reply.status, 200, "{}", reply.text);
    let body = reply.json();
    assert_eq!(body["answers"].as_array().unwrap().len(), 3);
    for (index, request) in requests.iter().enumerate() {
        let single = server.client.post("/v1/recommend", request);
        let (batched, single_body) = (&body["answers"][index], single.json());
        assert_eq!(batched["items"], single_body["items"], "{request}");
        assert_eq!(batched["detail"], single_body["detail"], "{request}");
        assert_eq!(batched["request_id"], body["request_id"], "{request}");
    }
    let check = |body: Value, detail: &str| {
        let reply = server.client.post("/v1/recommend/batch", &body);
        assert_eq!(reply.status, 400, "{body}");
        assert!(reply.text.contains(detail), "{} lacks {detail:?}", reply.text);
    };
    check(json!({"requests": []}), "requests has 0 entries; send 1 to 5");
    check(json!({"requests": vec![json!({"user_id": "a"}); 6]}), "requests has 6 entries");
    check(json!({"requests": [{"user_id": 7}]}), "requests[0].user_id: invalid type: integer `7`");
}

#[test]
fn only_and_exclude_filter_and_k_results_come_back() {
    let server = Server::start();
    let check = |request: Value, expect: &[String]| {
        let mut found = server.client.recommend(&request).item_ids();
        found.sort();
        assert_eq!(found, expect, "{request}");
    };
    let history = [key(1), key(2)];
    check(json!({"history": history, "only": [key(8), key(9), "nowhere"]}), &[key(8), key(9)]);
    check(json!({"history": history, "only": [key(8), key(9)], "exclude": [key(8)]}), &[key(9)]);
    check(json!({"history": history, "only": [key(1), key(8)]}), &[key(8)]);
    check(json!({"history": history, "only": [key(1), key(8)], "include_seen": true}), &[key(1), key(8)]);
    check(json!({"history": history, "only": []}), &[]);
}

#[test]
fn a_wrong_type_names_its_field() {
    let server = Server::start();
    let check = |body: Value, detail: &str| {
        let reply = server.client.post("/v1/recommend", &body);
        assert_eq!(reply.status, 400, "{body}");
        let found = reply.json()["detail"].as_str().unwrap().to_string();
        assert!(found.contains(detail), "{found:?} lacks {detail:?}");
    };
    check(json!({"user_id": "a", "exclude": ["i1", 3]}), "exclude[1]: invalid type: integer `3`, expected a string");
    check(json!({"user_id": "a", "k": -1}), "k: invalid value: integer `-1`");
    check(json!({"history": {"a": 1}}), "history: invalid type: map");
    check(json!({"user_id": "a", "include_seen": "yes"}), "include_seen: invalid type");
}

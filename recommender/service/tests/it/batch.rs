//! Several requests in one call, filters, and errors that name the field.

use crate::fixture::{Server, key};
use crate::user_vectors::model_items;
use serde_json::{Value, json};

#[test]
fn a_batch_answers_each_as_a_single_call_would() {
    let server = Server::start();
    let requests = [
        json!({"history": [key(3), key(4)], "k": 3}),
        json!({"user_id": "a", "k": 21}),
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
    check(json!({"requests": [{"user_id": "a"}, {"user_id": "a", "k": 0}]}), "requests[1].k is 0; ask for 1 or more");
    check(json!({"requests": [{"user_id": "a", "diversity": 2}]}), "requests[0].diversity is 2; send 0 to 1");
    check(json!({"requests": [{"user_id": 7}]}), "requests[0].user_id: invalid type: integer `7`");
}

/// A batch is one answer, so what is refused in it says in the document when to come again.
#[test]
fn a_refused_request_of_a_batch_says_when_to_try_again() {
    let server = Server::with(|config| (config.tiers[1].rate_per_s, config.tiers[1].burst) = (1, 2));
    let body = server.client.post("/v1/recommend/batch", &json!({"requests": vec![json!({"user_id": "a"}); 3]})).json();
    let statuses: Vec<&Value> = body["answers"].as_array().unwrap().iter().map(|answer| &answer["status"]).collect();
    assert_eq!(statuses, [&Value::Null, &Value::Null, &json!(429)], "{body}");
    assert!((1..=2).contains(&body["answers"][2]["retry_after_s"].as_u64().unwrap()), "{body}");
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

#[test]
fn an_explanation_names_the_history_items_whose_loss_it_measures() {
    let server = Server::start();
    let bundle = fmrlrec::Bundle::open(crate::fixture::bundle_dir()).unwrap();
    // The second one is longer than the newest items that are looked at.
    let check = |history: &[u32]| -> Value {
        let keys: Vec<String> = history.iter().map(|id| key(*id as usize)).collect();
        let body = server.client.recommend(&json!({"history": keys, "dim": 16, "k": 3, "explain": true})).json();
        for item in body["items"].as_array().unwrap() {
            let id = bundle.vocabulary().id(item["item_id"].as_str().unwrap()).unwrap();
            let row = &bundle.item_table()[id as usize * 16..][..16];
            let score = |history: &[u32]| -> f64 {
                bundle.fold(history, 16).unwrap().vector().iter().zip(row).map(|(a, b)| f64::from(a * b)).sum()
            };
            let because = item["because"].as_array().unwrap();
            for reason in because {
                let left_out = bundle.vocabulary().id(reason["item_id"].as_str().unwrap()).unwrap();
                assert!(history[history.len().saturating_sub(10)..].contains(&left_out), "{reason}");
                let rest: Vec<u32> = history.iter().copied().filter(|&id| id != left_out).collect();
                let expect = score(history) - score(&rest);
                assert!((reason["loss"].as_f64().unwrap() - expect).abs() < 1e-3, "{reason}: {expect}");
            }
            let losses: Vec<f64> = because.iter().map(|reason| reason["loss"].as_f64().unwrap()).collect();
            assert!(losses.iter().all(|loss| *loss > 0.0) && losses.is_sorted_by(|a, b| a >= b), "{losses:?}");
        }
        body
    };
    let body = check(&[3, 4, 5]);
    assert_eq!(body["items"][0]["because"][0]["item_id"], key(5), "on the ring 6 follows 5");
    let before = model_items(&server);
    let long: Vec<u32> = (3..=14).collect();
    let body = check(&long);
    assert!(body["items"].as_array().unwrap().iter().any(|item| item["because"] != json!([])), "{body}");
    // The history, its first two once more, and for each of the ten a step on to the next and those after it.
    assert_eq!(model_items(&server) - before, 12.0 + 2.0 + 54.0);
    let user = json!({"user_id": "nobody", "explain": true});
    assert_eq!(server.client.recommend(&user).json()["items"][0]["because"], json!([]), "nothing pushed a new user");
    assert!(!server.client.recommend(&json!({"history": [key(3)]})).text.contains("because"));
}

#[test]
fn diversity_changes_the_list_and_not_its_length() {
    let server = Server::start();
    let ask = |diversity: f32| {
        server
            .client
            .recommend(&json!({"history": [key(3), key(4)], "dim": 16, "k": 8, "diversity": diversity}))
            .item_ids()
    };
    let (plain, none, some, full) = (
        server.client.recommend(&json!({"history": [key(3), key(4)], "dim": 16, "k": 8})).item_ids(),
        ask(0.0),
        ask(0.5),
        ask(1.0),
    );
    assert_eq!(plain, none);
    assert_eq!((some.len(), full.len()), (8, 8));
    assert_eq!(full[0], plain[0], "the best item comes first whatever the diversity");
    assert_ne!(full, plain);
    for wrong in [-0.1, 1.1] {
        let reply = server.client.post("/v1/recommend", &json!({"history": [], "diversity": wrong}));
        assert_eq!(reply.status, 400);
        assert!(reply.text.contains("send 0 to 1"), "{}", reply.text);
    }
}

//! Filters on attributes: k results at any selectivity, on every path, and errors that name the place.

use crate::fixture::{ITEMS, Server, key};
use serde_json::{Value, json};

const KEEPER: [(&str, &str); 2] = [("content-type", "application/json"), ("x-api-key", "key-of-keeper")];

fn equals(value: &str) -> Value {
    json!({"equals": {"attribute": "genre", "value": value}})
}

fn years(from: Option<i32>, to: Option<i32>) -> Value {
    json!({"range": {"attribute": "year", "from": from, "to": to}})
}

/// What the fixture's attributes say, item by item.
fn keys(wanted: impl Fn(usize) -> bool) -> Vec<String> {
    (1..=ITEMS).filter(|&item| wanted(item)).map(key).collect()
}

#[test]
fn k_results_come_back_whenever_k_items_satisfy_the_filter() {
    let server = Server::start();
    let has = |item: usize| item != 10;
    let check = |filter: Value, expect: Vec<String>| {
        for dim in [4, 16] {
            let ask = |rest: Value| {
                let mut body = json!({"history": ["i3", "i4"], "k": 20, "dim": dim, "include_seen": true});
                body.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
                server.client.recommend(&body).item_ids()
            };
            // The same items in the same order as if the list had named them.
            let named: Vec<String> = (0..expect.len())
                .step_by(6)
                .flat_map(|at| ask(json!({"only": expect[at..expect.len().min(at + 6)]})))
                .collect();
            let found = ask(json!({"filter": filter}));
            assert_eq!(found.len(), expect.len().min(20), "{filter} dim {dim}");
            assert!(found.iter().all(|key| expect.contains(key)), "{filter} dim {dim}: {found:?}");
            if expect.len() <= 6 {
                assert_eq!(found, named, "{filter} dim {dim}");
            }
        }
    };
    check(equals("g0"), keys(|item| has(item) && item % 3 == 0));
    check(equals("even"), keys(|item| has(item) && item % 2 == 0));
    check(equals("none"), vec![]);
    check(years(Some(2018), None), keys(|item| item >= 28));
    check(years(None, Some(1991)), keys(|item| item == 1));
    check(years(Some(1993), Some(1993)), vec![key(3)]);
    check(json!({"one_of": {"attribute": "genre", "values": ["g1", "g2"]}}), keys(|item| has(item) && item % 3 != 0));
    check(json!({"all": [equals("g0"), equals("even")]}), keys(|item| item % 6 == 0));
    check(json!({"any": [years(None, Some(1992)), years(Some(2020), None)]}), keys(|item| item <= 2 || item == 30));
    check(json!({"not": equals("even")}), keys(|item| item == 10 || item % 2 == 1));
    check(json!({"all": []}), keys(|_| true));
    check(json!({"any": []}), vec![]);
}

#[test]
fn filters_join_with_everything_else_a_request_can_say() {
    let server = Server::start();
    let ask = |body: Value| server.client.recommend(&body).item_ids();
    let even = equals("even");
    let ids = ask(json!({"history": ["i3", "i4"], "k": 20, "filter": even}));
    assert_eq!(ids.len(), 13, "14 of 15 even items have the genre, and one of them was seen");
    assert_eq!(ask(json!({"history": ["i3"], "filter": even, "only": ["i5", "i6"]})), ["i6"]);
    assert!(!ask(json!({"history": ["i3"], "k": 20, "filter": even, "exclude": ["i6"]})).contains(&key(6)));
    let diverse = ask(json!({"history": ["i3"], "k": 5, "filter": even, "diversity": 0.5}));
    assert_eq!(diverse.len(), 5);
    assert!(diverse.iter().all(|key| ids.contains(key) || key == "i4"), "{diverse:?}");
    // In one batch, each has its own.
    let requests: Vec<Value> =
        ["even", "g0", "g1", "none"].map(|genre| json!({"history": ["i3"], "k": 20, "filter": equals(genre)})).into();
    let batch = server.client.post("/v1/recommend/batch", &json!({"requests": requests})).json();
    for (answer, request) in batch["answers"].as_array().unwrap().iter().zip(&requests) {
        assert_eq!(answer["items"], server.client.recommend(request).json()["items"], "{request}");
    }
    let told = server.client.get("/v1/bundle").json()["attributes"].clone();
    assert_eq!(told, json!([{"name": "genre", "kind": "text"}, {"name": "year", "kind": "number"}]));
}

#[test]
fn added_items_are_filtered_by_what_came_with_them() {
    let server = Server::start();
    let features: Vec<f32> = (1..=ITEMS).map(|at| if at == 6 { 1.2 } else { 0.0 }).collect();
    let put = |key: &str, attributes: Value| {
        let body = json!({"features": {"text": features}, "attributes": attributes});
        server.client.call("PUT", &format!("/v1/items/{key}"), &KEEPER, &body.to_string())
    };
    assert_eq!(put("film", json!({"genre": ["even", "new"], "year": 2030})).status, 200);
    assert_eq!(put("bare", json!({})).status, 200);
    let ask =
        |filter: Value| server.client.recommend(&json!({"history": ["i3"], "k": 20, "filter": filter})).item_ids();
    assert_eq!(ask(equals("new")), ["film"]);
    assert_eq!(ask(years(Some(2025), None)), ["film"]);
    assert_eq!(ask(json!({"all": [equals("new"), years(None, Some(2020))]})), Vec::<String>::new());
    assert!(ask(equals("even")).contains(&"film".to_owned()));
    assert!(ask(json!({"not": years(None, None)})).contains(&"bare".to_owned()), "it has no year");
    assert_eq!(put("film", json!({"genre": "other"})).status, 200);
    assert_eq!(ask(equals("new")), Vec::<String>::new(), "a set that was kept is of the items of before");
    assert_eq!(ask(equals("other")), ["film"]);
    let check = |attributes: Value, status: u16, detail: &str| {
        let reply = put("x", attributes);
        assert_eq!(reply.status, status, "{}", reply.text);
        assert!(reply.json()["detail"].as_str().unwrap().contains(detail), "{} lacks {detail:?}", reply.text);
    };
    check(
        json!({"colour": "red"}),
        422,
        "attributes.colour is no attribute of this bundle; its attributes are [\"genre\", \"year\"]",
    );
    check(json!({"year": "1999"}), 422, "attributes.year is text; send a number");
    check(json!({"genre": 5}), 422, "attributes.genre is a number; send text");
    check(json!({"genre": [""]}), 400, "genre is empty");
    check(json!({"genre": true}), 400, "attributes.genre");
}

#[test]
fn a_filter_that_cannot_be_answered_is_named_by_its_place() {
    let server = Server::start();
    let check = |filter: Value, detail: &str| {
        let body = json!({"history": [key(1)], "filter": filter});
        let reply = server.client.post("/v1/recommend", &body);
        assert_eq!(reply.status, 400, "{body}: {}", reply.text);
        assert!(reply.json()["detail"].as_str().unwrap().contains(detail), "{} lacks {detail:?}", reply.text);
        let batch = server.client.post("/v1/recommend/batch", &json!({"requests": [body]}));
        assert!(batch.text.contains(&detail.replace('"', "\\\"")), "{}", batch.text);
    };
    check(
        json!({"equals": {"attribute": "colour", "value": "x"}}),
        "filter.equals.attribute: there is no text attribute \"colour\"; text attributes are [\"genre\"]",
    );
    check(
        json!({"all": [equals("g0"), {"not": {"range": {"attribute": "genre"}}}]}),
        "filter.all[1].not.range.attribute: there is no number attribute \"genre\"; number attributes are [\"year\"]",
    );
    check(json!({"one_of": {"attribute": "year", "values": ["1994"]}}), "filter.one_of.attribute: there is no text");
    check(json!({"any": vec![equals("g0"); 64]}), "filter: a predicate of 65 conditions");
    check(equals(&"x".repeat(41)), "filter.equals.value has 41 bytes; at most 40 are accepted (limits.key_bytes)");
    check(
        json!({"any": [{"not": {"one_of": {"attribute": "genre", "values": ["g0", "x".repeat(41)]}}}]}),
        "filter.any[0].not.one_of.values[1] has 41 bytes",
    );
    check(json!({"equals": {"attribute": "genre"}}), "missing field `value`");
    check(json!({"like": {"attribute": "genre"}}), "unknown variant `like`");
    check(json!("genre"), "filter");
}

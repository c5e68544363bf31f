//! Items that came after training: usable at once, at every dim and on every path, kept across restarts
//! and swaps, gone when removed.

use crate::client::Reply;
use crate::fixture::{DIMS, ITEMS, NOW_MS, Server, StopOnDrop, bundle_dir, bundle_with_one_more, other_bundle};
use feature_store::{ItemContent, NewItem, StreamEvent, UserStateStore};
use fmrlrec::Bundle;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

const KEEPER: [(&str, &str); 2] = [("content-type", "application/json"), ("x-api-key", "key-of-keeper")];
const WIDTH: usize = DIMS[DIMS.len() - 1];

fn put(server: &Server, key: &str, body: &Value) -> Reply {
    server.client.call("PUT", &format!("/v1/items/{key}"), &KEEPER, &body.to_string())
}

fn delete(server: &Server, key: &str) -> Reply {
    server.client.call("DELETE", &format!("/v1/items/{key}"), &KEEPER, "")
}

/// Features that lie between two items of the ring, a little longer than either.
fn between(one: usize, other: usize) -> Vec<f32> {
    (1..=ITEMS).map(|at| if at == one || at == other { 0.8 } else { 0.0 }).collect()
}

fn add(server: &Server, key: &str, features: &[f32]) -> Value {
    let reply = put(server, key, &json!({"title": format!("New {key}"), "features": {"text": features}}));
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

/// The Bundle's rows with more behind them, and keys for all.
struct Catalogue {
    bundle: Bundle,
    rows: Vec<f32>,
    keys: Vec<String>,
}

impl Catalogue {
    fn with(dir: &Path, added: &[(&str, &[f32])]) -> Catalogue {
        let bundle = Bundle::open(dir).unwrap();
        let mut rows = bundle.item_table().to_vec();
        let mut keys: Vec<String> = bundle.items().iter().map(|item| item.key.clone()).collect();
        for (key, features) in added {
            let features = BTreeMap::from([("text".to_owned(), features.to_vec())]);
            rows.extend(bundle.item_vector(&features).unwrap());
            keys.push((*key).to_owned());
        }
        Catalogue { bundle, rows, keys }
    }

    fn row(&self, key: &str) -> &[f32] {
        let at = self.keys.iter().position(|known| known == key).unwrap() + 1;
        &self.rows[at * WIDTH..][..WIDTH]
    }

    fn user(&self, history: &[&str], dim: usize) -> Vec<f32> {
        let rows: Vec<&[f32]> = history.iter().map(|key| self.row(key)).collect();
        self.bundle.fold_of(&rows, dim, &self.bundle.shape().whole()).unwrap().vector().to_vec()
    }

    /// Keys by descending score, without those that are hidden.
    fn ranking(&self, history: &[&str], dim: usize, hidden: &[&str]) -> Vec<String> {
        let user = self.user(history, dim);
        let score = |key: &String| self.row(key)[..dim].iter().zip(&user).map(|(a, b)| a * b).sum::<f32>();
        let mut keys: Vec<&String> = self.keys.iter().filter(|key| !hidden.contains(&key.as_str())).collect();
        keys.sort_by(|a, b| score(b).total_cmp(&score(a)));
        keys.into_iter().cloned().collect()
    }
}

#[test]
fn a_new_item_is_recommended_at_every_dim_as_if_it_had_been_in_the_table() {
    let server = Server::start();
    let answer = add(&server, "new", &between(6, 7));
    assert_eq!((&answer["created"], &answer["added"]), (&json!(true), &json!(true)), "{answer}");
    assert_eq!((&answer["missing_features"], &answer["title"]), (&json!([]), &json!("New new")));
    add(&server, "other", &between(20, 21));
    let (new, other) = (between(6, 7), between(20, 21));
    let catalogue = Catalogue::with(bundle_dir(), &[("new", &new), ("other", &other)]);
    for dim in DIMS {
        for history in [vec!["i3", "i4", "i5"], vec!["i3", "new", "i5"], vec!["new"], vec!["i18", "i19", "other"]] {
            let reply = server.client.recommend(&json!({"history": history, "dim": dim, "k": 20}));
            assert_eq!(reply.item_ids(), catalogue.ranking(&history, dim, &history)[..20], "dim {dim} {history:?}");
            assert_eq!(reply.json()["unknown_items"], json!([]));
            assert_eq!(reply.json()["history_len"], history.len());
        }
    }
    let reply = server.client.recommend(&json!({"history": ["i3", "i4", "i5"], "dim": 16, "k": 3})).json();
    let found = reply["items"].as_array().unwrap().iter().find(|item| item["item_id"] == "new");
    assert_eq!(found.expect("it lies between the two items that follow")["title"], "New new");
    let metrics = server.client.get("/metrics").text;
    assert!(metrics.contains("recommender_added_items 2"), "{metrics}");
    assert_eq!(server.client.get("/v1/bundle").json()["added_items"], 2);
}

#[test]
fn every_way_to_ask_knows_it() {
    let server = Server::start();
    add(&server, "new", &between(6, 7));
    let ask = |body: Value| server.client.recommend(&body).item_ids();
    let history = json!(["i3", "i4", "i5"]);
    assert_eq!(ask(json!({"history": history, "only": ["new", "i9"], "k": 2})).len(), 2);
    assert_eq!(ask(json!({"history": history, "only": ["new"], "k": 2})), ["new"]);
    assert!(!ask(json!({"history": history, "exclude": ["new"], "k": 20})).contains(&"new".to_owned()));
    assert!(!ask(json!({"history": ["i3", "new"], "k": 20})).contains(&"new".to_owned()), "it was seen");
    assert!(ask(json!({"history": ["i3", "new"], "k": 20, "include_seen": true})).contains(&"new".to_owned()));
    assert!(ask(json!({"history": history, "k": 8, "diversity": 0.1})).contains(&"new".to_owned()));
    let explained = server.client.recommend(&json!({"history": ["new"], "k": 3, "dim": 16, "explain": true})).json();
    let because = explained["items"][0]["because"].as_array().unwrap();
    assert!(because.iter().all(|because| because["item_id"] == "new" && because["title"] == "New new"), "{explained}");
    assert!(!because.is_empty(), "{explained}");
    let requests: Vec<Value> = (1..=5).map(|k| json!({"history": history, "k": 4 + k, "dim": 16})).collect();
    let batch = server.client.post("/v1/recommend/batch", &json!({"requests": requests})).json();
    for (answer, request) in batch["answers"].as_array().unwrap().iter().zip(requests) {
        assert_eq!(answer["items"], server.client.recommend(&request).json()["items"], "{request}");
    }
    for path in ["/v1/items?title=new%20NEW", "/v1/items?limit=100"] {
        let found = server.client.get(path).json();
        let last = found["items"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(last, json!({"item_id": "new", "title": "New new", "added": true, "hidden": false}), "{path}");
    }
    let similar = server.client.get("/v1/items/new/similar?k=2&dim=16").item_ids();
    assert_eq!(similar.len(), 2);
    assert!(similar.iter().all(|key| ["i6", "dir/é 7"].contains(&key.as_str())), "{similar:?}");
    assert!(server.client.get("/v1/items/i6/similar?k=3&dim=16").item_ids().contains(&"new".to_owned()));
    assert_eq!(server.client.get("/v1/items/new").json()["title"], "New new");
}

#[test]
fn events_of_an_item_count_from_the_moment_it_is_known() {
    let server = Server::start();
    for item in ["i3", "new", "i5"] {
        let answer = server.client.event(&json!({"user_id": "ada", "item_id": item}));
        assert_eq!(answer["known_item"], item != "new");
    }
    let user = json!({"user_id": "ada", "dim": 16, "k": 20});
    let before = server.client.recommend(&user).json();
    assert_eq!((&before["history_len"], &before["unknown_items"]), (&json!(2), &json!(["new"])));
    add(&server, "new", &between(6, 7));
    let (one, two) = (between(6, 7), between(11, 12));
    let expect = |features: &[f32]| {
        Catalogue::with(bundle_dir(), &[("new", features)]).ranking(&["i3", "new", "i5"], 16, &["i3", "new", "i5"])
    };
    let after = server.client.recommend(&user);
    assert_eq!((&after.json()["history_len"], &after.json()["unknown_items"]), (&json!(3), &json!([])));
    assert_eq!(after.item_ids(), expect(&one)[..20]);
    // Other features of the same item: the vector that was kept for the user is not used any more.
    assert_eq!(add(&server, "new", &between(11, 12))["created"], false);
    assert_eq!(server.client.recommend(&user).item_ids(), expect(&two)[..20]);
    assert_eq!(delete(&server, "new").status, 200);
    let gone = server.client.recommend(&user).json();
    assert_eq!((&gone["history_len"], &gone["unknown_items"]), (&json!(2), &json!(["new"])));
    assert_eq!(gone["items"], before["items"]);
    assert_eq!(server.client.event(&json!({"user_id": "bo", "item_id": "new"}))["known_item"], false);
}

#[test]
fn a_removed_item_is_gone_and_a_trained_one_is_hidden_until_it_is_put() {
    let server = Server::start();
    for name in ["a", "b", "c"] {
        add(&server, name, &between(6, 7));
    }
    let all =
        || server.client.recommend(&json!({"history": ["i3"], "k": 20, "only": ["a", "b", "c", "i6"]})).item_ids();
    assert_eq!(all().len(), 4);
    let answer = delete(&server, "a").json();
    assert_eq!((&answer["removed"], &answer["hidden"]), (&json!(true), &json!(true)));
    // The last one took its place, under its own name.
    let left = all();
    assert!(left.len() == 3 && !left.contains(&"a".to_owned()), "{left:?}");
    for name in ["b", "c"] {
        assert_eq!(server.client.get(&format!("/v1/items/{name}")).json()["title"], format!("New {name}"));
    }
    assert_eq!(delete(&server, "a").status, 404);
    assert_eq!(server.client.get("/v1/items/a").status, 404);
    assert_eq!(server.client.get("/v1/items/a/similar").status, 404);

    let answer = delete(&server, "i6").json();
    assert_eq!((&answer["removed"], &answer["hidden"]), (&json!(false), &json!(true)));
    assert!(!all().contains(&"i6".to_owned()));
    let hidden = server.client.get("/v1/items/i6");
    assert!(hidden.status == 404 && hidden.text.contains("is hidden"), "{}", hidden.text);
    assert_eq!(server.client.get("/v1/items?title=item%206").json()["items"][0]["hidden"], true);
    let answer = add(&server, "i6", &between(1, 2));
    assert_eq!((&answer["added"], &answer["title"]), (&json!(false), &json!("Item 6")), "its own row counts: {answer}");
    assert!(all().contains(&"i6".to_owned()));
    add(&server, "a", &between(6, 7));
    assert!(all().contains(&"a".to_owned()), "put again");
}

#[test]
fn items_are_there_after_a_restart_and_a_swap_projects_them_anew() {
    other_bundle();
    bundle_with_one_more();
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let features = between(6, 7);
    let server = Server::on(&state, |_| ());
    add(&server, "new", &features);
    // The next Bundle but one was trained on this one.
    add(&server, "i31", &between(8, 9));
    server.stop().unwrap();

    let server = Server::on(&state, |_| ());
    let body = json!({"history": ["i3", "i4", "i5"], "dim": 16, "k": 20});
    let second = between(8, 9);
    let check = |dir: &Path, added: &[(&str, &[f32])]| {
        let history = ["i3", "i4", "i5"];
        let expect = Catalogue::with(dir, added).ranking(&history, 16, &history);
        assert_eq!(server.client.recommend(&body).item_ids(), expect[..20], "{}", dir.display());
    };
    check(bundle_dir(), &[("new", &features), ("i31", &second)]);
    let admin = [("content-type", "application/json"), ("x-api-key", "key-of-root")];
    let load = |name: &str| {
        let reply = server.client.call("POST", "/admin/v1/bundle", &admin, &json!({"bundle": name}).to_string());
        assert_eq!(reply.status, 200, "{}", reply.text);
        reply.json()["added_items"].as_u64().unwrap()
    };
    assert_eq!(load("other"), 2);
    check(other_bundle(), &[("new", &features), ("i31", &second)]);
    assert_eq!(load("more"), 1, "it knows one of them itself");
    check(bundle_with_one_more(), &[("new", &features)]);
    // What changes while a Bundle is out of service is there when it comes back.
    let third = between(1, 2);
    add(&server, "third", &third);
    assert_eq!(server.client.call("POST", "/admin/v1/bundle/rollback", &admin, "").status, 200);
    check(other_bundle(), &[("new", &features), ("i31", &second), ("third", &third)]);
}

#[test]
fn what_does_not_fit_is_refused_and_named() {
    let server = Server::with(|config| config.limits.added_items = 2);
    let check = |key: &str, body: Value, status: u16, detail: &str| {
        let reply = put(&server, key, &body);
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
        assert!(reply.json()["detail"].as_str().unwrap().contains(detail), "{body}: {} lacks {detail:?}", reply.text);
    };
    check("x", json!({}), 400, "missing field `features`");
    check("x", json!({"features": {}}), 422, "features is empty");
    check("x", json!({"features": {"sound": [1.0]}}), 422, "features.sound was not trained on");
    check("x", json!({"features": {"text": [1.0]}}), 422, "features.text has 1 numbers; send 30");
    check("x", json!({"features": {"text": "a"}}), 400, "features.text");
    check("x", json!({"features": {"text": vec![1e5; ITEMS]}}), 422, "the longest trained one is");
    check("x", json!({"features": {"text": between(1, 2)}, "titel": "x"}), 400, "unknown field `titel`");
    check("x", json!({"title": "", "features": {"text": between(1, 2)}}), 400, "title");
    check(&"x".repeat(41), json!({"features": {"text": between(1, 2)}}), 400, "id has 41 bytes");
    let infinite = format!("{{\"features\": {{\"text\": [{}1e39]}}}}", "0,".repeat(29));
    let reply = server.client.call("PUT", "/v1/items/x", &KEEPER, &infinite);
    assert_eq!(reply.status, 400);
    assert!(reply.text.contains("features: text[29] is inf"), "{}", reply.text);
    assert_eq!(server.client.get("/v1/items/x").status, 404, "nothing was stored");

    add(&server, "a", &between(1, 2));
    add(&server, "b", &between(1, 2));
    check("c", json!({"features": {"text": between(1, 2)}}), 409, "limits.added_items allows 2");
    assert_eq!(add(&server, "a", &between(3, 4))["created"], false, "replacing is no growth");
    assert_eq!(add(&server, "i5", &between(3, 4))["added"], false, "a trained item does not count");
    delete(&server, "a");
    add(&server, "c", &between(1, 2));
    let reply = server.client.call("POST", "/v1/items/c", &KEEPER[..1], "{}");
    assert_eq!((reply.status, reply.header("allow")), (405, "GET, PUT, DELETE"));
}

/// The clock is asked between the look at the limit and the write, which is when the other one comes.
#[test]
fn a_put_that_loses_the_last_place_stores_and_hides_nothing() {
    bundle_with_one_more();
    let (store, late) = (Arc::new(OnceLock::<UserStateStore>::new()), Arc::new(AtomicBool::new(false)));
    let (shared, coming) = (Arc::clone(&store), Arc::clone(&late));
    let other = || NewItem {
        item_id: "first".into(),
        title: None,
        content: ItemContent::new(BTreeMap::from([("text".to_owned(), between(6, 7))]), BTreeMap::new()).unwrap(),
    };
    let clock = move || {
        if coming.swap(false, Ordering::Relaxed) {
            shared.get().unwrap().put_item(&other(), NOW_MS).unwrap();
        }
        NOW_MS
    };
    let server = Server::timed(Arc::new(clock), |config| config.limits.added_items = 1);
    let held = server.store.clone().unwrap();
    assert!(store.set(held.clone()).is_ok());
    // Only the server's clock keeps it open.
    drop(store);
    late.store(true, Ordering::Relaxed);
    // The next Bundle was trained on this one.
    let reply = put(&server, "i31", &json!({"title": "Late", "features": {"text": between(8, 9)}}));
    assert_eq!(reply.status, 409, "{}", reply.text);
    assert_eq!(server.client.get("/v1/items/first").status, 200);
    assert_eq!(held.item_content("i31").unwrap(), None);
    let admin = [("content-type", "application/json"), ("x-api-key", "key-of-root")];
    let load = |name: &str| {
        let reply = server.client.call("POST", "/admin/v1/bundle", &admin, &json!({"bundle": name}).to_string());
        assert_eq!(reply.status, 200, "{}", reply.text);
    };
    load("more");
    let shown = server.client.get("/v1/items/i31");
    assert_eq!((shown.status, &shown.json()["title"]), (200, &json!("Item 31")));
}

/// What DELETE answers as hidden is hidden under a Bundle that was trained on it, until it is put again.
#[test]
fn a_removed_item_is_hidden_under_the_next_bundle_until_it_is_put() {
    bundle_with_one_more();
    let server = Server::start();
    add(&server, "i31", &between(8, 9));
    let answer = delete(&server, "i31").json();
    assert_eq!((&answer["removed"], &answer["hidden"]), (&json!(true), &json!(true)));
    let admin = [("content-type", "application/json"), ("x-api-key", "key-of-root")];
    let reply = server.client.call("POST", "/admin/v1/bundle", &admin, &json!({"bundle": "more"}).to_string());
    assert_eq!(reply.status, 200, "{}", reply.text);
    let hidden = server.client.get("/v1/items/i31");
    assert!(hidden.status == 404 && hidden.text.contains("is hidden"), "{}", hidden.text);
    add(&server, "i31", &between(8, 9));
    assert_eq!(server.client.get("/v1/items/i31").status, 200);
}

/// What a stream brings, within a second and without a call.
#[test]
fn an_upsert_with_vectors_makes_an_item_and_one_that_cannot_be_placed_is_left_out() {
    let server = Server::start();
    let store = server.store.clone().unwrap();
    // What is there at the start is taken in by the start: this comes later.
    assert_eq!(server.client.get("/readyz").status, 200);
    let upsert = |key: &str, features: Vec<f32>| StreamEvent::ItemUpsert {
        item_id: key.into(),
        timestamp_ms: NOW_MS,
        title: format!("Stream {key}"),
        text: None,
        content: Some(Box::new(
            ItemContent::new(BTreeMap::from([("text".to_owned(), features)]), BTreeMap::new()).unwrap(),
        )),
    };
    store.record(&[upsert("streamed", between(6, 7)), upsert("narrow", vec![1.0])]).unwrap();
    let within_a_second = |status: u16| {
        let begun = std::time::Instant::now();
        while server.client.get("/v1/items/streamed").status != status {
            assert!(begun.elapsed() < std::time::Duration::from_secs(1), "it takes longer than a second");
        }
    };
    within_a_second(200);
    let reply = server.client.recommend(&json!({"history": ["i3", "i4", "i5"], "dim": 16, "k": 3}));
    assert!(reply.item_ids().contains(&"streamed".to_owned()), "{}", reply.text);
    assert_eq!(server.client.get("/v1/items/narrow").status, 404);
    let metrics = server.client.get("/metrics").text;
    assert!(metrics.contains("recommender_left_out_items 1"), "{metrics}");
    store.record(&[StreamEvent::ItemHide { item_id: "streamed".into(), timestamp_ms: NOW_MS + 1 }]).unwrap();
    within_a_second(404);
    let reply = server.client.recommend(&json!({"history": ["i3", "i4", "i5"], "dim": 16, "k": 20}));
    assert!(!reply.item_ids().contains(&"streamed".to_owned()));
    // Hidden is not gone: it counts in histories.
    assert_eq!(server.client.recommend(&json!({"history": ["streamed"]})).json()["history_len"], 1);
}

/// Ids move when items go; an answer never mixes two states.
#[test]
fn while_items_come_and_go_every_answer_is_of_one_state() {
    let server = Server::start();
    for name in ["n0", "n1", "n2", "n3"] {
        add(&server, name, &between(6, 7));
    }
    server.client.event(&json!({"user_id": "ada", "item_id": "n0"}));
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        for thread in 0..4 {
            let (server, stop) = (&server, &stop);
            scope.spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    let only = ["n0", "n1", "n2", "n3", "i6"];
                    let body = match thread % 2 {
                        0 => json!({"user_id": "ada", "only": only}),
                        _ => json!({"history": ["n3", "i4"], "only": only, "explain": true, "diversity": 0.3}),
                    };
                    let reply = server.client.recommend(&body).json();
                    for item in reply["items"].as_array().unwrap() {
                        let key = item["item_id"].as_str().unwrap();
                        let title = if key == "i6" { "Item 6".to_owned() } else { format!("New {key}") };
                        assert_eq!(item["title"], title, "{reply}");
                        assert!(only.contains(&key), "{reply}");
                    }
                    let similar = server.client.get("/v1/items/i6/similar?k=20").json();
                    assert!(similar["items"].as_array().unwrap().iter().all(|item| item["item_id"] != ""));
                }
            });
        }
        for round in 0..30 {
            let name = ["n0", "n1", "n2", "n3"][round % 4];
            assert_eq!(delete(&server, name).status, 200);
            add(&server, name, &between(6 + round % 5, 7));
        }
        drop(stopping);
    });
}

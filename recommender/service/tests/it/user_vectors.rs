//! A known user costs no model step, and never gets an answer from before the last event.

use crate::fixture::{DIMS, MAX_HISTORY, Server, StopOnDrop, bundle_dir, key, other_bundle};
use feature_store::{Event, StreamEvent, UserStateStore};
use serde_json::json;
use std::path::Path;

fn count(server: &Server, outcome: &str) -> f64 {
    let name = format!("recommender_user_vectors_total{{outcome=\"{outcome}\"}} ");
    let text = server.client.get("/metrics").text;
    text.lines().find_map(|line| line.strip_prefix(&name)).map_or(0.0, |value| value.parse().unwrap())
}

#[test]
fn the_second_request_and_every_smaller_dim_take_no_model_step() {
    let server = Server::start();
    for item in 1..=5 {
        server.client.event(&json!({"user_id": "ada", "item_id": key(item)}));
    }
    let history: Vec<String> = (1..=5).map(key).collect();
    for (step, dim) in [16, 8, 4, 16].into_iter().enumerate() {
        let known = server.client.recommend(&json!({"user_id": "ada", "dim": dim, "k": 10}));
        assert_eq!((count(&server, "computed"), count(&server, "kept")), (1.0, step as f64), "dim {dim}");
        let inline = server.client.recommend(&json!({"history": history, "dim": dim, "k": 10}));
        assert_eq!(known.item_ids(), inline.item_ids(), "a prefix is the smaller model's vector, dim {dim}");
    }
    server.client.recommend(&json!({"user_id": "bo", "dim": DIMS[0]}));
    server.client.recommend(&json!({"user_id": "bo", "dim": DIMS[2]}));
    assert_eq!(count(&server, "computed"), 3.0, "a larger dim than the one kept is computed");
}

fn keys(items: &[usize]) -> Vec<String> {
    items.iter().copied().map(key).collect()
}

/// Items that the model has read for user vectors.
pub(crate) fn model_items(server: &Server) -> f64 {
    let text = server.client.get("/metrics").text;
    let line = text.lines().find_map(|line| line.strip_prefix("recommender_model_items_total "));
    line.expect("the number is there").parse().unwrap()
}

/// A store with one user who saw so many items, oldest first.
fn fill(state: &Path, max_history: usize, events: usize) {
    let event = |n: usize| {
        let (user_id, item_id) = ("ada".to_owned(), key(n % 30 + 1));
        StreamEvent::Interaction(Event { user_id, item_id, timestamp_ms: n as i64, event_id: None })
    };
    let store = UserStateStore::open(state, max_history).unwrap();
    store.record(&(0..events).map(event).collect::<Vec<_>>()).unwrap();
}

#[test]
fn an_event_costs_the_same_after_10_events_and_after_10_000() {
    // Counted over one whole period of the window, so that folding anew is in it.
    let period = MAX_HISTORY;
    let cost = |events: usize| {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        fill(&state, 10_000, events);
        let server = Server::on(&state, |config| config.state.max_history = 10_000);
        server.client.recommend(&json!({"user_id": "ada", "dim": 16}));
        let before = model_items(&server);
        let mut costs = Vec::new();
        for step in 0..period {
            let time_ms = 20_000 + step;
            server.client.event(&json!({"user_id": "ada", "item_id": key(step + 1), "timestamp_ms": time_ms}));
            let so_far = model_items(&server);
            server.client.recommend(&json!({"user_id": "ada", "dim": 16, "include_seen": true}));
            costs.push((model_items(&server) - so_far) as usize);
        }
        assert_eq!(count(&server, "computed"), 1.0, "the history was read once, of {events}");
        assert_eq!(count(&server, "advanced"), period as f64);
        costs.sort_unstable();
        ((model_items(&server) - before) as usize, costs)
    };
    // One step each, but for the event at which the window moves: then its 8 items are read.
    let mut flat = vec![1; period - 1];
    flat.push(MAX_HISTORY);
    for events in [16, 100, 1_000, 10_000] {
        assert_eq!(cost(events), (2 * period - 1, flat.clone()), "after {events} events");
    }
    let (short, _) = cost(10);
    assert!(short < 2 * period, "{short} after 10 events");
}

#[test]
fn a_state_that_was_carried_on_is_the_state_that_is_folded_anew() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let ask = |server: &Server| {
        let reply = server.client.recommend(&json!({"user_id": "ada", "dim": 16, "k": 8, "include_seen": true}));
        let scores: Vec<f64> =
            reply.json()["items"].as_array().unwrap().iter().map(|item| item["score"].as_f64().unwrap()).collect();
        (reply.item_ids(), reply.json()["history_len"].clone(), reply.json()["unknown_items"].clone(), scores)
    };
    let mut carried = Server::on(&state, |_| ());
    for step in 0..45_usize {
        // Now and then an item that the Bundle does not know, and one that is late.
        let item = if step % 7 == 3 { format!("new {step}") } else { key(step * 11 % 30 + 1) };
        let time_ms = if step % 13 == 9 { 5 * step } else { 10 * step };
        carried.client.event(&json!({"user_id": "ada", "item_id": item, "timestamp_ms": time_ms}));
        let with_state = ask(&carried);
        if step % 4 == 0 {
            carried.stop().unwrap();
            carried = Server::on(&state, |_| ());
            let anew = ask(&carried);
            assert_eq!((&with_state.0, &with_state.1, &with_state.2), (&anew.0, &anew.1, &anew.2), "event {step}");
            for (one, other) in with_state.3.iter().zip(&anew.3) {
                assert!((one - other).abs() <= 1e-4 * (1.0 + other.abs()), "{one} is not {other}, event {step}");
            }
        }
    }
}

#[test]
fn late_events_and_another_bundle_fold_anew() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let server = Server::on(&state, |_| ());
    let ask = || server.client.recommend(&json!({"user_id": "ada", "dim": 16})).json()["history_len"].clone();
    let put = |item: usize, time_ms: i64| {
        server.client.event(&json!({"user_id": "ada", "item_id": key(item), "timestamp_ms": time_ms}));
    };
    let counts = || (count(&server, "computed"), count(&server, "advanced"), count(&server, "kept"));
    put(1, 100);
    assert_eq!((ask(), counts()), (json!(1), (1.0, 0.0, 0.0)));
    put(2, 200);
    put(3, 300);
    assert_eq!((ask(), counts()), (json!(3), (1.0, 1.0, 0.0)), "two events, one advance");
    put(4, 250);
    assert_eq!((ask(), counts()), (json!(4), (2.0, 1.0, 0.0)), "a late one changes what came before");
    put(5, 400);
    assert_eq!((ask(), counts()), (json!(5), (2.0, 2.0, 0.0)));
    let inline = server.client.recommend(&json!({"history": keys(&[1, 2, 4, 3, 5]), "dim": 16}));
    assert_eq!(server.client.recommend(&json!({"user_id": "ada", "dim": 16})).item_ids(), inline.item_ids());

    let folder = other_bundle().file_name().unwrap().to_str().unwrap();
    assert_ne!(other_bundle(), bundle_dir());
    let reply = server.client.call(
        "POST",
        "/admin/v1/bundle",
        &[("content-type", "application/json"), ("x-api-key", "key-of-root")],
        &json!({"bundle": folder}).to_string(),
    );
    assert_eq!(reply.status, 200, "{}", reply.text);
    let after = server.client.recommend(&json!({"user_id": "ada", "dim": 16}));
    let inline = server.client.recommend(&json!({"history": keys(&[1, 2, 4, 3, 5]), "dim": 16}));
    assert_eq!(after.item_ids(), inline.item_ids(), "the state is the new Bundle's");
    put(6, 500);
    let after = server.client.recommend(&json!({"user_id": "ada", "dim": 16}));
    let inline = server.client.recommend(&json!({"history": keys(&[1, 2, 4, 3, 5, 6]), "dim": 16}));
    assert_eq!(after.item_ids(), inline.item_ids(), "and is carried on by it");
}

#[test]
fn an_answer_reflects_every_acknowledged_event_whoever_asks_meanwhile() {
    let server = Server::start();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    server.client.recommend(&json!({"user_id": "ada"}));
                }
            });
        }
        for step in 1..=60usize {
            server.client.event(&json!({"user_id": "ada", "item_id": key(step % 20 + 1), "timestamp_ms": step}));
            let reply = server.client.recommend(&json!({"user_id": "ada"}));
            // The window moves every 8 events.
            let read = if step < 16 { step } else { 8 + step % 8 };
            assert_eq!(reply.json()["history_len"], read, "event {step}");
            let newest = key(step % 20 + 1);
            assert!(!reply.item_ids().contains(&newest), "an item just seen came back");
        }
    });
}

//! A known user costs no model step, and never gets an answer from before the last event.

use crate::fixture::{DIMS, Server, StopOnDrop, key};
use serde_json::json;

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
            assert_eq!(reply.json()["history_len"], step.min(8), "event {step}");
            let newest = key(step % 20 + 1);
            assert!(!reply.item_ids().contains(&newest), "an item just seen came back");
        }
    });
}

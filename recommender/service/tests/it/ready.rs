//! `/readyz?verbose`: each part of the service by name, and which of them keeps traffic away.

use crate::fixture::{DIMS, ITEMS, NOW_MS, Server, bundle_dir, key};
use fmrlrec::Bundle;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[test]
fn every_part_is_named_and_how_it_is_doing() {
    let server = Server::start();
    server.client.event(&json!({"user_id": "ada", "item_id": key(1)}));
    let keeper = [("content-type", "application/json"), ("x-api-key", "key-of-keeper")];
    let features = json!({"features": {"text": vec![0.1; ITEMS]}}).to_string();
    assert_eq!(server.client.call("PUT", "/v1/items/new", &keeper, &features).status, 200);
    let id = Bundle::open(bundle_dir()).unwrap().id().to_owned();
    let tier = |name: &str, dim: usize| json!({"name": name, "dim": dim, "dim_now": dim, "degraded": false});
    let checks = json!({
        "draining": {"status": "ok"},
        "bundle": {"status": "ok", "bundle_id": id, "dims": DIMS, "items": ITEMS, "loaded_ms": NOW_MS},
        "user_state": {"status": "ok", "kind": "folder", "users": 1},
        "item_changes": {"status": "ok", "added_items": 1, "left_out_items": 0},
        "tiers": {"status": "ok", "tiers": [tier("bulk", 4), tier("standard", 8), tier("premium", 16)]},
    });
    let expect = json!({"status": "ready", "bundle_id": id, "users": 1, "checks": checks});
    for path in ["/readyz?verbose", "/readyz?verbose=1", "/readyz?a=b&verbose=true"] {
        assert_eq!(server.client.get(path).json(), expect, "{path}");
    }
    assert_eq!(server.client.get("/readyz").json().get("checks"), None);
}

#[test]
fn a_service_that_stops_says_which_part_is_failing() {
    let mut server = Server::with(|config| config.server.drain_delay_s = 2);
    server.ask_to_stop();
    let end = Instant::now() + Duration::from_millis(1500);
    let reply = loop {
        let reply = server.client.get("/readyz?verbose");
        if reply.status != 200 {
            break reply;
        }
        assert!(Instant::now() < end, "it is still ready");
    };
    let problem = reply.json();
    assert_eq!((reply.status, reply.header("content-type")), (503, "application/problem+json"), "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("draining: the service is stopping"), "{problem}");
    assert_eq!(problem["checks"]["draining"]["status"], "failing");
    let others: Vec<&Value> = ["bundle", "user_state", "item_changes", "tiers"]
        .iter()
        .map(|part| &problem["checks"][part]["status"])
        .collect();
    assert_eq!(others, ["ok"; 4], "{problem}");
    let short = server.client.get("/readyz").json();
    assert_eq!((&short["status"], short.get("checks")), (&json!(503), None));
    server.stop().unwrap();
}

#[test]
fn the_parts_are_described() {
    let server = Server::start();
    let document = server.client.get("/openapi.json").json();
    let described = |name: &str| document["components"]["schemas"][name]["properties"].as_object().unwrap().clone();
    let mut parts: Vec<String> = described("Checks").keys().cloned().collect();
    parts.sort();
    assert_eq!(parts, ["bundle", "draining", "item_changes", "stream", "tiers", "user_state"]);
    assert_eq!(document["components"]["schemas"]["CheckStatus"]["enum"], json!(["ok", "degraded", "failing"]));
    assert!(described("ReadyResponse").contains_key("checks") && described("Problem").contains_key("checks"));
}

//! Changing tiers while the service runs: dry run, validation, history, and what a restart brings back.

use crate::client::Reply;
use crate::fixture::{Server, bundle_dir, key, train_config, train_into};
use fmrlrec::{ModelConfig, ObjectiveConfig, TrainConfig};
use serde_json::{Value, json};

const HEADERS: [(&str, &str); 2] = [("content-type", "application/json"), ("x-api-key", "key-of-root")];

fn show(server: &Server) -> Value {
    let reply = server.client.call("GET", "/admin/v1/tiers", &HEADERS, "");
    assert_eq!(reply.status, 200, "{}", reply.text);
    reply.json()
}

fn change(server: &Server, body: &Value) -> Reply {
    server.client.call("PUT", "/admin/v1/tiers", &HEADERS, &body.to_string())
}

/// The tiers of now with one field of one tier changed, as a request.
fn with(server: &Server, tier: usize, field: &str, value: Value) -> Value {
    let now = show(server);
    let mut body = json!({"tiers": now["tiers"], "version": now["version"], "note": "a test"});
    body["tiers"][tier][field] = value;
    body
}

fn dim_of(server: &Server, tier: &str) -> Value {
    server.client.recommend(&json!({"history": [key(1)], "tier": tier})).json()["dim"].clone()
}

#[test]
fn a_change_is_live_at_once_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let server = Server::on(&state, |_| ());
    assert_eq!((show(&server)["version"].clone(), dim_of(&server, "bulk")), (json!(1), json!(4)));

    let mut body = with(&server, 0, "dim", json!(16));
    body["dry_run"] = json!(true);
    let dry = change(&server, &body).json();
    assert_eq!(
        (&dry["changes"], &dry["version"], &dry["dry_run"]),
        (&json!(["bulk.dim: 4 -> 16"]), &json!(1), &json!(true))
    );
    assert_eq!(
        (show(&server)["version"].clone(), dim_of(&server, "bulk")),
        (json!(1), json!(4)),
        "a dry run changes nothing"
    );

    body["dry_run"] = json!(false);
    let done = change(&server, &body);
    assert_eq!((done.status, &done.json()["version"]), (200, &json!(2)), "{}", done.text);
    assert_eq!(dim_of(&server, "bulk"), 16);
    let line = json!({"version": 2, "at_ms": crate::fixture::NOW_MS, "by": "root", "note": "a test", "changes": ["bulk.dim: 4 -> 16"]});
    assert_eq!(show(&server)["history"], json!([line]));
    assert_eq!(change(&server, &body).status, 409, "the version it was made from is not live any more");
    server.stop().unwrap();

    let server = Server::on(&state, |_| ());
    assert_eq!(dim_of(&server, "bulk"), 16);
    assert_eq!(show(&server)["history"], json!([line]));
    let removed = {
        let mut body = with(&server, 1, "default", json!(true));
        body["tiers"].as_array_mut().unwrap().remove(0);
        change(&server, &body)
    };
    assert_eq!(removed.json()["changes"], json!(["bulk: removed"]), "{}", removed.text);
    let reply = server.client.post("/v1/recommend", &json!({"history": [], "tier": "bulk"}));
    assert_eq!(reply.status, 400);
    server.stop().unwrap();
}

#[test]
fn a_broken_rule_changes_nothing() {
    let server = Server::start();
    let check = |tier: usize, field: &str, value: Value, detail: &str| {
        let reply = change(&server, &with(&server, tier, field, value));
        assert_eq!(reply.status, 400, "{}", reply.text);
        let found = reply.json()["detail"].as_str().unwrap().to_string();
        assert!(found.contains(detail), "{found:?} lacks {detail:?}");
    };
    check(0, "dim", json!(5), "asks for dim 5, which the Bundle was not trained at");
    check(0, "dim", json!("4"), "tiers[0].dim: invalid type: string");
    check(0, "default", json!(true), "default = true is on bulk and standard");
    check(0, "share_permille", json!(0), "tiers.share_permille: 0");
    check(0, "colour", json!("red"), "unknown field `colour`");
    check(2, "name", json!("gold"), "an API key of the config has tier \"premium\"");
    let mut long = with(&server, 0, "dim", json!(8));
    long["note"] = json!("n".repeat(501));
    assert_eq!(change(&server, &long).status, 400);
    let now = show(&server);
    assert_eq!((&now["version"], &now["history"]), (&json!(1), &json!([])));
    assert_eq!(now["live"][0], json!({"name": "bulk", "level": 0, "dim_now": 4, "queued": 0}));
}

#[test]
fn of_two_changes_at_once_one_wins() {
    let server = Server::start();
    let bodies: Vec<Value> = (1..=8).map(|k| with(&server, 0, "max_k", json!(k))).collect();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> = bodies.iter().map(|body| scope.spawn(|| change(&server, body).status)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|&&status| status == 200).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 409].contains(status)), "{statuses:?}");
    assert_eq!(show(&server)["version"], 2);
}

#[test]
fn a_damaged_file_is_named_and_refused() {
    let check = |text: &str, expect: &str| {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        std::fs::write(state.with_extension("tiers.json"), text).unwrap();
        let error = Server::on(&state, |_| ()).stop().unwrap_err().to_string();
        assert!(error.contains("tiers.json") && error.contains(expect), "{error:?} lacks {expect:?}");
    };
    check("{\"schema\": 1", "EOF");
    check("{}", "missing field `schema`");
    check("{\"schema\": 2, \"version\": 1, \"tiers\": [], \"history\": []}", "version 2; this program reads version 1");
    check("{\"schema\": 1, \"version\": 1, \"tiers\": [], \"history\": []}", "the number of tiers: 0");
}

/// A restart opens the Bundle of the config, whatever was swapped in: it must come up.
#[test]
fn tiers_that_only_a_swapped_in_bundle_fits_are_refused() {
    let wide = bundle_dir().with_file_name("wide");
    let model = ModelConfig { nesting_dims: vec![4, 8, 16, 24], ..train_config().model };
    let objective =
        ObjectiveConfig { dim_weights: vec![1.0; 4], scaled_logits: false, distillation: 0.0, exits: Vec::new() };
    train_into(&wide, TrainConfig { model, objective, epochs: 1, ..train_config() });
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let server = Server::on(&state, |_| ());
    let load = server.client.call("POST", "/admin/v1/bundle", &HEADERS, "{\"bundle\": \"wide\"}");
    assert_eq!(load.status, 200, "{}", load.text);
    let refused = change(&server, &with(&server, 2, "dim", json!(24)));
    assert_eq!(refused.status, 409, "{}", refused.text);
    for expect in ["a restart serves the Bundle of the config", "dim 24", "set bundle = "] {
        assert!(refused.text.contains(expect), "{}", refused.text);
    }
    assert_eq!(change(&server, &with(&server, 0, "dim", json!(16))).status, 200, "both Bundles have it");
    server.stop().unwrap();
    assert_eq!(dim_of(&Server::on(&state, |_| ()), "bulk"), 16);
}

#[test]
fn a_change_gives_nobody_a_fresh_burst() {
    let server = Server::with(|config| (config.tiers[0].rate_per_s, config.tiers[0].burst) = (1, 4));
    let ask = || {
        let body = json!({"history": [key(1)], "tier": "bulk"});
        (0..4).filter(|_| server.client.post("/v1/recommend", &body).status == 200).count()
    };
    assert_eq!(ask(), 4);
    let same = change(&server, &with(&server, 0, "max_k", json!(20)));
    assert_eq!((same.status, same.json()["changes"].clone()), (200, json!([])), "{}", same.text);
    assert_eq!(same.json()["version"], 1, "nothing was changed");
    assert!(ask() < 4, "the burst is used up");
    assert_eq!(change(&server, &with(&server, 0, "max_k", json!(10))).status, 200);
    assert!(ask() < 4, "also after a change of something else");
    assert_eq!(change(&server, &with(&server, 0, "burst", json!(5))).status, 200);
    assert_eq!(ask(), 4, "another rate begins anew");
}

//! Changing tiers while the service runs: dry run, validation, history, and what a restart brings back.

use crate::client::Reply;
use crate::fixture::{Server, key};
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

//! The whole flow through the binary on a small data set, and what survives a kill.

use crate::data::Data;
use crate::program::{Running, command, refuse, run, succeed, text};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;

const START: Duration = Duration::from_secs(60);

/// Sends JSON and gives status and body.
fn post(url: &str, body: &Value) -> (u16, Value) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(START)).build();
    let mut answer = config.new_agent().post(url).send_json(body).expect("the service answers");
    (answer.status().as_u16(), answer.body_mut().read_json().unwrap_or(Value::Null))
}

fn get(url: &str) -> (u16, String) {
    let config = ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(START)).build();
    let mut answer = config.new_agent().get(url).call().expect("the service answers");
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap_or_default())
}

fn serve(config: &Path, bundle: &Path) -> (Running, String) {
    let mut running = Running::start(command().args([
        "serve",
        "--config",
        text(config),
        "--bundle",
        text(bundle),
        "--bind",
        "127.0.0.1:0",
    ]));
    let url = running.base_url(START);
    (running, url)
}

fn recommend(url: &str, body: &Value) -> Value {
    let (status, answer) = post(&format!("{url}/v1/recommend"), body);
    assert_eq!(status, 200, "{body}: {answer}");
    answer
}

/// Whatever the answer calls its list, the ids in it.
fn item_ids(answer: &Value) -> Vec<String> {
    let items = answer["items"].as_array().unwrap_or_else(|| panic!("no items in {answer}"));
    items
        .iter()
        .map(|item| item["item_id"].as_str().unwrap_or_else(|| panic!("no item_id in {item}")).to_owned())
        .collect()
}

#[test]
fn evaluating_on_another_snapshot_of_the_same_items_says_so() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let bundle = data.trained(&snapshot, "bundle");
    let ratings = data.path("ratings.csv");
    fs::write(&ratings, fs::read_to_string(&ratings).unwrap() + "u1,i1,5,2000000\n").unwrap();
    let check = |name: &str, said: bool| {
        let (snapshot, report) = (data.built(name), data.path("report"));
        let args = ["evaluate", "--bundle", text(&bundle), "--snapshot", text(&snapshot), "--output", text(&report)];
        let done = run(args);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!(done.stderr.contains("is not the Snapshot that"), said, "{}", done.stderr);
    };
    check("later", true);
    fs::write(&ratings, fs::read_to_string(&ratings).unwrap().replace("u1,i1,5,2000000\n", "")).unwrap();
    check("again", false);
}

#[test]
fn build_train_evaluate_serve_event_kill_restart() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let bundle = data.trained(&snapshot, "bundle");

    let report_dir = data.path("report");
    let table =
        succeed(["evaluate", "--bundle", text(&bundle), "--snapshot", text(&snapshot), "--output", text(&report_dir)]);
    for part in ["Recall@10", "NDCG@10", "MRR@10", "popularity", "dim 4", "dim 8", "report.json"] {
        assert!(table.contains(part), "the table lacks {part}: {table}");
    }
    let evaluated: Value = serde_json::from_slice(&fs::read(report_dir.join("report.json")).unwrap()).unwrap();
    let trained: Value = serde_json::from_slice(&fs::read(bundle.join("report.json")).unwrap()).unwrap();
    assert_eq!(evaluated["dims"], trained["dims"], "evaluate disagrees with train");
    assert_eq!(evaluated["baselines"], trained["baselines"]);
    let validation = data.path("validation");
    succeed([
        "evaluate",
        "--bundle",
        text(&bundle),
        "--snapshot",
        text(&snapshot),
        "--split",
        "validation",
        "--output",
        text(&validation),
    ]);
    let validation: Value = serde_json::from_slice(&fs::read(validation.join("report.json")).unwrap()).unwrap();
    assert_eq!(validation["split"], "validation");

    let (running, url) = serve(&data.serve_config(), &bundle);
    assert_eq!(get(&format!("{url}/livez")).0, 200);
    assert_eq!(get(&format!("{url}/readyz")).0, 200);
    let fresh = recommend(&url, &json!({ "user_id": "ann", "k": 5 }));
    assert_eq!(item_ids(&fresh).len(), 5);
    for (place, item) in ["i3", "i4", "i5"].into_iter().enumerate() {
        let event =
            json!({ "user_id": "ann", "item_id": item, "timestamp_ms": 1000 + place, "event_id": format!("e{place}") });
        let (status, answer) = post(&format!("{url}/v1/events"), &event);
        assert!((200..300).contains(&status), "{status} {answer}");
    }
    let after = recommend(&url, &json!({ "user_id": "ann", "k": 5 }));
    assert_ne!(after["items"], fresh["items"], "the events changed nothing");
    // The same history inline gives the same answer as the one in the store.
    let inline = recommend(&url, &json!({ "history": ["i3", "i4", "i5"], "k": 5 }));
    assert_eq!(item_ids(&inline), item_ids(&after));

    // As hard as a stop can be: no handler runs.
    running.signal("KILL");
    drop(running);
    let (running, url) = serve(&data.serve_config(), &bundle);
    assert_eq!(recommend(&url, &json!({ "user_id": "ann", "k": 5 }))["items"], after["items"], "history was lost");

    // And as soft: it drains and ends well.
    running.signal("TERM");
    let done = running.wait(START);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(done.stderr.contains("stopping"), "{}", done.stderr);
}

#[test]
fn what_ingest_loads_serve_answers_from() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let bundle = data.trained(&snapshot, "bundle");
    let events = data.path("events.jsonl");
    let lines: String = ["i3", "i4", "i5"]
        .iter()
        .enumerate()
        .map(|(place, item)| format!("{{\"user_id\":\"bob\",\"item_id\":\"{item}\",\"timestamp_ms\":{place}}}\n"))
        .collect();
    fs::write(&events, lines).unwrap();
    // As many as the service's config says: it would refuse a store that keeps more.
    succeed(["ingest", "--events", text(&events), "--store", text(&data.state()), "--max-history", "50"]);
    let (running, url) = serve(&data.serve_config(), &bundle);
    let stored = recommend(&url, &json!({ "user_id": "bob", "k": 5 }));
    let inline = recommend(&url, &json!({ "history": ["i3", "i4", "i5"], "k": 5 }));
    assert_eq!(item_ids(&stored), item_ids(&inline));
    // The service has the store open: ingest says so and changes nothing.
    refuse(["ingest", "--events", text(&events), "--store", text(&data.state())], &[text(&data.state())]);
    drop(running);
}

#[test]
fn serve_refuses_what_it_cannot_serve() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let bundle = data.trained(&snapshot, "bundle");
    let config = data.serve_config();
    let good = fs::read_to_string(&config).unwrap();
    let check = |from: &str, to: &str, parts: &[&str]| {
        assert!(good.contains(from), "the config lacks {from:?}");
        fs::write(&config, good.replace(from, to)).unwrap();
        refuse(["serve", "--config", text(&config), "--bundle", text(&bundle), "--bind", "127.0.0.1:0"], parts);
    };
    check("dim = 4", "dim = 5", &["tiers.dim", "5", "[4, 8]"]);
    check("default = true", "default = false", &["tiers", "default"]);
    check("max_k = 20", "max_k = 0", &["limits.max_k", "0"]);
    check("max_k = 20", "", &["serve.toml", "max_k"]);
    fs::write(&config, &good).unwrap();

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    refuse(
        ["serve", "--config", text(&config), "--bundle", text(&bundle), "--bind", &address],
        &[&address, "in use", "--bind"],
    );
}

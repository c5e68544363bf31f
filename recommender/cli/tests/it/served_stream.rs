//! `serve --stream`: an event sent by HTTP is in the stream, and in the next recommendation, when the
//! answer says so; and it is still there after the process was killed.

use crate::data::Data;
use crate::program::{Running, command, run, say_skipped, succeed, text};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
const LOG: &str = "[log]\ndir = \"events\"\nsegment_bytes = 65536\nmax_segments = 1000\n";

/// A stream that shares the service's state.
fn config(dir: &Path, format: &str, source: &str) -> PathBuf {
    let path = dir.join("served-stream.toml");
    let text = format!(
        "format = \"{format}\"\nstart = \"earliest\"\n\n[batch]\nmax_messages = 50\nmax_wait_ms = 5\n\n\
         [state]\npath = \"unused\"\nmax_history = 40\n\n\
         [produce]\nacknowledge_ms = 3000\napplied_wait_ms = 5000\nmax_in_flight = 1000\n\n{source}"
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn kafka(brokers: &str) -> String {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!(
        "[kafka]\nbrokers = \"{brokers}\"\ntopic = \"serve-{nanos}\"\ngroup = \"serve-{nanos}\"\nsource = \"kafka:serve\"\n\
         queue_kib = 4096\nsession_timeout_ms = 6000\n"
    )
}

struct Service {
    running: Running,
    base: String,
}

impl Service {
    fn start(data: &Data, stream: &Path) -> Service {
        let args = ["serve", "--config", text(&data.serve_config()), "--stream", text(stream)].map(str::to_owned);
        let mut running = Running::start(command().args(args));
        let base = running.base_url(LIMIT);
        Service { running, base }
    }

    fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let answer = agent.post(format!("{}{path}", self.base)).send_json(body).unwrap();
        let status = answer.status().as_u16();
        (status, answer.into_body().read_json().unwrap())
    }

    fn event(&self, user: &str, item: &str, id: &str) -> (u16, Value) {
        self.post("/v1/events", &json!({"user_id": user, "item_id": item, "event_id": id}))
    }

    fn history_len(&self, user: &str) -> u64 {
        self.post("/v1/recommend", &json!({"user_id": user, "k": 3})).1["history_len"].as_u64().unwrap()
    }

    fn status(&self) -> Value {
        let answer = ureq::get(format!("{}/readyz?verbose", self.base)).call().unwrap();
        let answer: Value = answer.into_body().read_json().unwrap();
        answer["stream"].clone()
    }

    fn stop(self) {
        self.running.signal("INT");
        let done = self.running.wait(LIMIT);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
    }
}

/// Posts, reads back at once, kills, starts again, posts the same again.
fn events_are_read_back_and_survive(source: &str) {
    let data = Data::new();
    data.trained(&data.built("snapshot"), "bundle");
    let stream = config(data.root(), "native", source);
    let service = Service::start(&data, &stream);
    assert_eq!(service.history_len("ada"), 0);
    // The first one waits for the consumer to join its group.
    let started = Instant::now();
    while service.event("warm-up", "i1", "w").0 != 200 {
        assert!(started.elapsed() < LIMIT, "no event was applied: {}", service.status());
    }
    for (n, item) in ["i3", "i4", "i5"].into_iter().enumerate() {
        let (status, answer) = service.event("ada", item, &format!("e{n}"));
        assert_eq!((status, &answer["applied"]), (200, &json!(true)), "{answer}");
        assert!(answer["place"]["offset"].is_u64(), "{answer}");
        assert_eq!(service.history_len("ada"), n as u64 + 1, "what 200 promises");
    }
    let status = service.status();
    assert_eq!((&status["running"], &status["connected"], &status["lag"]), (&json!(true), &json!(true), &json!(0)));
    let metrics = ureq::get(format!("{}/metrics", service.base)).call().unwrap().into_body().read_to_string().unwrap();
    assert!(metrics.contains("recommender_stream_running 1\n"), "{metrics}");
    // Dropped, it is killed: what was acknowledged is in the stream, and applied once.
    drop(service);
    let service = Service::start(&data, &stream);
    assert_eq!(service.history_len("ada"), 3);
    let started = Instant::now();
    while service.event("ada", "i3", "e0").0 != 200 {
        assert!(started.elapsed() < LIMIT, "no event was applied: {}", service.status());
    }
    assert_eq!(service.history_len("ada"), 3, "a retry with its id changes nothing");
    service.stop();
}

#[test]
fn events_over_a_log_are_read_back_and_survive() {
    events_are_read_back_and_survive(LOG);
}

#[test]
fn events_over_a_topic_are_read_back_and_survive() {
    let Some(brokers) = std::env::var("RECOMMENDER_KAFKA").ok().filter(|brokers| !brokers.is_empty()) else {
        return say_skipped("RECOMMENDER_KAFKA names no broker (deploy/kafka-local.sh start prints one)");
    };
    events_are_read_back_and_survive(&kafka(&brokers));
}

#[test]
fn a_broker_that_is_down_refuses_events_and_recommendations_go_on() {
    let data = Data::new();
    data.trained(&data.built("snapshot"), "bundle");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let stream = config(data.root(), "native", &kafka(&format!("127.0.0.1:{port}")));
    let service = Service::start(&data, &stream);
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let sent = Instant::now();
    let body = json!({"user_id": "ada", "item_id": "i1", "event_id": "e"});
    let answer = agent.post(format!("{}/v1/events", service.base)).send_json(&body).unwrap();
    assert_eq!((answer.status().as_u16(), answer.headers()["retry-after"].to_str().unwrap()), (503, "5"));
    let detail = answer.into_body().read_to_string().unwrap();
    assert!(detail.contains("event_id"), "{detail}");
    // produce.acknowledge_ms is 3 s; the rest is a machine that does other things too.
    assert!(sent.elapsed() < Duration::from_secs(20), "{:?}", sent.elapsed());
    assert_eq!(service.history_len("ada"), 0);
    assert_eq!(service.status()["connected"], json!(false));
    service.stop();
}

#[test]
fn a_stream_of_another_format_takes_no_events_by_http() {
    let data = Data::new();
    data.trained(&data.built("snapshot"), "bundle");
    // The log must be there: nobody here begins one.
    let stream = config(data.root(), "native", LOG);
    Service::start(&data, &stream).stop();
    let stream = config(data.root(), "segment", LOG);
    let service = Service::start(&data, &stream);
    let (status, answer) = service.event("ada", "i1", "e");
    assert_eq!(status, 409, "{answer}");
    assert!(answer["detail"].as_str().unwrap().contains("Segment"), "{answer}");
    service.stop();
}

#[test]
fn the_state_is_the_fresh_replay_of_what_was_posted() {
    let data = Data::new();
    data.trained(&data.built("snapshot"), "bundle");
    let stream = config(data.root(), "native", LOG);
    let service = Service::start(&data, &stream);
    for n in 0..40 {
        assert_eq!(service.event(&format!("u{}", n % 3), &format!("i{n}"), &format!("e{n}")).0, 200);
    }
    service.stop();
    // The service's state, and one made from the log alone.
    let said = succeed(["ingest", "--config", text(&stream), "--until-end"]);
    assert!(said.contains("40 events applied"), "{said}");
    let table = |store: &Path, name: &str| {
        let path = data.path(name);
        let done = run(["export-interactions", "--store", text(store), "--output", text(&path)]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        std::fs::read(path).unwrap()
    };
    let served = table(&data.state(), "served.parquet");
    assert_eq!(served, table(&data.path("unused"), "replayed.parquet"));
}

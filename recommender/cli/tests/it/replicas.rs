//! Several services over one Redis server: what one is told, the other answers from; and a server that is
//! killed while clients post loses nothing that was acknowledged.

use crate::data::Data;
use crate::fault_table::row;
use crate::program::{Running, command, refuse, run, succeed, text};
use crate::redis_server::RedisServer;
use feature_store::UserStateStore;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

struct Replica {
    _running: Running,
    base: String,
}

impl Replica {
    fn start(data: &Data) -> Replica {
        let mut running = Running::start(command().args(["serve", "--config", text(&data.serve_config())]));
        let base = running.base_url(LIMIT);
        Replica { _running: running, base }
    }

    fn send(&self, path: &str, body: &Value) -> (u16, Value) {
        send(&self.base, path, body)
    }

    fn ready(&self) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let answer = agent.get(format!("{}/readyz?verbose", self.base)).call().unwrap();
        (answer.status().as_u16(), answer.into_body().read_json().unwrap())
    }

    fn recommend(&self, user: &str) -> Value {
        let (status, answer) = self.send("/v1/recommend", &json!({"user_id": user, "k": 5, "dim": 8}));
        assert_eq!(status, 200, "{answer}");
        answer
    }
}

fn send(base: &str, path: &str, body: &Value) -> (u16, Value) {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    let answer = agent.post(format!("{base}{path}")).send_json(body).unwrap();
    (answer.status().as_u16(), answer.into_body().read_json().unwrap())
}

/// Says done when dropped, so that a failed assertion does not leave clients that post for ever.
struct DoneOnDrop<'a>(&'a AtomicBool);

impl Drop for DoneOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A trained Bundle and a service config whose state is on `server`.
fn shared(server: &RedisServer) -> Data {
    let data = Data::new();
    data.trained(&data.built("snapshot"), "bundle");
    let config = std::fs::read_to_string(data.serve_config()).unwrap();
    let state = format!("path = \"{}\"", server.url("shop"));
    // More entries than are posted to a user.
    let config = config.replace("path = \"state/users\"", &state).replace("max_history = 50", "max_history = 10000");
    std::fs::write(data.serve_config(), config).unwrap();
    data
}

#[test]
fn what_one_replica_is_told_the_other_answers_from() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let data = shared(&server);
    let (one, other) = (Replica::start(&data), Replica::start(&data));
    for (n, item) in ["i3", "i4", "i5"].into_iter().enumerate() {
        let event = json!({"user_id": "ada", "item_id": item, "event_id": format!("e{n}")});
        let (here, there) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        assert_eq!(here.send("/v1/events", &event).0, 200);
        let answer = there.recommend("ada");
        assert_eq!(answer["history_len"], n + 1, "read from the server at every request");
        assert_eq!(answer["items"], here.recommend("ada")["items"]);
        // The same event sent to the other replica is known there.
        for replica in [there, here] {
            assert_eq!(replica.send("/v1/events", &event).1["duplicate"], json!(true));
        }
        assert_eq!(one.recommend("ada")["history_len"], n + 1);
    }
    // The other verbs read and write the same store.
    let url = server.url("shop");
    let (events, table) = (data.path("more.jsonl"), data.path("table.parquet"));
    // Later than what was posted, by the clock that dated it.
    let later_ms = service::system_clock()() + 60_000;
    let line = json!({"user_id": "ada", "item_id": "i6", "timestamp_ms": later_ms});
    std::fs::write(&events, format!("{line}\n")).unwrap();
    let said = succeed(["ingest", "--events", text(&events), "--store", &url, "--max-history", "10000"]);
    assert!(said.contains("1 events applied") && said.contains("name=shop holds 1 users"), "{said}");
    assert_eq!(other.recommend("ada")["history_len"], 4);
    let said = succeed(["export-interactions", "--store", &url, "--output", text(&table)]);
    assert!(said.contains("4 interactions of 1 users"), "{said}");
    // One that would cut what the services keep is refused; one that does not say keeps as they do.
    let args = ["ingest", "--events", text(&events), "--store", &url];
    refuse(args.into_iter().chain(["--max-history", "50"]), &["max_history: 50", "10000", "name=shop"]);
    assert!(succeed(args).contains("0 events applied"), "the same file again");
}

#[test]
fn a_server_killed_under_load_loses_no_acknowledged_event() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let data = shared(&server);
    let replicas = [Replica::start(&data), Replica::start(&data)];
    let acknowledged = Mutex::new(BTreeSet::new());
    let (kills, done) = (if crate::stream::slow() { 20 } else { 3 }, AtomicBool::new(false));
    std::thread::scope(|scope| {
        let _done = DoneOnDrop(&done);
        for (client, replica) in replicas.iter().enumerate() {
            let (base, acknowledged, done) = (&replica.base, &acknowledged, &done);
            scope.spawn(move || {
                for number in 0.. {
                    let item = format!("c{client}n{number}");
                    let event = json!({"user_id": format!("u{}", number % 20), "item_id": item, "event_id": item});
                    // Sent again until it is acknowledged, as a client does; the id keeps it from counting twice.
                    while send(base, "/v1/events", &event).0 != 200 {
                        if done.load(Ordering::Relaxed) {
                            return;
                        }
                        std::thread::sleep(Duration::from_millis(10));
                    }
                    acknowledged.lock().unwrap().insert(item);
                    if done.load(Ordering::Relaxed) {
                        return;
                    }
                }
            });
        }
        for kill in 1..=kills {
            let (begun, wanted) = (Instant::now(), 150 * kill);
            while acknowledged.lock().unwrap().len() < wanted {
                assert!(begun.elapsed() < LIMIT, "only {} events", acknowledged.lock().unwrap().len());
                std::thread::sleep(Duration::from_millis(1));
            }
            server.kill();
            std::thread::sleep(Duration::from_millis(100));
            let (status, answer) = replicas[0].send("/v1/recommend", &json!({"user_id": "u1", "k": 3}));
            assert_eq!((status, &answer["detail"]), (503, &json!("user state is not available")));
            server.restart();
        }
    });
    let store = UserStateStore::open_at(&server.url("shop").parse().unwrap(), 10_000).unwrap();
    let (mut found, mut twice) = (BTreeSet::new(), Vec::new());
    store
        .for_each_user::<feature_store::StoreError>(|_, history| {
            let again = history.into_iter().map(|entry| entry.item_id).filter(|item| !found.insert(item.clone()));
            twice.extend(again.collect::<Vec<_>>());
            Ok(())
        })
        .unwrap();
    let acknowledged = acknowledged.into_inner().unwrap();
    let lost: Vec<_> = acknowledged.difference(&found).collect();
    let (first, total) = (lost.first(), acknowledged.len());
    assert!(lost.is_empty(), "{} of {total} lost, such as {first:?}", lost.len());
    assert!(twice.is_empty(), "{} of {total} twice, such as {:?}", twice.len(), twice.first());
    row(
        "Redis server killed (SIGKILL) under `POST /v1/events` to two services",
        kills,
        acknowledged.len(),
        "0 acknowledged lost, 0 applied twice",
    );
}

/// Without its server a service says which part fails, and with it again that none does.
#[test]
fn a_service_without_its_server_is_not_ready_and_says_why() {
    let Some(mut server) = RedisServer::start(&[]) else { return };
    let replica = Replica::start(&shared(&server));
    let until = |what: &str, is: &dyn Fn(u16, &Value) -> bool| {
        let begun = Instant::now();
        loop {
            let (status, answer) = replica.ready();
            if is(status, &answer) {
                return;
            }
            assert!(begun.elapsed() < LIMIT, "not {what}: {status} {answer}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let parts = |answer: &Value| ["user_state", "item_changes"].map(|part| answer["checks"][part]["status"].clone());
    until("ready", &|status, answer| status == 200 && parts(answer) == ["ok", "ok"]);
    server.kill();
    until("unready", &|status, answer| status == 503 && parts(answer) == ["failing", "degraded"]);
    server.restart();
    until("ready again", &|status, answer| status == 200 && parts(answer) == ["ok", "ok"]);
}

/// A certificate that the system does not know is refused, and taken where `SSL_CERT_FILE` names it.
#[test]
fn a_server_over_tls_is_believed_by_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (dir.path().join("certificate.pem"), dir.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    // Taken back at once, so that the server can have it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let files = [text(&certificate), text(&key)];
    let settings = ["--tls-port", &port, "--tls-cert-file", files[0], "--tls-key-file", files[1]];
    let ours = ["--tls-ca-cert-file", files[0], "--tls-auth-clients", "no"];
    let Some(_server) = RedisServer::start(&[&settings[..], &ours[..]].concat()) else { return };
    let events = dir.path().join("events.jsonl");
    std::fs::write(&events, "{\"user_id\":\"u\",\"item_id\":\"i\",\"timestamp_ms\":1}\n").unwrap();
    let url = format!("rediss://127.0.0.1:{port}");
    let ingest = |trusted: Option<&str>| {
        let mut command = command();
        command.args(["ingest", "--events", text(&events), "--store", &url]);
        trusted.map(|file| command.env("SSL_CERT_FILE", file));
        let done = command.output().unwrap();
        (done.status.code(), String::from_utf8(done.stderr).unwrap())
    };
    let (code, said) = ingest(Some(files[0]));
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = ingest(None);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("ertificate"), "{said}");
}

#[test]
fn a_password_is_never_printed() {
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("table.parquet");
    let check = |url: &str, part: &str| {
        let done = run(["export-interactions", "--store", url, "--output", text(&table)]);
        assert_eq!(done.code, Some(2), "{}", done.stderr);
        assert!(done.stderr.contains(part) && !done.stderr.contains("secret"), "{}", done.stderr);
    };
    check("redis://:secret@db?nmae=shop", "nmae");
    check("Redis://:secret@db", "no scheme");
    check("redis://:sec?secret@db", "%3F");
    let help = command().args(["serve", "--help"]).env("RECOMMENDER_STATE", "redis://:secret@db").output().unwrap();
    assert!(!String::from_utf8(help.stdout).unwrap().contains("secret"));
}

#[test]
fn an_export_of_a_mistyped_name_is_refused() {
    let Some(server) = RedisServer::start(&[]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("table.parquet");
    let done = run(["export-interactions", "--store", &server.url("typo"), "--output", text(&table)]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("name=typo holds no users") && !table.exists(), "{}", done.stderr);
}

#[test]
fn a_server_that_is_not_there_is_named() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let dir = tempfile::tempdir().unwrap();
    let events = dir.path().join("events.jsonl");
    std::fs::write(&events, "{\"user_id\":\"u\",\"item_id\":\"i\",\"timestamp_ms\":1}\n").unwrap();
    let url = format!("redis://shop:secret@127.0.0.1:{port}");
    let done = run(["ingest", "--events", text(&events), "--store", &url]);
    assert_eq!(done.code, Some(1), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("redis://shop@127.0.0.1:{port}")), "{}", done.stderr);
    assert!(!done.stderr.contains("secret"), "{}", done.stderr);
}

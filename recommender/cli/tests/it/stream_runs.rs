//! `ingest --config` as a user runs it: what a run says, where it ends, the numbers it shows, and what it refuses.

use crate::program::{Running, command, refuse, refuse_usage, run, say_skipped, succeed, text};
use crate::stream::{LOG, config, events, kafka, parsed, produce};
use pipeline::stream::event_sink;
use std::sync::Arc;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_dry_run_names_what_is_wrong_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), LOG);
    let stream = parsed(&path);
    produce(&stream, &events(0, 10));
    let poison = pipeline::stream::Outgoing { key: vec![], payload: b"{\"user_id\":\"u\"}".to_vec(), headers: vec![] };
    let clock: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(|| 0);
    event_sink(&stream, &clock).unwrap().put(&[poison]).unwrap();
    let said = succeed(["ingest", "--config", text(&path), "--validate"]);
    assert!(said.contains("partition 0 offset 10: missing field `item_id`"), "{said}");
    assert!(said.contains("11 messages: 10 interactions") && said.contains("1 would be refused"), "{said}");
    assert!(!dir.path().join("state").exists());
    let said = succeed(["ingest", "--config", text(&path), "--until-end"]);
    assert!(said.contains("10 events applied") && said.contains("1 refused"), "{said}");
    let said = succeed(["ingest", "--config", text(&path), "--redrive"]);
    assert!(said.contains("0 dead letters sent back, 1 refused again"), "{said}");
}

/// One variable says to services and consumers where the state is that they share.
#[test]
fn the_environment_says_where_user_state_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), LOG);
    produce(&parsed(&path), &events(0, 10));
    let elsewhere = dir.path().join("elsewhere");
    let run = |state: &str| {
        let args = ["ingest", "--config", text(&path), "--until-end"];
        let done = command().args(args).env("RECOMMENDER_STATE", state).output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stdout).unwrap()
    };
    let said = run(text(&elsewhere));
    assert!(said.contains("10 events applied") && said.contains(text(&elsewhere)), "{said}");
    assert!(elsewhere.is_dir() && !dir.path().join("state").exists());
    run("");
    assert!(dir.path().join("state").is_dir(), "an empty one says nothing");
}

/// There is nothing to do, which is no failure unless the log itself is not there: its name may be mistyped. Nothing is
/// begun by it.
#[test]
fn a_redrive_without_dead_letters_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), LOG);
    let (args, stream) = (["ingest", "--config", text(&path), "--redrive"], parsed(&path));
    let redrive = || succeed(args);
    let absent = |names: &[&str]| assert!(names.iter().all(|name| !dir.path().join(name).exists()), "{names:?}");
    refuse(args, &["events: holds no event log"]);
    absent(&["events", "events.dlq", "state"]);
    produce(&stream, &events(0, 1));
    let said = redrive();
    assert!(said.contains("there are no dead letters") && said.contains("events.dlq is not there"), "{said}");
    absent(&["events.dlq", "state"]);
    // One that is valid by now goes back, and then none is left.
    let clock: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(|| 1_700_000_000_000);
    let letters: Vec<_> = events(0, 1).iter().map(pipeline::stream::outgoing).collect();
    pipeline::stream::dead_letter_sink(&stream, &clock).unwrap().put(&letters).unwrap();
    let said = redrive();
    assert!(said.contains("1 dead letters sent back"), "{said}");
    let said = redrive();
    assert!(said.contains("there are no dead letters in log") && said.contains("looked at before"), "{said}");
}

/// A log that lost its id is not taken for one that was never begun, by any run.
#[test]
fn a_log_without_its_id_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), LOG);
    produce(&parsed(&path), &events(0, 1));
    std::fs::remove_file(dir.path().join("events/id")).unwrap();
    for flag in [None, Some("--until-end"), Some("--validate"), Some("--redrive")] {
        let args = ["ingest", "--config", text(&path)];
        refuse(args.into_iter().chain(flag), &["events: holds segments of a log and no file `id`", "restore the file"]);
    }
}

/// A broker that is not there: a run that has an end says so in time and how to go on, one that has none
/// says that it tries again.
#[test]
fn a_broker_that_is_down_ends_a_run_with_an_end_and_not_one_without() {
    // Nobody listens on a port that was just given back.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let brokers = format!("127.0.0.1:{port}");
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), &kafka(&brokers));
    std::thread::scope(|scope| {
        for flag in ["--validate", "--until-end", "--redrive"] {
            let (path, brokers, dir) = (&path, &brokers, dir.path().join(flag));
            scope.spawn(move || {
                // A folder of its own: two runs cannot share a state.
                std::fs::create_dir(&dir).unwrap();
                std::fs::copy(path, dir.join("stream.toml")).unwrap();
                let started = std::time::Instant::now();
                let done = run(["ingest", "--config", text(&dir.join("stream.toml")), flag]);
                let said = format!("{flag}: {done:?}");
                assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{said}");
                for part in ["kafka.brokers", brokers, "within 10 s", "start a broker", "correct"] {
                    assert!(done.stderr.contains(part), "{said} lacks {part:?}");
                }
                // 10 s by its word; the rest is a machine that does other things too.
                assert!(started.elapsed() < Duration::from_secs(40), "{said} took {:?}", started.elapsed());
            });
        }
        scope.spawn(|| {
            let service = Running::start(command().args(["ingest", "--config", text(&path)]));
            std::thread::sleep(Duration::from_secs(3));
            service.signal("INT");
            let done = service.wait(LIMIT);
            assert_eq!(done.code, Some(0), "{done:?}");
            assert!(done.stderr.contains("cannot be read from kafka.brokers: trying again"), "{done:?}");
            assert!(done.stderr.contains(&brokers), "{done:?}");
        });
    });
}

#[test]
fn a_topic_that_does_not_exist_is_named() {
    let Some(brokers) = std::env::var("RECOMMENDER_KAFKA").ok().filter(|brokers| !brokers.is_empty()) else {
        return say_skipped("RECOMMENDER_KAFKA names no broker (deploy/kafka-local.sh start prints one)");
    };
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), &kafka(&brokers));
    let topic = parsed(&path).kafka.unwrap().topic;
    for flag in ["--redrive", "--validate", "--until-end"] {
        assert!(!dir.path().join("state").exists(), "before {flag}");
        refuse(["ingest", "--config", text(&path), flag], &[&topic, &brokers, "does not exist", "kafka.topic"]);
    }
    produce(&parsed(&path), &events(0, 1));
    let said = succeed(["ingest", "--config", text(&path), "--redrive"]);
    assert!(said.contains("there are no dead letters") && said.contains(&topic), "{said}");
}

#[test]
fn ingest_shows_its_numbers_while_it_runs() {
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), LOG);
    let text_of = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("metrics_bind = \"127.0.0.1:0\"\n{text_of}")).unwrap();
    let stream = parsed(&path);
    produce(&stream, &events(0, 30));
    let mut ingest = command();
    ingest.args(["ingest", "--config", text(&path)]);
    // The address is told on stderr, which is passed on as stdout here.
    let mut shell = std::process::Command::new("sh");
    shell.arg("-c").arg("exec \"$0\" \"$@\" 2>&1").arg(ingest.get_program()).args(ingest.get_args());
    let mut running = Running::start(&mut shell);
    let base = running.base_url(LIMIT).trim_end_matches("/metrics").to_owned();
    let number = |name: &str| {
        let text = ureq::get(format!("{base}/metrics")).call().unwrap().into_body().read_to_string().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("recommender_stream_{name} ")));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).parse::<f64>().unwrap()
    };
    let started = std::time::Instant::now();
    while number("messages_total") < 30.0 {
        assert!(started.elapsed() < LIMIT, "the events were not counted");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!((number("applied_total"), number("running"), number("connected")), (30.0, 1.0, 1.0));
    assert_eq!(number("lag_messages{partition=\"0\"}"), 0.0);
    assert_eq!(number("freshness_seconds_count"), 30.0);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(number("checkpoint_age_seconds") < 1.0, "nothing to do is no age");
    running.signal("INT");
    let done = running.wait(LIMIT);
    assert_eq!(done.code, Some(0), "{done:?}");
    assert!(done.stdout.contains("30 events applied") && done.stdout.contains("checkpoint"), "{done:?}");
}

#[test]
fn what_does_not_fit_together_is_refused() {
    refuse_usage(&["ingest"], "--events");
    refuse_usage(&["ingest", "--config", "a", "--events", "b"], "--events");
    refuse_usage(&["ingest", "--events", "b"], "--store");
    refuse(["ingest", "--events", "b", "--store", "c", "--redrive"], &["--redrive", "--config"]);
    let dir = tempfile::tempdir().unwrap();
    let path = config(dir.path(), LOG);
    refuse(["ingest", "--config", text(&path), "--until-end"], &["events", "holds no event log"]);
    let path = config(dir.path(), "");
    refuse(["ingest", "--config", text(&path)], &["stream.toml", "exactly one"]);
    let path = config(dir.path(), &LOG.replace("65536", "0"));
    refuse(["ingest", "--config", text(&path)], &["log.segment_bytes", "0"]);
    let path = config(dir.path(), &LOG.replace("max_segments", "segments"));
    refuse(["ingest", "--config", text(&path)], &["stream.toml line", "segments"]);
    let bad = kafka("127.0.0.1:1").replace("heartbeat.interval.ms", "heartbeat.interval");
    let path = config(dir.path(), &bad);
    let done = run(["ingest", "--config", text(&path), "--until-end"]);
    assert_eq!(done.code, Some(2), "{}", done.stderr);
    assert!(done.stderr.contains("heartbeat.interval"), "{}", done.stderr);
}

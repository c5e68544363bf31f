//! `ingest`: events go in once, however often the file is named; a bad line is named, and then nothing was applied.

use crate::program::{refuse, run, succeed, text};
use feature_store::{SourceRecord, UserStateStore, sha256_file};
use std::fs;
use std::path::Path;

const GOOD: &str = r#"{"user_id":"u1","item_id":"a","timestamp_ms":1000,"event_id":"e1"}
{"user_id":"u2","item_id":"b","timestamp_ms":2000}

{"user_id":"u1","item_id":"c","timestamp_ms":500,"event_id":"e2"}
{"user_id":"u1","item_id":"a","timestamp_ms":1000,"event_id":"e1"}
"#;

fn history(store: &Path, user: &str) -> Vec<String> {
    let store = UserStateStore::open_to_read(&store.to_path_buf().into(), 50).unwrap();
    store.history(user).unwrap().into_iter().map(|entry| entry.item_id).collect()
}

#[test]
fn events_are_applied_once_and_in_order_of_time() {
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = (dir.path().join("events.jsonl"), dir.path().join("new/state"));
    fs::write(&events, GOOD).unwrap();
    let args = ["ingest", "--events", text(&events), "--store", text(&store)];
    let said = succeed(args);
    assert!(said.contains("3 events applied, 1 dropped") && said.contains("2 users"), "{said}");
    assert_eq!(history(&store, "u1"), ["c", "a"]);
    assert_eq!(history(&store, "u2"), ["b"]);
    // Again: also the event without an id is known, by its line.
    let said = succeed(args);
    assert!(said.contains("0 events applied, 0 dropped") && said.contains("4 lines applied by an earlier"), "{said}");
    assert_eq!(history(&store, "u1"), ["c", "a"]);
    assert_eq!(history(&store, "u2"), ["b"]);
    // Another file is another source: only ids tell a repeat.
    fs::write(&events, format!("{GOOD}\n")).unwrap();
    let said = succeed(args);
    assert!(said.contains("1 events applied, 3 dropped") && said.contains(" 0 lines"), "{said}");
}

#[test]
fn a_run_that_was_cut_off_goes_on_after_the_last_line_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = (dir.path().join("events.jsonl"), dir.path().join("state"));
    fs::write(&events, GOOD).unwrap();
    let (_, sha256) = sha256_file(&events).unwrap();
    // What such a run leaves: the position of its last batch, here of the first two lines.
    let place = SourceRecord { partition: 0, offset: 2, events: Vec::new() };
    UserStateStore::open(&store, 50).unwrap().apply(&format!("file:{sha256}"), &[place]).unwrap();
    let said = succeed(["ingest", "--events", text(&events), "--store", text(&store)]);
    assert!(said.contains("2 events applied, 0 dropped") && said.contains("2 lines applied by an earlier"), "{said}");
    assert_eq!(history(&store, "u1"), ["c", "a"]);
    assert!(history(&store, "u2").is_empty());
}

#[test]
fn many_events_cross_the_batch_limit_and_histories_stay_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = (dir.path().join("events.jsonl"), dir.path().join("state"));
    let lines: String = (0..10_000)
        .map(|i| format!("{{\"user_id\":\"u{}\",\"item_id\":\"i{i}\",\"timestamp_ms\":{i}}}\n", i % 7))
        .collect();
    fs::write(&events, lines).unwrap();
    let said = succeed(["ingest", "--events", text(&events), "--store", text(&store), "--max-history", "5"]);
    assert!(said.contains("10,000 events applied"), "{said}");
    let newest = ["i9968", "i9975", "i9982", "i9989", "i9996"];
    assert_eq!(history(&store, "u0"), newest);
    // The store keeps what it was made with: a smaller number is refused, none is the store's own.
    let args = ["ingest", "--events", text(&events), "--store", text(&store)];
    refuse(
        args.into_iter().chain(["--max-history", "3"]),
        &["max_history: 3 is less", " 5 ", text(&store), "new store"],
    );
    assert_eq!(history(&store, "u0"), newest);
    fs::write(&events, r#"{"user_id":"u0","item_id":"last","timestamp_ms":20000}"#).unwrap();
    succeed(args);
    assert_eq!(history(&store, "u0"), [&newest[1..], &["last"]].concat());
}

#[test]
fn validate_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = (dir.path().join("events.jsonl"), dir.path().join("state"));
    fs::write(&events, GOOD).unwrap();
    let said = succeed(["ingest", "--validate", "--events", text(&events), "--store", text(&store)]);
    assert!(said.contains("4 events, every line is valid"), "{said}");
    assert!(!store.exists());
}

#[test]
fn a_bad_line_is_named_and_nothing_is_applied() {
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = (dir.path().join("events.jsonl"), dir.path().join("state"));
    let check = |bad: &str, parts: &[&str]| {
        fs::write(&events, format!("{GOOD}{bad}\n")).unwrap();
        refuse(["ingest", "--events", text(&events), "--store", text(&store)], parts);
        assert!(!store.exists(), "{bad} left a store behind");
    };
    check(r#"{"user_id":"u1"}"#, &["events.jsonl line 6", "item_id"]);
    check(r#"{"user_id":"u1","item_id":"a","timestamp_ms":"now"}"#, &["line 6", "\"now\""]);
    check(r#"{"user_id":"u1","item_id":"a","timestamp_ms":-1}"#, &["line 6", "timestamp_ms", "-1"]);
    check(
        r#"{"user_id":"u1","item_id":"a","timestamp_ms":4000000000000}"#,
        &["line 6", "timestamp_ms", "4000000000000", "clock"],
    );
    check(r#"{"user_id":"","item_id":"a","timestamp_ms":1}"#, &["line 6", "user_id", "empty"]);
    check(r#"{"user_id":"u1","item_id":"a","timestamp_ms":1,"stars":5}"#, &["line 6", "stars"]);
    check(
        &format!(r#"{{"user_id":"{}","item_id":"a","timestamp_ms":1}}"#, "u".repeat(300)),
        &["line 6", "user_id", "300"],
    );
    check(&"x".repeat(1_200_000), &["line 6", "longer than"]);
    check("not json", &["line 6", "column"]);
    // The first five are shown, whatever is wrong with each; all are counted, up to one too long to read past.
    let long = "x".repeat(1_200_000);
    check(
        &format!("not json\n{}{long}\n{{}}", "{}\n".repeat(5)),
        &["events.jsonl line 6: ", "; line 7: ", "; line 10: ", "; 7 of 11 lines are bad; nothing was applied"],
    );
    let said = run(["ingest", "--events", text(&events), "--store", text(&store)]).stderr;
    assert!(!said.contains("line 11"), "{said}");
}

#[test]
fn files_that_hold_no_events_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = (dir.path().join("events.jsonl"), dir.path().join("state"));
    let args = ["ingest", "--events", text(&events), "--store", text(&store)];
    refuse(args, &["events.jsonl", "No such file"]);
    fs::write(&events, "\n\n").unwrap();
    refuse(args, &["events.jsonl", "holds no event"]);
    fs::write(&events, [0xff, 0xfe, b'\n']).unwrap();
    refuse(args, &["events.jsonl line 1"]);
    fs::write(&events, GOOD).unwrap();
    fs::write(&store, "this is no database").unwrap();
    refuse(args, &["state"]);
    refuse(["ingest", "--events", text(dir.path()), "--store", text(&store)], &[text(dir.path())]);
}

/// A line holds as much as a message of a stream.
#[test]
fn a_line_may_be_as_long_as_a_message() {
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = (dir.path().join("events.jsonl"), dir.path().join("state"));
    let line = r#"{"user_id":"u1","item_id":"a","timestamp_ms":1}"#;
    let padded = format!("{}{line}", " ".repeat(pipeline::stream::MAX_PAYLOAD_BYTES - line.len()));
    fs::write(&events, format!("{padded}\n{line}\n")).unwrap();
    succeed(["ingest", "--events", text(&events), "--store", text(&store)]);
    assert_eq!(history(&store, "u1"), ["a", "a"]);
    fs::write(&events, format!(" {padded}\n{line}\n")).unwrap();
    refuse(["ingest", "--events", text(&events), "--store", text(&store)], &["line 1", "longer than 1048576 bytes"]);
}

#[test]
fn a_store_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (events, store) = (dir.path().join("events.jsonl"), dir.path().join("state"));
    fs::write(&events, GOOD).unwrap();
    let _held = UserStateStore::open(&store, 50).unwrap();
    refuse(["ingest", "--events", text(&events), "--store", text(&store)], &["state"]);
}

//! What is logged as JSON: one object a line and nothing else on stderr, with the trace of the request.

use crate::data::Data;
use crate::program::{Running, command, finish, text};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn a_json_log_names_the_trace_of_a_request() {
    let data = Data::new();
    data.trained(&data.built("snapshot"), "bundle");
    let mut service = Running::start(
        command()
            .args(["serve", "--config", text(&data.serve_config())])
            .env("RECOMMENDER_LOG", "service=debug")
            .env("RECOMMENDER_LOG_FORMAT", "json"),
    );
    let base = service.base_url(LIMIT);
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let given = format!("00-{trace}-b7ad6b7169203331-01");
    let answer = ureq::get(format!("{base}/livez")).header("traceparent", &given).call().unwrap();
    assert!(answer.headers()["traceparent"].to_str().unwrap().contains(trace));
    service.signal("INT");
    let done = service.wait(LIMIT);
    let lines = objects(&done.stderr);
    let answered = lines.iter().find(|line| line["message"] == "answered" && line["route"] == "/livez");
    let answered = answered.unwrap_or_else(|| panic!("no line about the request: {}", done.stderr));
    assert_eq!(answered["span"]["trace_id"], trace, "{answered}");
    // Said by the program itself, whatever the filter lets through.
    assert!(lines.iter().any(|line| has(line, "stopping: requests under way are answered")), "{}", done.stderr);
}

#[test]
fn a_json_log_names_what_ended_the_program() {
    for args in [["serve", "--config", "nowhere.toml"], ["ingest", "--config", "nowhere.toml"]] {
        let mut program = command();
        let done = finish(program.args(args).env("RECOMMENDER_LOG_FORMAT", "json").output().unwrap());
        assert_eq!(done.code, Some(2), "{done:?}");
        let lines = objects(&done.stderr);
        let ended = lines.iter().find(|line| line["level"] == "ERROR");
        assert!(ended.is_some_and(|line| has(line, "nowhere.toml")), "{}", done.stderr);
    }
}

/// Every line is one.
fn objects(stderr: &str) -> Vec<serde_json::Value> {
    let object = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    stderr.lines().map(object).collect()
}

fn has(line: &serde_json::Value, part: &str) -> bool {
    line["message"].as_str().is_some_and(|message| message.contains(part))
}

//! What the service logs as JSON: one object a line, with the trace of the request.

use crate::data::Data;
use crate::program::{Running, command, text};
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
    let lines: Vec<serde_json::Value> = done
        .stderr
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}")))
        .collect();
    let answered = lines.iter().find(|line| line["message"] == "answered" && line["route"] == "/livez");
    let answered = answered.unwrap_or_else(|| panic!("no line about the request: {}", done.stderr));
    assert_eq!(answered["span"]["trace_id"], trace, "{answered}");
}

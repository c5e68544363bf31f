//! `serve` sends its spans to a collector: here a listener that keeps what is posted to it.

use crate::data::Data;
use crate::program::{Running, command, text};
use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

/// Takes posts for ever; gives path and body of each.
fn collector() -> (u16, Receiver<(String, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (send, receive) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let (mut head, mut len) = (String::new(), 0);
            loop {
                let mut line = String::new();
                if stream.read_line(&mut line).unwrap() <= 2 {
                    break;
                }
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    len = value.trim().parse().unwrap();
                }
                head += &line;
            }
            let mut body = vec![0; len];
            stream.read_exact(&mut body).unwrap();
            let answer =
                "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}";
            stream.get_mut().write_all(answer.as_bytes()).unwrap();
            let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
            // The test has all it wants.
            let _ = send.send((path, serde_json::from_slice(&body).unwrap()));
        }
    });
    (port, receive)
}

/// A service that sends its spans to a port.
fn serving(data: &Data, port: u16, variables: &[(&str, &str)]) -> Running {
    data.trained(&data.built("snapshot"), "bundle");
    let mut command = command();
    command.args(["serve", "--config", text(&data.serve_config())]);
    command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://127.0.0.1:{port}")).envs(variables.iter().copied());
    Running::start(&mut command)
}

#[test]
fn spans_of_sampled_requests_reach_the_collector() {
    let (port, posts) = collector();
    let data = Data::new();
    let variables = [("OTEL_TRACES_SAMPLER", "parentbased_always_off"), ("OTEL_SERVICE_NAME", "shop")];
    let mut service = serving(&data, port, &variables);
    let base = service.base_url(LIMIT);
    for flags in ["00", "01"] {
        ureq::post(format!("{base}/v1/recommend"))
            .header("traceparent", &format!("00-{TRACE}-b7ad6b7169203331-{flags}"))
            .send_json(json!({"user_id": "ada", "k": 3}))
            .unwrap();
    }
    ureq::get(format!("{base}/livez")).call().unwrap();
    // What waits is sent before the program ends.
    service.signal("INT");
    let done = service.wait(LIMIT);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    let (path, sent) = posts.recv_timeout(LIMIT).unwrap();
    assert_eq!(path, "/v1/traces");
    assert!(sent.to_string().contains(r#"{"key":"service.name","value":{"stringValue":"shop"}}"#), "{sent}");
    let spans = sent["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap().clone();
    let names: Vec<&str> = spans.iter().map(|span| span["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["queue", "user", "search", "POST /v1/recommend"], "one of three requests was sampled");
    let request = &spans[3];
    assert!(spans.iter().all(|span| span["traceId"] == TRACE), "{sent}");
    assert_eq!(request["parentSpanId"], "b7ad6b7169203331");
    assert!(spans[..3].iter().all(|span| span["parentSpanId"] == request["spanId"]), "{sent}");
    assert!(request.to_string().contains(r#"{"key":"recommender.dim","value":{"intValue":"8"}}"#), "{request}");
    assert!(posts.try_recv().is_err(), "nothing else was sent");
}

#[test]
fn a_collector_that_is_away_costs_nothing_but_spans() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let data = Data::new();
    let mut service = serving(&data, port, &[("OTEL_BSP_SCHEDULE_DELAY", "10")]);
    let base = service.base_url(LIMIT);
    for _ in 0..50 {
        ureq::get(format!("{base}/livez")).call().unwrap();
    }
    service.signal("INT");
    assert_eq!(service.wait(LIMIT).code, Some(0));
}

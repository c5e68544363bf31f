//! Sampled requests are told to whoever collects traces, with ids that match the answer's headers.

use crate::fixture::Server;
use serde_json::json;
use service::{RequestSpan, SpanSink};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[derive(Default)]
struct Collected {
    /// Whether traces that begin in the service are sampled.
    new: bool,
    spans: Mutex<Vec<RequestSpan>>,
}

impl SpanSink for Collected {
    fn samples(&self, _: u128) -> bool {
        self.new
    }

    fn put(&self, span: RequestSpan) {
        self.spans.lock().unwrap().push(span);
    }
}

impl Collected {
    fn only(&self) -> RequestSpan {
        let mut spans = self.spans.lock().unwrap();
        assert_eq!(spans.len(), 1, "{spans:?}");
        spans.remove(0)
    }
}

#[test]
fn a_sampled_request_is_told_with_its_parts() {
    let collected = Arc::new(Collected::default());
    let server = Server::traced(Arc::clone(&collected) as Arc<dyn SpanSink>);
    let given = format!("00-{TRACE}-b7ad6b7169203331-01");
    let headers = [("traceparent", given.as_str()), ("x-request-id", "r1"), ("content-type", "application/json")];
    let reply = server.client.call("POST", "/v1/recommend", &headers, &json!({"user_id": "ada", "k": 3}).to_string());
    assert_eq!(reply.status, 200);
    let span = collected.only();
    assert_eq!(reply.header("traceparent"), format!("00-{TRACE}-{:016x}-01", span.span_id));
    assert_eq!(span.trace_id, u128::from_str_radix(TRACE, 16).unwrap());
    assert_eq!(span.parent_id, Some(0xb7ad_6b71_6920_3331));
    assert_eq!((span.method.as_str(), span.route.as_deref(), span.status), ("POST", Some("/v1/recommend"), 200));
    assert_eq!((span.request_id.as_str(), span.dim.map(|dim| dim as u64)), ("r1", reply.json()["dim"].as_u64()));
    let names: Vec<&str> = span.phases.iter().map(|phase| phase.name).collect();
    assert_eq!(names, ["queue", "user", "search"]);
    let mut end = Duration::ZERO;
    for phase in &span.phases {
        assert!(phase.after >= end, "{phase:?} begins before {end:?}");
        end = phase.after + phase.took;
    }
    assert!(end <= span.took, "{end:?} of {:?}", span.took);
}

#[test]
fn what_is_not_sampled_is_not_told_and_what_fails_is() {
    let collected = Arc::new(Collected::default());
    let server = Server::traced(Arc::clone(&collected) as Arc<dyn SpanSink>);
    let send = |flags: &str, body: serde_json::Value| {
        let given = format!("00-{TRACE}-b7ad6b7169203331-{flags}");
        server.client.call(
            "POST",
            "/v1/recommend",
            &[("traceparent", given.as_str()), ("content-type", "application/json")],
            &body.to_string(),
        )
    };
    assert_eq!(send("00", json!({"user_id": "ada"})).status, 200);
    assert_eq!(server.client.get("/livez").status, 200);
    assert!(collected.spans.lock().unwrap().is_empty());
    assert_eq!(send("01", json!({"user_id": 5})).status, 400);
    let span = collected.only();
    assert_eq!((span.status, span.phases.len()), (400, 0));
    let given = format!("00-{TRACE}-b7ad6b7169203331-01");
    assert_eq!(server.client.call("PUT", "/v1/item%73/x", &[("traceparent", &given)], "{}").status, 401);
    let span = collected.only();
    assert_eq!((span.method.as_str(), span.route.as_deref(), span.status), ("PUT", Some("/v1/items/{id}"), 401));
}

#[test]
fn the_collector_decides_about_traces_that_begin_here() {
    let collected = Arc::new(Collected { new: true, ..Collected::default() });
    let server = Server::traced(Arc::clone(&collected) as Arc<dyn SpanSink>);
    let reply = server.client.get("/livez");
    let span = collected.only();
    assert_eq!(span.parent_id, None);
    let header = reply.header("traceparent").to_owned();
    assert_eq!(header, format!("00-{:032x}-{:016x}-01", span.trace_id, span.span_id));
}

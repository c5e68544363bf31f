//! `/v1/events` in front of a stream: what goes into it, and what each answer promises.

use crate::fixture::{NOW_MS, Server, key};
use feature_store::Event;
use serde_json::{Value, json};
use service::{Awaited, EventPlace, EventStream, PutError, StreamStatus};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// A stream that keeps what it is given, and does as it is told.
#[derive(Default)]
struct Told {
    taken: Mutex<Vec<Event>>,
    refuses: Mutex<Option<PutError>>,
    slow: AtomicBool,
}

impl Told {
    fn refuse_with(&self, error: Option<PutError>) {
        *self.refuses.lock().unwrap() = error;
    }
}

impl EventStream for Told {
    fn put(&self, events: Vec<Event>) -> Awaited<'_, Result<Vec<EventPlace>, PutError>> {
        Box::pin(async move {
            if let Some(error) = self.refuses.lock().unwrap().clone() {
                return Err(error);
            }
            let mut taken = self.taken.lock().unwrap();
            let from = taken.len() as u64;
            let places = (0..events.len() as u64).map(|at| EventPlace { partition: 2, offset: Some(from + at) });
            let places = places.collect();
            taken.extend(events);
            Ok(places)
        })
    }

    fn applied<'a>(&'a self, _places: &'a [EventPlace]) -> Awaited<'a, bool> {
        Box::pin(async { !self.slow.load(Ordering::Relaxed) })
    }

    fn status(&self) -> StreamStatus {
        StreamStatus {
            running: true,
            error: None,
            connected: true,
            lag: 7,
            lag_by_partition: BTreeMap::from([(2, 7)]),
            checkpoint_age_s: 1.5,
            freshness_s: Some(0.25),
            invalid: 1,
            rebalances: 2,
        }
    }

    fn exposition(&self) -> String {
        "recommender_stream_lag_messages{partition=\"2\"} 7\n".to_owned()
    }
}

fn served() -> (Arc<Told>, Server) {
    let stream = Arc::new(Told::default());
    (Arc::clone(&stream), Server::streaming(stream))
}

#[test]
fn an_event_goes_into_the_stream_and_not_past_it() {
    let (stream, server) = served();
    let reply = server.client.post("/v1/events", &json!({"user_id": "ada", "item_id": key(3), "event_id": "e"}));
    let json = reply.json();
    assert_eq!((reply.status, &json["applied"], &json["known_item"]), (200, &json!(true), &json!(true)));
    assert_eq!(json["place"], json!({"partition": 2, "offset": 0}));
    assert_eq!(json.get("duplicate"), None, "only the consumer knows");
    let event = Event { user_id: "ada".into(), item_id: key(3), timestamp_ms: NOW_MS, event_id: Some("e".into()) };
    assert_eq!(*stream.taken.lock().unwrap(), [event], "with the service's time");
    // The state is the consumer's to write.
    assert_eq!(server.client.recommend(&json!({"user_id": "ada"})).json()["history_len"], 0);
}

#[test]
fn a_batch_goes_into_the_stream_in_order() {
    let (stream, server) = served();
    let body = json!({"events": [{"user_id": "ada", "item_id": key(3)}, {"user_id": "bo", "item_id": "new"}]});
    let reply = server.client.post("/v1/events/batch", &body);
    let json = reply.json();
    assert_eq!((reply.status, &json["applied"], &json["unknown_items"]), (200, &json!(2), &json!(1)));
    assert_eq!(json["places"], json!([{"partition": 2, "offset": 0}, {"partition": 2, "offset": 1}]));
    assert_eq!(json.get("duplicates"), None, "only the consumer knows");
    let taken =
        |stream: &Told| stream.taken.lock().unwrap().iter().map(|event| event.user_id.clone()).collect::<Vec<_>>();
    assert_eq!(taken(&stream), ["ada", "bo"]);

    stream.slow.store(true, Ordering::Relaxed);
    let reply = server.client.post("/v1/events/batch", &body);
    assert_eq!((reply.status, &reply.json()["applied"]), (202, &json!(0)));
    let wrong = json!({"events": [{"user_id": "ada", "item_id": key(3)}, {"user_id": "", "item_id": key(3)}]});
    assert_eq!(server.client.post("/v1/events/batch", &wrong).status, 400);
    stream.refuse_with(Some(PutError::Unacknowledged("no broker".into())));
    assert_eq!(server.client.post("/v1/events/batch", &body).status, 503);
    assert_eq!(taken(&stream).len(), 4);
}

#[test]
fn an_event_that_is_not_applied_yet_is_accepted() {
    let (stream, server) = served();
    stream.slow.store(true, Ordering::Relaxed);
    let reply = server.client.post("/v1/events", &json!({"user_id": "ada", "item_id": key(3)}));
    assert_eq!((reply.status, &reply.json()["applied"]), (202, &json!(false)));
    assert_eq!(reply.json()["place"]["offset"], 0);
}

#[test]
fn a_stream_that_does_not_take_an_event_is_said_to_and_when_to_try_again() {
    let (stream, server) = served();
    let check = |error: PutError, status: u16, retry_after: &str, parts: &[&str]| {
        stream.refuse_with(Some(error));
        let reply = server.client.post("/v1/events", &json!({"user_id": "ada", "item_id": key(3)}));
        assert_eq!((reply.status, reply.header("retry-after")), (status, retry_after), "{}", reply.text);
        let detail = reply.json()["detail"].as_str().unwrap().to_owned();
        parts.iter().for_each(|part| assert!(detail.contains(part), "{detail:?} lacks {part:?}"));
    };
    check(PutError::Busy("10 events are on their way".into()), 503, "1", &["on their way"]);
    check(PutError::Unacknowledged("no broker".into()), 503, "5", &["no broker", "event_id"]);
    check(PutError::Foreign("segment".into()), 409, "", &["segment"]);
    stream.refuse_with(None);
    assert_eq!(server.client.post("/v1/events", &json!({"user_id": "ada", "item_id": key(3)})).status, 200);
    assert_eq!(stream.taken.lock().unwrap().len(), 1);
}

#[test]
fn what_the_consumer_would_put_aside_never_reaches_the_stream() {
    let (stream, server) = served();
    let day_ms = 24 * 60 * 60 * 1000;
    let check = |event: Value, status: u16, part: &str| {
        let reply = server.client.post("/v1/events", &event);
        assert_eq!(reply.status, status, "{event}: {}", reply.text);
        assert!(reply.text.contains(part), "{} lacks {part:?}", reply.text);
    };
    check(json!({"user_id": "", "item_id": "a"}), 400, "user_id");
    check(json!({"user_id": "u", "item_id": "a", "timestamp_ms": -1}), 400, "timestamp_ms");
    check(json!({"user_id": "u", "item_id": "a", "timestamp_ms": NOW_MS + day_ms + 1}), 400, "clock");
    assert!(stream.taken.lock().unwrap().is_empty());
    check(json!({"user_id": "u", "item_id": "a", "timestamp_ms": NOW_MS + day_ms}), 200, "applied");
    check(json!({"user_id": "u", "item_id": "a", "timestamp_ms": 0}), 200, "applied");
}

#[test]
fn an_event_of_the_far_future_is_refused_without_a_stream_too() {
    let server = Server::start();
    let reply = server
        .client
        .post("/v1/events", &json!({"user_id": "u", "item_id": key(1), "timestamp_ms": NOW_MS + 90_000_000}));
    assert_eq!(reply.status, 400);
    assert!(reply.text.contains("90000 s after"), "{}", reply.text);
}

#[test]
fn the_streams_numbers_are_where_they_are_looked_for() {
    let (_, server) = served();
    let metrics = server.client.get("/metrics").text;
    assert!(metrics.contains("recommender_stream_lag_messages{partition=\"2\"} 7\n"), "{metrics}");
    assert!(metrics.contains("recommender_http_requests_in_flight"), "{metrics}");
    assert_eq!(server.client.get("/readyz").json().get("stream"), None);
    let stream = server.client.get("/readyz?verbose").json()["stream"].clone();
    assert_eq!(
        (&stream["lag"], &stream["lag_by_partition"]["2"], &stream["checkpoint_age_s"]),
        (&json!(7), &json!(7), &json!(1.5))
    );
    let checks = server.client.get("/readyz?verbose").json()["checks"].clone();
    assert_eq!(checks["stream"], json!({"status": "ok"}));
    assert_eq!(Server::start().client.get("/readyz?verbose=1").json().get("stream"), None, "there is none");
}

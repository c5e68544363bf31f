//! Many clients at once, more than the queue takes, and a stop in the middle.

use crate::fixture::{Server, key};
use serde_json::json;
use std::net::TcpStream;
use std::time::Duration;

#[test]
fn concurrent_requests_all_succeed_and_no_event_is_lost() {
    let server = Server::start();
    std::thread::scope(|scope| {
        for client_index in 0..8 {
            let client = server.client.clone();
            scope.spawn(move || {
                for step in 0..10 {
                    let item = key(client_index + step + 1);
                    assert_eq!(client.event(&json!({"user_id": "shared", "item_id": item}))["applied"], true);
                    let dim = [4, 8, 16][step % 3];
                    let reply = client.recommend(&json!({"user_id": format!("user {client_index}"), "dim": dim}));
                    assert_eq!(reply.json()["dim"], dim);
                    assert_eq!(client.get("/v1/items/i1/similar").status, 200);
                }
            });
        }
    });
    // The store keeps 20; the model reads 8.
    let reply = server.client.recommend(&json!({"user_id": "shared"}));
    assert_eq!(reply.json()["history_len"], 8);
    assert_eq!(server.client.get("/readyz").json()["users"], 1);
}

#[test]
fn past_max_in_flight_the_answer_is_503_and_nothing_queues() {
    let server = Server::with(|config| config.server.max_in_flight = 1);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let hammer = |index: usize| {
            let client = server.client.clone();
            move || -> Vec<u16> {
                let call = |step: usize| {
                    let event = json!({"user_id": format!("u{index}"), "item_id": key(1), "timestamp_ms": step});
                    let reply = client.post("/v1/events", &event);
                    if reply.status == 503 {
                        assert_eq!(reply.header("retry-after"), "1");
                        assert!(reply.text.contains("busy"), "{}", reply.text);
                    }
                    reply.status
                };
                (0..40).map(call).collect()
            }
        };
        let threads: Vec<_> = (0..8).map(|index| scope.spawn(hammer(index))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    // The permit came back.
    assert_eq!(server.client.get("/readyz").status, 200);
}

#[test]
fn a_stop_ends_cleanly_and_closes_the_port() {
    let server = Server::start();
    server.client.recommend(&json!({"user_id": "ada"}));
    let address = server.client.address;
    server.stop().unwrap();
    assert!(TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_err(), "the port still answers");
}

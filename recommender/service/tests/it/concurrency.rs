//! Many clients at once, more than the queue takes, and a stop in the middle.

use crate::fixture::{ITEMS, Server, key};
use crate::gate::Gate;
use serde_json::json;
use std::net::TcpStream;
use std::time::{Duration, Instant};

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
    let refused = statuses.iter().filter(|status| **status == 503).count();
    let counted = format!("recommender_refused_total{{reason=\"busy\",tier=\"none\"}} {refused}\n");
    let metrics = server.client.get("/metrics").text;
    assert!(metrics.contains(&counted), "no {counted} in\n{metrics}");
}

/// A search of the catalogue asks the clock once, with its turn in hand; two threads of a worker allow one at a time.
#[test]
fn searches_of_the_catalogue_leave_room_for_events() {
    let gate = Gate::default();
    let server = Server::timed(gate.clock(), |config| config.server.max_in_flight = 1);
    gate.shut_for(1);
    std::thread::scope(|scope| {
        let running = scope.spawn(|| server.client.get("/v1/items?title=item"));
        gate.wait_for(1);
        let refused = server.client.get("/v1/items");
        assert_eq!((refused.status, refused.header("retry-after")), (503, "1"), "{}", refused.text);
        assert!(refused.text.contains("too many searches of the catalogue"), "{}", refused.text);
        server.client.event(&json!({"user_id": "ada", "item_id": key(1)}));
        assert_eq!(server.client.get("/readyz").status, 200);
        assert_eq!(server.client.get("/v1/items/i1").status, 200, "one item is no search");
        gate.open();
        assert_eq!(running.join().unwrap().json()["items"].as_array().unwrap().len(), ITEMS.min(20));
    });
    assert_eq!(server.client.get("/v1/items").status, 200, "the turn came back");
    let metrics = server.client.get("/metrics").text;
    assert!(metrics.contains("recommender_refused_total{reason=\"catalogue\",tier=\"none\"} 1\n"), "{metrics}");
}

#[test]
fn a_stop_answers_what_is_under_way() {
    let gate = Gate::default();
    let mut server = Server::timed(gate.clock(), |_| ());
    let (client, address) = (server.client.clone(), server.client.address);
    gate.shut_for(2);
    std::thread::scope(|scope| {
        let search = scope.spawn(|| client.get("/v1/items"));
        let ranking = scope.spawn(|| client.recommend(&json!({"history": [key(3)]})));
        gate.wait_for(2);
        server.ask_to_stop();
        let end = Instant::now() + Duration::from_secs(4);
        while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok() {
            assert!(Instant::now() < end, "the port still answers");
            std::thread::sleep(Duration::from_millis(10));
        }
        gate.open();
        let search = search.join().unwrap();
        assert_eq!((search.status, search.header("connection")), (200, "close"), "{}", search.text);
        assert_eq!(ranking.join().unwrap().item_ids().len(), 5);
    });
    server.stop().unwrap();
}

/// So that a client that keeps its connection turns to another service while this one still answers.
#[test]
fn while_it_drains_every_answer_ends_its_connection() {
    let mut server = Server::with(|config| config.server.drain_delay_s = 3);
    // The last one is refused before a handler has the request.
    let paths = [
        ("/livez", 200),
        ("/v1/items", 200),
        ("/v1/items/none", 404),
        ("/nowhere", 404),
        ("/readyz", 503),
        ("/admin/v1/tiers", 401),
    ];
    for (path, _) in paths {
        assert_eq!(server.client.get(path).header("connection"), "", "{path}");
    }
    server.ask_to_stop();
    let end = Instant::now() + Duration::from_secs(2);
    while server.client.get("/readyz").status == 200 {
        assert!(Instant::now() < end, "it is still ready");
    }
    for (path, status) in paths {
        let reply = server.client.get(path);
        assert_eq!((reply.status, reply.header("connection")), (status, "close"), "{path}");
    }
    server.stop().unwrap();
}

#[test]
fn a_stop_ends_cleanly_and_closes_the_port() {
    let server = Server::start();
    server.client.recommend(&json!({"user_id": "ada"}));
    let address = server.client.address;
    server.stop().unwrap();
    assert!(TcpStream::connect_timeout(&address, Duration::from_secs(2)).is_err(), "the port still answers");
}

//! Load that bends a tier: smaller dims first and said so, refusals only past the smallest, and back.

use crate::client::Reply;
use crate::fixture::{Server, key};
use crate::gate::Gate;
use serde_json::json;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const ROOT: [(&str, &str); 1] = [("x-api-key", "key-of-root")];

/// One compute thread, and a target that sixteen clients at once cannot keep.
fn strained(min_dim: usize) -> Server {
    Server::with(move |config| {
        config.server.compute_threads = 1;
        config.server.max_batch = 1;
        config.server.max_wait_us = 0;
        config.tiers[2].latency_target_ms = 1;
        config.tiers[2].min_dim = min_dim;
    })
}

/// Long inline histories: each costs a model step.
fn hammer(server: &Server, clients: usize, requests: usize) -> Vec<Reply> {
    let history: Vec<String> = (1..=12).map(key).collect();
    let body = json!({"history": history, "tier": "premium"});
    std::thread::scope(|scope| {
        let ask = || (0..requests).map(|_| server.client.post("/v1/recommend", &body)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(ask)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_tier_steps_down_says_so_and_climbs_back() {
    let server = strained(8);
    let replies = hammer(&server, 16, 60);
    for reply in &replies {
        match reply.status {
            200 => {
                let body = reply.json();
                let dim = body["dim"].as_u64().unwrap();
                assert!(dim == 8 || dim == 16, "never below min_dim: {body}");
                assert_eq!(body["degraded"], dim < 16, "{body}");
            }
            503 => {
                assert!(reply.text.contains("overloaded at its smallest dim"), "{}", reply.text);
                assert!(reply.header("retry-after").parse::<u64>().unwrap() >= 1);
            }
            other => panic!("{other}: {}", reply.text),
        }
    }
    let degraded = replies.iter().filter(|reply| reply.status == 200 && reply.json()["degraded"] == true).count();
    assert!(degraded > 0, "sixteen clients on one thread did not strain it");
    let metrics = server.client.get("/metrics").text;
    assert!(metrics.contains("recommender_degraded_total{dim=\"8\",tier=\"premium\"}"), "{metrics}");
    let end = Instant::now() + Duration::from_secs(60);
    while server.client.get("/v1/bundle").json()["tiers"][2]["dim_now"] != 16 {
        assert!(Instant::now() < end, "it did not climb back");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_request_that_names_a_dim_is_stepped_down_too() {
    let server = Server::with(|config| {
        config.server.compute_threads = 1;
        config.server.max_batch = 1;
        config.tiers[1].latency_target_ms = 1;
    });
    let history: Vec<String> = (1..=12).map(key).collect();
    let body = json!({"history": history, "dim": 16});
    let degraded = std::thread::scope(|scope| {
        let ask = || (0..60).map(|_| server.client.post("/v1/recommend", &body)).collect::<Vec<_>>();
        let threads: Vec<_> = (0..16).map(|_| scope.spawn(ask)).collect();
        let replies = threads.into_iter().flat_map(|thread| thread.join().unwrap());
        replies.filter(|reply| reply.status == 200 && reply.json()["degraded"] == true).count()
    });
    assert!(degraded > 0);
}

/// A batch held open for long keeps the queue full: the one place is taken, the rest is refused.
#[test]
fn past_the_smallest_dim_a_full_queue_refuses_with_retry_after() {
    let server = Server::with(|config| {
        config.server.compute_threads = 1;
        config.server.max_queue = 2;
        config.server.max_batch = 1000;
        config.server.max_wait_us = 100_000;
    });
    let statuses: Vec<u16> = hammer(&server, 12, 10)
        .iter()
        .inspect(|reply| {
            if reply.status == 503 {
                assert!(!reply.header("retry-after").is_empty());
                assert_eq!(reply.header("content-type"), "application/problem+json");
            }
        })
        .map(|reply| reply.status)
        .collect();
    assert!(statuses.contains(&200) && statuses.contains(&503), "{statuses:?}");
    assert_eq!(server.client.get("/readyz").status, 200, "health does not queue behind requests");
}

/// While the one thread is held up the flood waits in its lane; what comes last, in another lane, is next all the same.
#[test]
fn a_tier_that_floods_does_not_starve_another() {
    let gate = Gate::default();
    let server = Server::timed(gate.clock(), |config| {
        config.server.compute_threads = 1;
        config.server.max_batch = 1;
        config.server.max_wait_us = 0;
        config.tiers[0].share_permille = 100;
    });
    let ask = |tier: &str| server.client.recommend(&json!({"history": [key(1)], "tier": tier})).json();
    let queued = |tier: usize, requests: usize| {
        let end = Instant::now() + Duration::from_secs(10);
        while server.client.call("GET", "/admin/v1/tiers", &ROOT, "").json()["live"][tier]["queued"] != requests {
            assert!(Instant::now() < end, "{requests} requests of tier {tier} do not wait");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    // The first of the flood, the one that is next, and the one after that.
    gate.shut_for(3);
    let flooded = AtomicUsize::new(0);
    let flood = || {
        ask("bulk");
        flooded.fetch_add(1, Ordering::SeqCst);
    };
    std::thread::scope(|scope| {
        scope.spawn(flood);
        gate.wait_for(1);
        (0..5).for_each(|_| drop(scope.spawn(flood)));
        queued(0, 5);
        let other = scope.spawn(|| (ask("premium"), flooded.load(Ordering::SeqCst)));
        queued(2, 1);
        gate.let_one_pass();
        gate.wait_for(2);
        gate.let_one_pass();
        let (answer, before) = other.join().unwrap();
        assert!(before <= 1, "{before} of the flood were answered first");
        assert_eq!(answer["dim"], 16);
        gate.open();
    });
    assert_eq!(flooded.into_inner(), 6, "the flood is answered too");
}

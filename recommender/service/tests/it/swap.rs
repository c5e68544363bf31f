//! Another Bundle without a restart: no request fails, a bad one is refused, and there is a way back.

use crate::client::Reply;
use crate::fixture::{ITEMS, Server, StopOnDrop, bundle_dir, key, other_bundle, train_config, train_into};
use fmrlrec::{Bundle, ModelConfig, ObjectiveConfig, TrainConfig};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicBool, Ordering};

const HEADERS: [(&str, &str); 2] = [("content-type", "application/json"), ("x-api-key", "key-of-root")];

fn load(server: &Server, body: Value) -> Reply {
    server.client.call("POST", "/admin/v1/bundle", &HEADERS, &body.to_string())
}

fn roll_back(server: &Server) -> Reply {
    server.client.call("POST", "/admin/v1/bundle/rollback", &HEADERS, "")
}

fn served(server: &Server) -> Value {
    server.client.get("/v1/bundle").json()["bundle_id"].clone()
}

fn id_of(dir: &std::path::Path) -> Value {
    json!(Bundle::open(dir).unwrap().id())
}

#[test]
fn swaps_under_load_fail_no_request() {
    other_bundle();
    let server = Server::start();
    let (first, other) = (id_of(bundle_dir()), id_of(other_bundle()));
    for item in 1..=5 {
        server.client.event(&json!({"user_id": "ada", "item_id": key(item)}));
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stopping = StopOnDrop(&stop);
        let ask = |index: usize| {
            let (server, stop, known) = (&server, &stop, [&first, &other]);
            move || {
                let mut asked = 0;
                while !stop.load(Ordering::Relaxed) {
                    let body = match index % 2 {
                        0 => json!({"user_id": "ada"}),
                        _ => json!({"history": [key(2), key(3)], "dim": 16}),
                    };
                    let reply = server.client.recommend(&body);
                    assert!(known.contains(&&reply.json()["bundle_id"]), "{}", reply.text);
                    assert_eq!(reply.item_ids().len(), 5);
                    asked += 1;
                }
                asked
            }
        };
        let threads: Vec<_> = (0..4).map(|index| scope.spawn(ask(index))).collect();
        for _ in 0..3 {
            let reply = load(&server, json!({"bundle": "other"}));
            assert_eq!(reply.status, 200, "{}", reply.text);
            assert_eq!(reply.json()["switched"], true);
            assert_eq!(served(&server), other);
            assert_eq!(roll_back(&server).status, 200);
            assert_eq!(served(&server), first);
        }
        drop(stopping);
        assert!(threads.into_iter().all(|thread| thread.join().unwrap() > 0));
    });
}

#[test]
fn after_a_swap_answers_are_the_other_bundles() {
    other_bundle();
    let server = Server::start();
    for item in 1..=5 {
        server.client.event(&json!({"user_id": "ada", "item_id": key(item)}));
    }
    let user = json!({"user_id": "ada", "k": 10});
    let before = server.client.recommend(&user);
    let report = load(&server, json!({"bundle": "other"})).json();
    assert_eq!((&report["compared"], &report["warmed_users"]), (&json!(1), &json!(1)), "{report}");
    assert!(report["overlap"].as_f64().unwrap() <= 1.0);
    let after = server.client.recommend(&user);
    let fresh = Server::with(|config| config.bundle = other_bundle().to_path_buf());
    let inline = json!({"history": (1..=5).map(key).collect::<Vec<_>>(), "k": 10});
    drop(load(&fresh, json!({"bundle": "other"})));
    assert_eq!(after.item_ids(), fresh.client.recommend(&inline).item_ids());
    assert_eq!(after.json()["bundle_id"], id_of(other_bundle()));
    assert_eq!(roll_back(&server).status, 200);
    assert_eq!(server.client.recommend(&user).item_ids(), before.item_ids());
    assert_eq!(roll_back(&server).status, 409, "a second call does not bring it back");
    assert_eq!(served(&server), id_of(bundle_dir()));
    let metrics = server.client.get("/metrics").text;
    assert!(metrics.contains("recommender_bundle_swaps_total{outcome=\"switched\"} 1"), "{metrics}");
    assert_eq!(metrics.matches("recommender_bundle_info{").count(), 1, "one Bundle is served");
}

/// The entries of both Bundles share one bound: those of the next must not push out each other.
#[test]
fn a_full_cache_is_as_full_after_a_swap_and_after_the_way_back() {
    other_bundle();
    let server = Server::start();
    let kept_users =
        || server.client.call("GET", "/admin/v1/bundle", &HEADERS, "").json()["kept_users"].as_u64().unwrap();
    let mut asked = 0;
    // Until one more user no longer makes one more entry.
    while kept_users() == asked {
        (0..100).for_each(|more| {
            server.client.recommend(&json!({"user_id": format!("u{}", asked + more)}));
        });
        asked += 100;
        assert!(asked < 20_000, "the cache is never full");
    }
    let full = kept_users();
    assert_eq!(load(&server, json!({"bundle": "other", "dry_run": true})).json()["warmed_users"], 0);
    assert_eq!(kept_users(), full, "a dry run computes nobody");
    let computed = || metric(&server, "recommender_user_vectors_total{outcome=\"computed\"}");
    // Of users that are asked for in turn, a cache that is a little too small loses some each time.
    let lost = || {
        let before = computed();
        (0..asked).for_each(|user| {
            server.client.recommend(&json!({"user_id": format!("u{user}")}));
        });
        computed() - before
    };
    let usual = lost();
    let check = |what: &str| {
        let lost = lost();
        assert!(lost < usual + asked as f64 / 5.0, "{what}: {lost} of {asked} were computed again, else {usual}");
    };
    let warmed = load(&server, json!({"bundle": "other"})).json()["warmed_users"].as_u64().unwrap();
    assert!(warmed >= full * 9 / 10, "{warmed} of {full}");
    check("after the swap");
    assert_eq!(roll_back(&server).status, 200);
    check("after the way back");
}

#[test]
fn a_bad_bundle_is_refused_and_the_old_one_keeps_serving() {
    other_bundle();
    let server = Server::start();
    let first = served(&server);
    let damaged = bundle_dir().with_file_name("damaged");
    std::fs::create_dir_all(&damaged).unwrap();
    for file in std::fs::read_dir(other_bundle()).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), damaged.join(file.file_name())).unwrap();
    }
    let weights = damaged.join("weights.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    let narrow = bundle_dir().with_file_name("narrow");
    let model = ModelConfig { nesting_dims: vec![4, 8], ..train_config().model };
    let objective =
        ObjectiveConfig { dim_weights: vec![1.0; 2], scaled_logits: false, distillation: 0.0, exits: Vec::new() };
    train_into(&narrow, TrainConfig { model, objective, epochs: 1, ..train_config() });

    let check = |body: Value, status: u16, detail: &str| {
        let reply = load(&server, body.clone());
        assert_eq!(reply.status, status, "{body}: {}", reply.text);
        assert!(reply.json()["detail"].as_str().unwrap().contains(detail), "{body}: {} lacks {detail:?}", reply.text);
        assert_eq!(served(&server), first, "{body}");
        server.client.recommend(&json!({"history": [key(1)]}));
    };
    check(json!({"bundle": "damaged"}), 422, "weights.safetensors: was altered");
    check(json!({"bundle": "narrow"}), 422, "asks for dim 16, which the Bundle was not trained at");
    check(json!({"bundle": "nowhere"}), 422, "nowhere");
    check(json!({"bundle": "other", "min_overlap": 1.0}), 422, "below min_overlap 1");
    for path in ["..", "../other", "/tmp", "a/b", "", ".hidden"] {
        check(json!({"bundle": path}), 400, "bundle is no folder name");
    }
    check(json!({"min_overlap": 2}), 400, "min_overlap is 2; send 0 to 1");
    assert_eq!(roll_back(&server).status, 409, "nothing was swapped");
    let dry = load(&server, json!({"bundle": "other", "dry_run": true}));
    assert_eq!((dry.status, &dry.json()["switched"]), (200, &json!(false)), "{}", dry.text);
    assert_eq!(served(&server), first);
}

/// Whoever has seen every item is answered none by any Bundle: that says nothing against the next one.
#[test]
fn a_request_that_no_bundle_can_answer_does_not_stand_in_its_way() {
    other_bundle();
    let server = Server::with(|config| config.state.max_history = 2 * ITEMS);
    for item in 1..=ITEMS {
        server.client.event(&json!({"user_id": "ada", "item_id": key(item)}));
    }
    assert!(server.client.recommend(&json!({"user_id": "ada"})).item_ids().is_empty());
    let check = |body: Value, compared: u64| {
        let reply = load(&server, body);
        assert_eq!((reply.status, &reply.json()["compared"]), (200, &json!(compared)), "{}", reply.text);
        reply.json()["overlap"].clone()
    };
    assert_eq!(check(json!({"bundle": "other", "dry_run": true}), 0), Value::Null);
    assert_eq!(load(&server, json!({"bundle": "other", "min_overlap": 0.1})).status, 422, "nothing was compared");
    server.client.recommend(&json!({"history": [key(1)]}));
    assert!(check(json!({"bundle": "other"}), 1).is_f64());
}

#[test]
fn a_trial_gives_the_same_users_the_same_bundle() {
    other_bundle();
    let server = Server::start();
    let (first, other) = (id_of(bundle_dir()), id_of(other_bundle()));
    let reply = load(&server, json!({"bundle": "other", "share_permille": 300}));
    assert_eq!((reply.status, &reply.json()["share_permille"]), (200, &json!(300)), "{}", reply.text);
    assert_eq!(reply.json()["switched"], false, "it is on trial");
    let bundle_of =
        |user: usize| server.client.recommend(&json!({"user_id": format!("u{user}")})).json()["bundle_id"].clone();
    let got: Vec<Value> = (0..200).map(bundle_of).collect();
    assert_eq!(got, (0..200).map(bundle_of).collect::<Vec<_>>(), "a user's Bundle does not change");
    let on_trial = got.iter().filter(|id| **id == other).count();
    assert!((30..90).contains(&on_trial), "{on_trial} of 200 at 300 in a thousand");
    assert!(got.iter().all(|id| [&first, &other].contains(&id)));
    let inline = server.client.recommend(&json!({"history": [key(1)]}));
    assert_eq!(inline.json()["bundle_id"], first, "nobody in particular stays with the Bundle of now");
    let requests: Vec<Value> = (0..5).map(|user| json!({"user_id": format!("u{user}")})).collect();
    let batch = server.client.post("/v1/recommend/batch", &json!({"requests": requests})).json();
    assert!((0..5).all(|user| batch["answers"][user]["bundle_id"] == got[user]), "{batch}");
    let metrics = server.client.get("/metrics").text;
    assert_eq!(metrics.matches("recommender_bundle_info{").count(), 2);
    assert!(
        metrics.contains(&format!("recommender_answers_total{{bundle_id={other},tier=\"standard\"}}")),
        "{metrics}"
    );

    assert_eq!(roll_back(&server).status, 200, "it ends the trial");
    assert!((0..200).all(|user| bundle_of(user) == first));
    for share in [0, 1001] {
        assert_eq!(load(&server, json!({"bundle": "other", "share_permille": share})).status, 400);
    }
}

#[test]
fn while_it_drains_it_is_not_ready_and_still_answers() {
    let mut server = Server::with(|config| config.server.drain_delay_s = 2);
    assert_eq!(server.client.get("/readyz").status, 200);
    server.ask_to_stop();
    let end = std::time::Instant::now() + std::time::Duration::from_millis(1500);
    while server.client.get("/readyz").status != 503 {
        assert!(std::time::Instant::now() < end, "it is still ready");
    }
    assert!(server.client.get("/readyz").text.contains("stopping"));
    server.client.recommend(&json!({"history": [key(1)]}));
    assert_eq!(server.client.get("/livez").status, 200);
    server.stop().unwrap();
}

fn metric(server: &Server, name: &str) -> f64 {
    let text = server.client.get("/metrics").text;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok()).unwrap_or(0.0)
}

/// Waits until so many questions in the shadow were answered.
fn compared(server: &Server, count: f64) {
    let begun = std::time::Instant::now();
    while metric(server, "recommender_shadow_total{outcome=\"compared\"}") < count {
        assert!(begun.elapsed() < std::time::Duration::from_secs(20), "{}", server.client.get("/metrics").text);
    }
}

#[test]
fn a_bundle_in_the_shadow_is_asked_and_its_answers_go_to_nobody() {
    other_bundle();
    let server = Server::start();
    let first = id_of(bundle_dir());
    let before = server.client.recommend(&json!({"history": [key(1)]})).item_ids();
    let reply = load(&server, json!({"bundle": "other", "share_permille": 1000, "shadow": true}));
    assert_eq!((reply.status, &reply.json()["shadow"]), (200, &json!(true)), "{}", reply.text);
    assert_eq!(served(&server), first, "it is not served");
    for asked in 1..=5 {
        let user = server.client.recommend(&json!({"user_id": format!("u{asked}"), "explain": true})).json();
        assert_eq!(user["bundle_id"], first);
        compared(&server, f64::from(2 * asked - 1));
        assert_eq!(server.client.recommend(&json!({"history": [key(1)]})).item_ids(), before);
        compared(&server, f64::from(2 * asked));
    }
    let (count, sum) =
        (metric(&server, "recommender_shadow_overlap_count"), metric(&server, "recommender_shadow_overlap_sum"));
    assert_eq!(count, 10.0);
    assert!((0.0..10.0).contains(&sum), "one epoch and twelve do not agree on everything: {sum}");
    assert_eq!(metric(&server, "recommender_shadow_total{outcome=\"failed\"}"), 0.0);
    let shown = server.client.call("GET", "/admin/v1/bundle", &HEADERS, "").json();
    assert_eq!((&shown["trial_in_shadow"], &shown["trial_permille"]), (&json!(true), &json!(1000)));
    // A Bundle agrees with itself, and a rollback ends the shadow.
    assert_eq!(roll_back(&server).status, 200);
    assert_eq!(load(&server, json!({"shadow": true})).status, 200);
    server.client.recommend(&json!({"history": [key(1)]}));
    compared(&server, 11.0);
    assert_eq!(metric(&server, "recommender_shadow_overlap_sum"), sum + 1.0);
    assert_eq!(roll_back(&server).status, 200);
    server.client.recommend(&json!({"history": [key(1)]}));
    assert_eq!(served(&server), first);
    let answers = server.client.get("/metrics").text;
    assert!(!answers.contains(&format!("recommender_answers_total{{bundle_id={}", id_of(other_bundle()))), "{answers}");
}

//! A tier that names a depth: its user vectors are those of the exit, kept or inline, beside those of
//! the whole model; a depth that was not trained is refused, at the start and at a swap.

use crate::client::Reply;
use crate::fixture::{Server, bundle_dir, key, other_bundle, train_config, train_into};
use fmrlrec::{Bundle, Cut, ExitConfig, TrainConfig};
use serde_json::{Value, json};
use service::ServiceConfig;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Beside the others, a Bundle of two blocks with an exit after the first up to dim 8, named `deep`.
fn deep_bundle() -> &'static Path {
    static DEEP: OnceLock<PathBuf> = OnceLock::new();
    DEEP.get_or_init(|| {
        let deep = bundle_dir().with_file_name("deep");
        let mut config = TrainConfig { epochs: 3, ..train_config() };
        config.model.blocks = 2;
        config.objective.exits = vec![ExitConfig { depth: 1, dim: 8, weight: 0.5 }];
        train_into(&deep, config);
        deep
    })
}

/// `standard` (dim 8) cut to one block; `premium` whole.
fn shallow(config: &mut ServiceConfig) {
    config.bundle = deep_bundle().to_path_buf();
    config.tiers[1].depth = Some(1);
}

/// Scores of all items by the Bundle itself, best first.
fn expected(history: &[u32], dim: usize, depth: usize) -> Vec<(String, f32)> {
    expected_of(history, dim, &Cut::exit(depth))
}

fn expected_of(history: &[u32], dim: usize, cut: &Cut) -> Vec<(String, f32)> {
    let bundle = Bundle::open(deep_bundle()).unwrap();
    let row = |id: &u32| &bundle.item_table()[*id as usize * 16..][..16];
    let rows: Vec<&[f32]> = history.iter().map(row).collect();
    let user = bundle.fold_of(&rows, dim, cut).unwrap();
    let score = |id: u32| row(&id).iter().zip(user.vector()).map(|(a, b)| a * b).sum::<f32>();
    let unseen = (1..=bundle.items().len() as u32).filter(|id| !history.contains(id));
    let mut scores: Vec<(String, f32)> = unseen.map(|id| (key(id as usize), score(id))).collect();
    scores.sort_by(|a, b| b.1.total_cmp(&a.1));
    scores
}

fn check(reply: &Reply, history: &[u32], dim: usize, depth: usize) {
    check_cut(reply, history, dim, &Cut::exit(depth));
}

fn check_cut(reply: &Reply, history: &[u32], dim: usize, cut: &Cut) {
    let answer = reply.json();
    assert_eq!(answer["dim"], dim, "{answer}");
    for (item, (key, score)) in answer["items"].as_array().unwrap().iter().zip(expected_of(history, dim, cut)) {
        assert_eq!(item["item_id"], key, "dim {dim}, {cut:?}: {answer}");
        assert!((item["score"].as_f64().unwrap() as f32 - score).abs() < 1e-4 * (1.0 + score.abs()), "{answer}");
    }
}

#[test]
fn a_tier_serves_its_depth() {
    let server = Server::with(shallow);
    let history = [3, 4, 5];
    for item in history {
        server.client.event(&json!({"user_id": "ada", "item_id": key(item as usize)}));
    }
    let keys: Vec<String> = history.iter().map(|id| key(*id as usize)).collect();
    // In turns: entries of different depths do not push each other out or get mixed up.
    for _ in 0..2 {
        for (tier, dim, depth) in [("standard", 8, 1), ("premium", 16, 2), ("bulk", 4, 2)] {
            check(&server.client.recommend(&json!({"user_id": "ada", "tier": tier})), &history, dim, depth);
            check(&server.client.recommend(&json!({"history": keys, "tier": tier})), &history, dim, depth);
        }
    }
    // One step on: the entry of each depth is carried on by itself.
    server.client.event(&json!({"user_id": "ada", "item_id": key(6)}));
    for (tier, dim, depth) in [("standard", 8, 1), ("premium", 16, 2)] {
        check(&server.client.recommend(&json!({"user_id": "ada", "tier": tier})), &[3, 4, 5, 6], dim, depth);
    }
    assert_ne!(expected(&history, 8, 1)[0].1, expected(&history, 8, 2)[0].1, "the depths differ");
}

/// A dim for each block: the user vector is that of the same cut made by the Bundle, carried on event by event.
#[test]
fn a_tier_serves_a_dim_for_each_block() {
    let server = Server::with(|config| {
        shallow(config);
        (config.tiers[1].depth, config.tiers[2].block_dims) = (None, Some(vec![16, 4]));
    });
    let shape = Bundle::open(deep_bundle()).unwrap().shape();
    let cut = Cut::new(&[16, 4], &shape).unwrap();
    let mut history = Vec::new();
    for item in [3, 4, 5] {
        history.push(item);
        server.client.event(&json!({"user_id": "ada", "item_id": key(item as usize)}));
        check_cut(&server.client.recommend(&json!({"user_id": "ada", "tier": "premium"})), &history, 16, &cut);
        check(&server.client.recommend(&json!({"user_id": "ada", "tier": "standard"})), &history, 8, 2);
    }
    assert_ne!(expected_of(&history, 16, &cut)[0].1, expected(&history, 16, 2)[0].1, "the cut differs");
    let refused = |tier: usize, depth: Option<usize>, block_dims: Vec<usize>, expect: &str| {
        let mut config: ServiceConfig = toml::from_str(crate::fixture::CONFIG).unwrap();
        (config.tiers[tier].depth, config.tiers[tier].block_dims) = (depth, Some(block_dims));
        let message = config.validate(&shape).unwrap_err().to_string();
        assert!(message.contains("tiers.block_dims") && message.contains(expect), "{message}");
    };
    refused(2, None, vec![16], "the model has 2 blocks");
    refused(2, None, vec![16, 5], "dim 5 was not trained");
    refused(2, None, vec![0, 0], "block dims [0, 0]");
    refused(1, Some(1), vec![16, 4], "has a depth too");
}

/// A request may name a dim past what the exit of its tier was trained up to: then the whole model answers.
#[test]
fn a_dim_that_the_exit_was_not_trained_at_is_served_by_the_whole_model() {
    let server = Server::with(shallow);
    let history = [3, 4, 5];
    let keys: Vec<String> = history.iter().map(|id| key(*id as usize)).collect();
    for (dim, depth) in [(4, 1), (8, 1), (16, 2)] {
        let ask = |page: Value| {
            let body = json!({"history": keys, "dim": dim, "k": 5, "cursor": page});
            server.client.call("POST", "/v1/recommend", &[("content-type", "application/json")], &body.to_string())
        };
        let first = ask(Value::Null);
        check(&first, &history, dim, depth);
        let second = ask(first.json()["next"].clone());
        assert_eq!(second.status, 200, "{}", second.text);
        assert_eq!(second.item_ids()[0], expected(&history, dim, depth)[5].0);
    }
}

#[test]
fn a_cursor_ends_when_the_tiers_depth_changes() {
    let server = Server::with(shallow);
    let headers = [("content-type", "application/json"), ("x-api-key", "key-of-root")];
    let page = |cursor: Value| {
        let body = json!({"history": [key(3)], "tier": "standard", "k": 5, "cursor": cursor});
        server.client.post("/v1/recommend", &body)
    };
    let next = page(Value::Null).json()["next"].clone();
    assert_eq!(page(next.clone()).status, 200);
    let now = server.client.call("GET", "/admin/v1/tiers", &headers, "").json();
    let mut body = json!({"tiers": now["tiers"], "version": now["version"], "note": "whole again"});
    body["tiers"][1]["depth"] = json!(2);
    let reply = server.client.call("PUT", "/admin/v1/tiers", &headers, &body.to_string());
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply = page(next);
    assert_eq!(reply.status, 410, "{}", reply.text);
    assert!(reply.text.contains("the tier another depth"), "{}", reply.text);
}

#[test]
fn a_depth_that_was_not_trained_is_refused() {
    let shape = Bundle::open(deep_bundle()).unwrap().shape();
    let check = |tier: usize, depth: usize, expect: &str| {
        let mut config: ServiceConfig = toml::from_str(crate::fixture::CONFIG).unwrap();
        config.tiers[tier].depth = Some(depth);
        match (config.validate(&shape), expect) {
            (Ok(()), "") => (),
            (Ok(()), expect) => panic!("tier {tier}, depth {depth} was accepted, not refused by {expect:?}"),
            (Err(error), expect) => {
                let message = error.to_string();
                assert!(!expect.is_empty() && message.contains(expect), "{message}");
            }
        }
    };
    check(0, 1, "");
    check(1, 1, "");
    check(2, 2, "");
    check(
        2,
        1,
        "tier \"premium\" asks for depth 1 at dim 16; the Bundle has 2 blocks and was trained at 1 up to dim 8",
    );
    check(1, 3, "tiers.depth");
    check(1, 0, "tiers.depth");

    // The other Bundle has one block: depth 1 is all of it. Back again, the tier means the exit.
    other_bundle();
    let server = Server::with(shallow);
    let load = |body: Value| {
        let headers = [("content-type", "application/json"), ("x-api-key", "key-of-root")];
        server.client.call("POST", "/admin/v1/bundle", &headers, &body.to_string())
    };
    let reply = load(json!({"bundle": "other"}));
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply = load(json!({"bundle": "deep"}));
    assert_eq!(reply.status, 200, "{}", reply.text);
    let deep = Server::with(|config| {
        shallow(config);
        config.tiers[1].depth = Some(2);
    });
    let headers = [("content-type", "application/json"), ("x-api-key", "key-of-root")];
    let reply = deep.client.call("POST", "/admin/v1/bundle", &headers, &json!({"bundle": "other"}).to_string());
    assert_eq!(reply.status, 422, "{}", reply.text);
    assert!(reply.text.contains("asks for depth 2"), "{}", reply.text);
}

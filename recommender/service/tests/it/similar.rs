//! `/v1/items/{id}/similar`: cosine over the item table at the dim asked for, without the item itself.

use crate::fixture::{DIMS, ITEMS, Server, bundle_dir, key};
use fmrlrec::Bundle;
use serde_json::{Value, json};

#[test]
fn scores_are_cosines_at_the_dim_in_descending_order() {
    let server = Server::start();
    let bundle = Bundle::open(bundle_dir()).unwrap();
    let width = DIMS[DIMS.len() - 1];
    for dim in DIMS {
        let vector = |id: usize| &bundle.item_table()[id * width..][..dim];
        let cosine = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(x * y)).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let body = server.client.get(&format!("/v1/items/i3/similar?k=20&dim={dim}")).json();
        let found: Vec<(String, f64)> = body["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| (item["item_id"].as_str().unwrap().to_string(), item["score"].as_f64().unwrap()))
            .collect();
        assert_eq!(found.len(), 20);
        assert!(found.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{found:?}");
        for (id, score) in &found {
            let item = (1..=ITEMS).find(|item| key(*item) == *id).unwrap();
            assert_ne!(item, 3, "the item itself came back");
            let expect = cosine(vector(3), vector(item));
            assert!((score - expect).abs() < 1e-4, "dim {dim}, {id}: {score} is not {expect}");
        }
        let best = (1..=ITEMS).filter(|id| *id != 3).map(|id| cosine(vector(3), vector(id))).fold(f64::MIN, f64::max);
        assert!((found[0].1 - best).abs() < 1e-4, "dim {dim}: the best is {best}");
    }
}

#[test]
fn the_query_chooses_k_and_tier() {
    let server = Server::start();
    let check = |path: &str, id: &str, k: usize, tier: Value, dim: usize| {
        let reply = server.client.get(path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        let body = reply.json();
        assert_eq!(reply.item_ids().len(), k, "{path}");
        assert_eq!((&body["item_id"], &body["tier"], &body["dim"]), (&json!(id), &tier, &json!(dim)), "{path}");
    };
    check("/v1/items/i3/similar", "i3", 5, json!("standard"), 8);
    check("/v1/items/i3/similar?k=2&tier=premium", "i3", 2, json!("premium"), 16);
    check("/v1/items/i3/similar?dim=4&k=20", "i3", 20, Value::Null, 4);
    // A key with a slash, a space and a letter beyond ASCII.
    check("/v1/items/dir%2F%C3%A9%207/similar", "dir/é 7", 5, json!("standard"), 8);
}

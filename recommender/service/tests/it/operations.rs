//! Health, metrics, metadata, the OpenAPI document and its page.

use crate::fixture::{DIMS, ITEMS, MAX_HISTORY, Server, bundle_dir, key};
use fmrlrec::Bundle;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const ROUTES: [(&str, &str); 21] = [
    ("get", "/v1/items/{id}"),
    ("put", "/v1/items/{id}"),
    ("delete", "/v1/items/{id}"),
    ("post", "/v1/recommend"),
    ("post", "/v1/recommend/batch"),
    ("post", "/v1/tiers/{tier}/recommend"),
    ("get", "/v1/items"),
    ("get", "/ui"),
    ("get", "/admin/v1/tiers"),
    ("put", "/admin/v1/tiers"),
    ("get", "/admin/v1/bundle"),
    ("post", "/admin/v1/bundle"),
    ("post", "/admin/v1/bundle/rollback"),
    ("post", "/v1/events"),
    ("post", "/v1/events/batch"),
    ("get", "/v1/items/{id}/similar"),
    ("get", "/v1/bundle"),
    ("get", "/livez"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("get", "/openapi.json"),
];

#[test]
fn health() {
    let server = Server::start();
    assert_eq!(server.client.get("/livez").json(), json!({"status": "live"}));
    server.client.event(&json!({"user_id": "ada", "item_id": key(1)}));
    let id = Bundle::open(bundle_dir()).unwrap().id().to_string();
    assert_eq!(server.client.get("/readyz").json(), json!({"status": "ready", "bundle_id": id, "users": 1}));
}

#[test]
fn the_bundle_is_described_without_the_keys_of_its_tiers() {
    let server = Server::start();
    let bundle = Bundle::open(bundle_dir()).unwrap();
    let reply = server.client.get("/v1/bundle");
    let body = reply.json();
    assert_eq!(body["bundle_id"], bundle.id());
    assert_eq!(body["dims"], json!(DIMS));
    assert_eq!((&body["items"], &body["max_history"]), (&json!(ITEMS), &json!(MAX_HISTORY)));
    assert_eq!(body["tiers"][1], json!({"name": "standard", "dim": 8, "default": true, "dim_now": 8}));
    for (told, measured) in body["quality"].as_array().unwrap().iter().zip(&bundle.report().dims) {
        assert_eq!(told["metrics"]["ndcg@10"].as_f64(), measured.metrics.get("ndcg@10").copied());
    }
    assert_eq!(body["quality"].as_array().unwrap().len(), DIMS.len());
    assert!(!reply.text.contains("key-of-ada"));
}

/// Value by name and labels; panics on a line that is no sample.
fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
        assert!(name.starts_with("recommender_"), "{line}");
        assert_eq!(name.contains('{'), name.ends_with('}'), "{line}");
        (name.to_string(), value.parse().unwrap_or_else(|_| panic!("no number: {line}")))
    };
    lines.map(sample).collect()
}

#[test]
fn metrics_count_by_route_status_tier_and_dim_and_name_nobody() {
    let server = Server::start();
    server.client.recommend(&json!({"user_id": "ada"}));
    server.client.recommend(&json!({"user_id": "ada", "dim": 16}));
    server.client.recommend(&json!({"history": ["unknown"], "tier": "bulk"}));
    server.client.post("/v1/recommend", &json!({"user_id": "ada", "dim": 5}));
    server.client.event(&json!({"user_id": "ada", "item_id": key(1), "event_id": "e"}));
    server.client.event(&json!({"user_id": "ada", "item_id": key(1), "event_id": "e"}));
    server.client.get("/v1/items/i1/similar");
    server.client.get("/v1/items/i2/similar");
    server.client.get("/secret-path/1");
    server.client.get("/secret-path/2");
    let reply = server.client.get("/metrics");
    assert!(reply.header("content-type").starts_with("text/plain; version=0.0.4"));
    let samples = samples(&reply.text);
    let check = |name: &str, expect: f64| assert_eq!(samples.get(name), Some(&expect), "{name} in\n{}", reply.text);
    let requests = |dim: &str, route: &str, status: u16, tier: &str| {
        format!(
            "recommender_http_requests_total{{dim=\"{dim}\",route=\"{route}\",status=\"{status}\",tier=\"{tier}\"}}"
        )
    };
    check(&requests("8", "/v1/recommend", 200, "standard"), 1.0);
    check(&requests("16", "/v1/recommend", 200, "none"), 1.0);
    check(&requests("4", "/v1/recommend", 200, "bulk"), 1.0);
    check(&requests("none", "/v1/recommend", 400, "none"), 1.0);
    check(&requests("none", "/v1/events", 200, "none"), 2.0);
    check(&requests("8", "/v1/items/{id}/similar", 200, "standard"), 2.0);
    check(&requests("none", "none", 404, "none"), 2.0);
    check("recommender_events_total{outcome=\"applied\"}", 1.0);
    check("recommender_events_total{outcome=\"duplicate\"}", 1.0);
    check("recommender_unknown_history_items_total", 1.0);
    check("recommender_http_requests_in_flight", 1.0);
    let bucket = "recommender_http_request_duration_seconds_bucket{dim=\"8\",route=\"/v1/items/{id}/similar\",tier=\"standard\",le=\"+Inf\"}";
    check(bucket, 2.0);
    for private in ["secret-path", "ada", "i1"] {
        assert!(!reply.text.contains(private), "{private} is in the metrics");
    }
}

#[test]
fn the_openapi_document_names_every_route_and_resolves() {
    let server = Server::start();
    let reply = server.client.get("/openapi.json");
    assert_eq!(reply.header("content-type"), "application/json");
    let document = reply.json();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    for (method, path) in ROUTES {
        let operation = &document["paths"][path][method];
        assert!(operation["responses"]["200"].is_object(), "{method} {path} is not described");
        assert!(operation["summary"].is_string(), "{method} {path} has no summary");
    }
    // Every call that needs a scope may be refused for its key.
    let scoped = |path: &str| (path.starts_with("/v1/") && path != "/v1/bundle") || path.starts_with("/admin/");
    for (method, path) in ROUTES.iter().filter(|(_, path)| scoped(path)) {
        let responses = &document["paths"][path][method]["responses"];
        assert!(["401", "403"].iter().all(|status| responses[status].is_object()), "{method} {path}");
    }
    // The key is one scheme, optional but where no setting opens the call, and no parameter.
    assert_eq!(document["security"], json!([{}, {"api_key": []}]));
    let scheme = &document["components"]["securitySchemes"]["api_key"];
    assert_eq!(
        (&scheme["type"], &scheme["in"], &scheme["name"]),
        (&json!("apiKey"), &json!("header"), &json!("x-api-key"))
    );
    for method in ["put", "delete"] {
        assert_eq!(document["paths"]["/v1/items/{id}"][method]["security"], json!([{"api_key": []}]));
    }
    for (method, path) in ROUTES {
        let parameters = document["paths"][path][method]["parameters"].to_string();
        assert!(!parameters.contains("x-api-key"), "{method} {path}");
    }
    let described = document["paths"].as_object().unwrap().values().map(|path| path.as_object().unwrap().len());
    assert_eq!(described.sum::<usize>(), ROUTES.len());
    let mut references = Vec::new();
    collect_references(&document, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    assert_eq!(service::openapi_json().unwrap(), reply.text);
}

fn collect_references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_string));
            fields.values().for_each(|value| collect_references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| collect_references(value, found)),
        _ => {}
    }
}

#[test]
fn swagger_ui_is_served_from_the_binary() {
    let server = Server::start();
    let page = server.client.get("/swagger-ui/");
    assert_eq!(page.status, 200);
    assert!(page.header("content-type").starts_with("text/html") && page.text.contains("swagger-ui"));
    let redirect = server.client.get("/swagger-ui");
    assert!((300..400).contains(&redirect.status) && redirect.header("location") == "/swagger-ui/", "{redirect:?}");
    let script = server.client.get("/swagger-ui/swagger-initializer.js");
    assert!(script.text.contains("/openapi.json"), "{}", script.text);
}

//! Calls from web pages of other origins: none without the table, and with it those of the API alone.

use crate::client::Reply;
use crate::fixture::{Server, key};
use serde_json::json;
use service::{CorsConfig, ServiceConfig};

const SHOP: &str = "https://shop.example";
const ALLOWED: &str = "access-control-allow-origin";
const JSON: (&str, &str) = ("content-type", "application/json");

fn open_to(origins: &[&str]) -> impl FnOnce(&mut ServiceConfig) {
    let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    |config| config.cors = Some(CorsConfig { origins, max_age_s: 600 })
}

fn get(server: &Server, path: &str, origin: &str) -> Reply {
    server.client.call("GET", path, &[("origin", origin)], "")
}

/// What a browser asks before a page sends something, never with an API key.
fn preflight(server: &Server, path: &str, origin: &str, method: &str, headers: &str) -> Reply {
    let asked = [
        ("origin", origin),
        ("access-control-request-method", method),
        ("access-control-request-headers", headers),
        ("x-request-id", "r1"),
    ];
    server.client.call("OPTIONS", path, &asked, "")
}

#[test]
fn without_the_table_nothing_is_said_of_origins() {
    let server = Server::start();
    let answer = get(&server, "/v1/bundle", SHOP);
    assert_eq!(answer.status, 200);
    let asked = preflight(&server, "/v1/recommend", SHOP, "POST", "content-type");
    assert_eq!((asked.status, asked.header("allow")), (405, "POST"), "{}", asked.text);
    for reply in [answer, asked] {
        let said =
            reply.headers.keys().find(|name| name.as_str().starts_with("access-control") || name.as_str() == "vary");
        assert_eq!(said, None);
    }
}

#[test]
fn a_page_of_an_allowed_origin_reads_answers_and_refusals() {
    let server = Server::with(|config| {
        open_to(&["http://localhost:3000", SHOP])(config);
        config.access.required = true;
        (config.tiers[2].rate_per_s, config.tiers[2].burst) = (1, 1);
    });
    let ask = |origin: &str, api_key: &str, body: &str| {
        let headers = [JSON, ("origin", origin), ("x-api-key", api_key)];
        server.client.call("POST", "/v1/recommend", &headers, body)
    };
    let user = json!({"user_id": "ada"}).to_string();
    let check = |reply: Reply, status: u16| {
        assert_eq!((reply.status, reply.header(ALLOWED)), (status, SHOP), "{}", reply.text);
        let exposed = reply.header("access-control-expose-headers");
        assert!(exposed.contains("x-request-id") && exposed.contains("retry-after"), "{exposed}");
        assert!(reply.header("vary").contains("Origin"), "caches keep the answers of origins apart");
        assert!(!reply.header("x-request-id").is_empty());
        assert_eq!(reply.header("access-control-allow-credentials"), "", "keys are sent, not cookies");
        reply
    };
    check(get(&server, "/v1/bundle", SHOP), 200);
    check(get(&server, "/%761/bundle", SHOP), 200);
    check(ask(SHOP, "key-of-ada", &user), 200);
    let refused = check(ask(SHOP, "key-of-ada", &user), 429);
    assert!(!refused.header("retry-after").is_empty());
    check(ask(SHOP, "key-of-ada", "{}"), 400);
    check(ask(SHOP, "key-of-root", &user), 403);
    let unknown = check(ask(SHOP, "", &user), 401);
    assert_eq!(unknown.header("content-type"), "application/problem+json");
    check(server.client.call("GET", "/v1/nothing", &[("origin", SHOP), ("x-api-key", "key-of-ada")], ""), 404);
    assert_eq!(get(&server, "/v1/bundle", "http://localhost:3000").header(ALLOWED), "http://localhost:3000");
}

#[test]
fn a_page_of_another_origin_reads_nothing() {
    let server = Server::with(open_to(&[SHOP]));
    for origin in ["https://evil.example", "https://shop.example.evil.example", "http://shop.example", "null"] {
        let answer = get(&server, "/v1/bundle", origin);
        assert_eq!((answer.status, answer.header(ALLOWED)), (200, ""), "the browser keeps it from the page");
        let asked = preflight(&server, "/v1/events", origin, "POST", "content-type");
        assert_eq!((asked.status, asked.header(ALLOWED)), (403, ""), "{origin}");
        assert_eq!(asked.header("content-type"), "application/problem+json", "{}", asked.text);
        assert_eq!((asked.header("x-request-id"), &asked.json()["request_id"]), ("r1", &json!("r1")));
        assert!(asked.json()["detail"].as_str().unwrap().contains("cors.origins"), "{}", asked.text);
    }
    // Who is no browser sends no origin, and nothing changes for it.
    assert_eq!(server.client.event(&json!({"user_id": "ada", "item_id": key(1)}))["applied"], true);
}

#[test]
fn a_preflight_needs_no_key_and_counts_against_no_rate() {
    let server = Server::with(|config| {
        open_to(&[SHOP])(config);
        config.access.required = true;
        config.tier_header = "X-Shop-Tier".into();
        for tier in &mut config.tiers {
            (tier.rate_per_s, tier.burst) = (1, 1);
        }
    });
    let sent = "content-type,x-api-key,x-shop-tier,x-request-id,traceparent";
    for path in ["/v1/recommend", "/v1/events", "/v1/items/new", "/v1/items/dir%2F1/similar"] {
        for method in ["GET", "POST", "PUT", "DELETE"] {
            let asked = preflight(&server, path, SHOP, method, sent);
            assert_eq!((asked.status, asked.header(ALLOWED)), (200, SHOP), "{method} {path}: {}", asked.text);
            assert_eq!(asked.header("access-control-max-age"), "600");
            let methods = asked.header("access-control-allow-methods");
            assert!(methods.contains(method), "{methods}");
            let headers = asked.header("access-control-allow-headers");
            assert!(sent.split(',').all(|header| headers.contains(header)), "{headers}");
            assert_eq!(asked.header("x-request-id"), "r1");
        }
    }
    let refused = |method: &str, headers: &str, part: &str| {
        let asked = preflight(&server, "/v1/recommend", SHOP, method, headers);
        assert_eq!((asked.status, asked.header(ALLOWED)), (403, ""), "{method} {headers}");
        assert!(asked.json()["detail"].as_str().unwrap().contains(part), "{}", asked.text);
    };
    refused("PATCH", "content-type", "does not answer this method");
    refused("POST", "content-type,x-other", "may not send one of these headers");
    // OPTIONS that announces no call is no preflight.
    let plain = server.client.call("OPTIONS", "/v1/recommend", &[("origin", SHOP)], "");
    assert_eq!((plain.status, plain.header(ALLOWED)), (401, SHOP), "{}", plain.text);

    let body = json!({"user_id": "ada"}).to_string();
    let headers = [JSON, ("origin", SHOP), ("x-api-key", "key-of-ada")];
    assert_eq!(server.client.call("POST", "/v1/recommend", &headers, &body).status, 200, "the rate is untouched");
    let metrics = server.client.get("/metrics").text;
    let counted = |status: u16, count: usize| {
        let line = format!(
            "recommender_http_requests_total{{dim=\"none\",route=\"preflight\",status=\"{status}\",tier=\"none\"}} {count}\n"
        );
        assert!(metrics.contains(&line), "{line} is not in\n{metrics}");
    };
    counted(200, 16);
    counted(403, 2);
}

#[test]
fn what_is_not_the_api_is_open_to_no_origin() {
    let server = Server::with(open_to(&["*"]));
    let admin = [("origin", SHOP), ("x-api-key", "key-of-root")];
    for path in ["/admin/v1/tiers", "/%61dmin/v1/bundle"] {
        let shown = server.client.call("GET", path, &admin, "");
        assert_eq!((shown.status, shown.header(ALLOWED), shown.header("vary")), (200, "", ""), "{path}");
        let asked = preflight(&server, path, SHOP, "PUT", "content-type,x-api-key");
        assert_eq!((asked.status, asked.header(ALLOWED)), (401, ""), "{path}: {}", asked.text);
    }
    for path in ["/livez", "/readyz", "/metrics", "/openapi.json", "/ui", "/v1", "/nowhere"] {
        assert_eq!(get(&server, path, SHOP).header(ALLOWED), "", "{path}");
        assert_eq!(preflight(&server, path, SHOP, "GET", "x-api-key").header(ALLOWED), "", "{path}");
    }
}

#[test]
fn every_origin_is_every_page() {
    let server = Server::with(open_to(&["*"]));
    for origin in [SHOP, "http://localhost:3000", "null"] {
        assert_eq!(get(&server, "/v1/bundle", origin).header(ALLOWED), "*", "{origin}");
        let asked = preflight(&server, "/v1/recommend", origin, "POST", "content-type");
        assert_eq!((asked.status, asked.header(ALLOWED)), (200, "*"), "{origin}");
        assert_eq!(asked.header("access-control-allow-credentials"), "");
    }
}

//! API keys: what each scope opens, what happens without a key, and what a tier's rate refuses.

use crate::client::Reply;
use crate::fixture::{Server, key};
use serde_json::json;
use service::{KeyConfig, Scope};

const JSON: (&str, &str) = ("content-type", "application/json");

fn call(server: &Server, method: &str, path: &str, api_key: &str, body: &str) -> Reply {
    let headers = [JSON, ("x-api-key", api_key)];
    server.client.call(method, path, if api_key.is_empty() { &headers[..1] } else { &headers }, body)
}

#[test]
fn scopes_open_what_they_name() {
    let server = Server::with(|config| {
        config.access.required = true;
        config.access.keys.push(KeyConfig {
            name: "reader".into(),
            sha256: "36b25be79ab228d4616570f70a8298442d5a6b0b8a018d5324989f475ac43887".into(),
            scopes: vec![Scope::Recommend],
            tier: String::new(),
        });
    });
    let event = json!({"user_id": "a", "item_id": key(1)}).to_string();
    let check = |method: &str, path: &str, api_key: &str, body: &str, status: u16| {
        let reply = call(&server, method, path, api_key, body);
        assert_eq!(reply.status, status, "{method} {path} {api_key:?}: {}", reply.text);
        if status >= 400 {
            assert_eq!(reply.header("content-type"), "application/problem+json", "{method} {path}");
            assert!(!reply.header("x-request-id").is_empty() && !reply.text.contains("key-of"), "{}", reply.text);
        }
        assert_eq!(status == 401, !reply.header("www-authenticate").is_empty(), "{method} {path}");
    };
    for (api_key, expect) in [
        ("", [401, 401, 401, 401]),
        ("wrong", [401; 4]),
        ("key-of-ada", [200, 200, 200, 403]),
        ("key-of-reader", [200, 403, 200, 403]),
        ("key-of-root", [403, 403, 403, 200]),
    ] {
        check("POST", "/v1/recommend", api_key, "{\"user_id\": \"a\"}", expect[0]);
        check("POST", "/v1/events", api_key, &event, expect[1]);
        check("POST", "/v1/events/batch", api_key, &format!("{{\"events\": [{event}]}}"), expect[1]);
        check("GET", "/v1/items/i1/similar", api_key, "", expect[2]);
        check("GET", "/admin/v1/tiers", api_key, "", expect[3]);
        for open in ["/livez", "/readyz", "/metrics", "/openapi.json", "/ui", "/v1/bundle"] {
            check("GET", open, api_key, "", 200);
        }
    }
}

#[test]
fn without_required_anybody_may_ask_but_not_administer() {
    let server = Server::start();
    for api_key in ["", "wrong"] {
        assert_eq!(call(&server, "POST", "/v1/recommend", api_key, "{\"user_id\": \"a\"}").status, 200);
        assert_eq!(call(&server, "GET", "/admin/v1/tiers", api_key, "").status, 401);
    }
    let server = Server::with(|config| config.access.keys.clear());
    let reply = call(&server, "GET", "/admin/v1/tiers", "key-of-root", "");
    assert_eq!(reply.status, 403);
    assert!(reply.text.contains("admin calls are off"), "{}", reply.text);
}

#[test]
fn a_rate_counts_for_each_key_and_for_all_others_together() {
    let server = Server::with(|config| {
        for tier in &mut config.tiers {
            (tier.rate_per_s, tier.burst) = (1, 3);
        }
    });
    let ask =
        |api_key: &str| call(&server, "POST", "/v1/recommend", api_key, "{\"user_id\": \"a\", \"tier\": \"bulk\"}");
    for caller in ["key-of-ada", ""] {
        let replies: Vec<Reply> = (0..6).map(|_| ask(caller)).collect();
        assert!(replies[..3].iter().all(|reply| reply.status == 200), "the burst passes");
        let refused = replies.iter().find(|reply| reply.status == 429).expect("six at once are past a burst of three");
        assert!(["1", "2"].contains(&refused.header("retry-after")), "{refused:?}");
        assert!(refused.text.contains("tier \\\"bulk\\\" takes 1 requests a second"), "{}", refused.text);
    }
    let metrics = server.client.get("/metrics").text;
    assert!(metrics.contains("recommender_refused_total{reason=\"rate\",tier=\"bulk\"}"), "{metrics}");
}

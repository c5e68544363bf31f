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
            may_choose: true,
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

/// Routes are matched with percent-encoding undone; so are the scopes that they need.
#[test]
fn no_spelling_of_a_path_goes_around_its_scope() {
    let check = |required: bool, method: &str, path: &str, status: u16| {
        let server = Server::with(|config| config.access.required = required);
        let reply = call(&server, method, path, "", "{}");
        assert_eq!(reply.status, status, "{method} {path}, required {required}: {}", reply.text);
    };
    check(false, "GET", "/%61dmin/v1/tiers", 401);
    check(false, "POST", "/admin/v1/bundle/%72ollback", 401);
    check(false, "PUT", "/v1/item%73/i1", 401);
    check(false, "DELETE", "/%76%31/items/i1", 401);
    check(true, "POST", "/%761/recommend", 401);
    check(true, "POST", "/v1/%65vents", 401);
    // What stays encoded names no route.
    check(true, "POST", "/v1%2Frecommend", 404);
    check(true, "GET", "/%6Civez", 200);
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
fn a_key_that_may_not_choose_gets_its_tier_and_smaller_dims() {
    let server = Server::with(|config| {
        config.access.keys[0].may_choose = false;
        config.access.keys[0].tier = "standard".into();
    });
    let check = |api_key: &str, wish: serde_json::Value, status: u16, dim: u64| {
        let mut body = json!({"user_id": "a"});
        body.as_object_mut().unwrap().extend(wish.as_object().unwrap().clone());
        let reply = call(&server, "POST", "/v1/recommend", api_key, &body.to_string());
        assert_eq!(reply.status, status, "{api_key} {wish}: {}", reply.text);
        match status {
            200 => assert_eq!(reply.json()["dim"], dim, "{api_key} {wish}"),
            _ => assert!(reply.text.contains("tier \\\"standard\\\" alone, and dims up to 8"), "{}", reply.text),
        }
    };
    for (wish, status, dim) in [
        (json!({}), 200, 8),
        (json!({"tier": "standard"}), 200, 8),
        (json!({"dim": 4}), 200, 4),
        (json!({"dim": 16}), 403, 0),
        (json!({"tier": "premium"}), 403, 0),
        (json!({"tier": "bulk"}), 403, 0),
    ] {
        check("key-of-ada", wish, status, dim);
    }
    check("", json!({"tier": "premium"}), 200, 16);
    let similar = call(&server, "GET", "/v1/items/i1/similar?tier=premium", "key-of-ada", "");
    assert_eq!(similar.status, 403, "{}", similar.text);
}

/// A key without a tier leaves the choice to the header.
#[test]
fn a_key_without_a_tier_does_not_hide_the_header() {
    let server = Server::with(|config| config.access.keys[0].tier = String::new());
    let ask = |headers: &[(&str, &str)]| {
        let reply = server.client.call("POST", "/v1/recommend", headers, "{\"user_id\": \"a\"}");
        reply.json()["tier"].clone()
    };
    let key = ("x-api-key", "key-of-ada");
    assert_eq!(ask(&[JSON, key, ("x-tier", "gold")]), "premium");
    assert_eq!(ask(&[JSON, key]), "standard");
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
    assert_eq!(call(&server, "GET", "/admin/v1/tiers", "wrong", "").status, 401);
    let metrics = server.client.get("/metrics").text;
    assert!(metrics.contains("recommender_refused_total{reason=\"rate\",tier=\"bulk\"}"), "{metrics}");
    let refused =
        "recommender_http_requests_total{dim=\"none\",route=\"/admin/v1/tiers\",status=\"401\",tier=\"none\"} 1\n";
    assert!(metrics.contains(refused), "{metrics}");
}

#[test]
fn item_changes_need_a_key_with_the_scope_items_in_any_case() {
    let server = Server::start();
    for method in ["PUT", "DELETE"] {
        let change = |api_key: &str| call(&server, method, "/v1/items/x", api_key, "{}");
        assert_eq!((change("").status, change("wrong").status), (401, 401));
        for api_key in ["key-of-ada", "key-of-root"] {
            let reply = change(api_key);
            assert_eq!(reply.status, 403);
            assert!(reply.text.contains("lacks the scope items"), "{}", reply.text);
        }
    }
    let closed = Server::with(|config| config.access.keys.retain(|key| key.name != "keeper"));
    let reply = call(&closed, "PUT", "/v1/items/x", "key-of-keeper", "{}");
    assert_eq!(reply.status, 403);
    assert!(reply.text.contains("item changes are off"), "{}", reply.text);
}

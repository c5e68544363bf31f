//! Everything a request can get wrong: the status, and the words that help, as a problem document.

use crate::client::{Client, Reply};
use crate::fixture::{Server, key};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::net::TcpStream;

const JSON: (&str, &str) = ("content-type", "application/json");

/// What every error has in common.
fn check_problem(reply: &Reply, status: u16, detail: &str, what: &str) {
    assert_eq!(reply.status, status, "{what}: {}", reply.text);
    assert_eq!(reply.header("content-type"), "application/problem+json", "{what}");
    let problem = reply.json();
    let found = problem["detail"].as_str().unwrap();
    assert!(found.contains(detail), "{what}: {found:?} lacks {detail:?}");
    assert!(!found.contains('\n'), "{what}: {found:?} is one sentence on one line");
    assert_eq!(problem["status"], status, "{what}");
    assert_eq!(problem["type"], "about:blank", "{what}");
    assert!(!problem["title"].as_str().unwrap().is_empty(), "{what}");
    assert!(!reply.header("x-request-id").is_empty(), "{what}");
    assert_eq!(problem["request_id"], reply.header("x-request-id"), "{what}");
}

fn check_post(client: &Client, path: &str, body: Value, detail: &str) {
    check_problem(&client.post(path, &body), 400, detail, &body.to_string());
}

#[test]
fn recommend() {
    let server = Server::start();
    let check = |body: Value, detail: &str| check_post(&server.client, "/v1/recommend", body, detail);
    let many = |count: usize| vec![key(1); count];
    check(json!({}), "neither user_id nor history");
    check(json!({"user_id": null, "history": null}), "neither user_id nor history");
    check(json!({"user_id": "a", "history": []}), "user_id and history are both given");
    check(json!({"user_id": "a", "k": 0}), "k is 0; ask for 1 to 20");
    check(json!({"user_id": "a", "k": 21}), "k is 21; ask for 1 to 20");
    check(json!({"user_id": "a", "k": -1}), "`-1`");
    check(json!({"user_id": "a", "k": "five"}), "\"five\"");
    check(json!({"user_id": "a", "dim": 5}), "dim 5 was not trained; use one of [4, 8, 16]");
    check(json!({"user_id": "a", "dim": 0}), "use one of [4, 8, 16]");
    check(
        json!({"user_id": "a", "tier": "gold"}),
        "tier \"gold\" is unknown; use one of [\"bulk\", \"standard\", \"premium\"]",
    );
    check(json!({"user_id": "a", "tier": "bulk", "dim": 4}), "tier and dim are both given");
    check(json!({"user_id": ""}), "user_id is empty");
    check(json!({"user_id": "a".repeat(41)}), "user_id has 41 bytes; at most 40");
    check(json!({"user_id": 7}), "`7`");
    check(json!({"history": many(13)}), "history has 13 items; at most 12");
    check(json!({"history": ["i1", ""]}), "history[1] is empty");
    check(json!({"history": ["b".repeat(41)]}), "history[0] has 41 bytes");
    check(json!({"history": "i1"}), "\"i1\"");
    check(json!({"user_id": "a", "exclude": many(7)}), "exclude has 7 items; at most 6");
    check(json!({"user_id": "a", "exclude": ["", "i1"]}), "exclude[0] is empty");
    check(json!({"user_id": "a", "top": 3}), "unknown field `top`");
    check(json!([]), "the body is not the JSON expected here");
}

#[test]
fn events() {
    let server = Server::start();
    let check = |body: Value, detail: &str| check_post(&server.client, "/v1/events", body, detail);
    check(json!({"item_id": "i1"}), "missing field `user_id`");
    check(json!({"user_id": "a"}), "missing field `item_id`");
    check(json!({"user_id": "", "item_id": "i1"}), "user_id is empty");
    check(json!({"user_id": "a", "item_id": ""}), "item_id is empty");
    check(json!({"user_id": "a", "item_id": "i1", "event_id": ""}), "event_id is empty");
    check(json!({"user_id": "a", "item_id": "c".repeat(41)}), "item_id has 41 bytes");
    check(json!({"user_id": "a", "item_id": "i1", "timestamp_ms": -5}), "timestamp_ms: -5");
    check(json!({"user_id": "a", "item_id": "i1", "timestamp_ms": "now"}), "\"now\"");
    check(json!({"user_id": "a", "item_id": "i1", "rating": 5}), "unknown field `rating`");
    assert_eq!(server.client.get("/readyz").json()["users"], 0, "a refused event leaves nothing");
}

#[test]
fn similar() {
    let server = Server::start();
    let check = |path: &str, status: u16, detail: &str| check_problem(&server.client.get(path), status, detail, path);
    check("/v1/items/nowhere/similar", 404, "item \"nowhere\" is neither in this bundle nor added to it");
    check("/v1/items/0/similar", 404, "item \"0\"");
    check("/v1/items/i1/similar?k=0", 400, "k is 0; ask for 1 to 20");
    check("/v1/items/i1/similar?k=21", 400, "k is 21");
    check("/v1/items/i1/similar?k=abc", 400, "k is \"abc\"");
    check("/v1/items/i1/similar?dim=-4", 400, "dim is \"-4\"");
    check("/v1/items/i1/similar?dim=5", 400, "use one of [4, 8, 16]");
    check("/v1/items/i1/similar?tier=gold", 400, "tier \"gold\" is unknown");
    check("/v1/items/i1/similar?tier=bulk&dim=4", 400, "both given");
    check("/v1/items/i1/similar?top=1", 400, "unknown field `top`");
    check("/v1/items/i1/similar?k=1&k=2", 400, "duplicate field `k`");
    check(&format!("/v1/items/{}/similar", "d".repeat(41)), 400, "id has 41 bytes");
}

#[test]
fn bodies_and_routes() {
    let server = Server::start();
    let check = |method: &str, path: &str, headers: &[(&str, &str)], body: &str, status: u16, detail: &str| {
        let reply = server.client.call(method, path, headers, body);
        check_problem(&reply, status, detail, &format!("{method} {path} {headers:?} {}", &body[..body.len().min(60)]));
        reply
    };
    for path in ["/v1/recommend", "/v1/events"] {
        check("POST", path, &[JSON], "{\"user_id\": ", 400, "EOF");
        check("POST", path, &[JSON], "", 400, "EOF");
        check("POST", path, &[JSON], "\u{7}", 400, "line 1 column 1");
        check("POST", path, &[("content-type", "text/plain")], "{}", 415, "application/json");
        let large = format!("{{\"user_id\": \"{}\"}}", "e".repeat(5000));
        check("POST", path, &[JSON], &large, 413, "at most 4096");
        assert_eq!(check("GET", path, &[], "", 405, "use POST").header("allow"), "POST");
        check("PUT", path, &[JSON], "{}", 405, "use POST");
    }
    for path in ["/v1/items/i1/similar", "/v1/bundle", "/livez", "/readyz", "/metrics", "/openapi.json"] {
        assert_eq!(check("POST", path, &[JSON], "{}", 405, "use GET").header("allow"), "GET");
        check("DELETE", path, &[], "", 405, "use GET");
    }
    for path in ["/", "/v1", "/v1/recommend/", "/v2/recommend", "/swagger-ui/nothing.js", "/v1/items//similar", "/%ff"]
    {
        let reply = server.client.get(path);
        assert_eq!(reply.header("content-type"), "application/problem+json", "{path}");
        check_problem(&reply, 404, "", path);
    }
}

/// A body without a length is cut off at the limit all the same, and a wrong length is no panic.
#[test]
fn raw_bodies() {
    let server = Server::start();
    let check = |head: &str, body: &[u8], status: &str, detail: &str| {
        let mut stream = TcpStream::connect(server.client.address).unwrap();
        let head = format!(
            "POST /v1/recommend HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n{head}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert!(reply.starts_with(&format!("HTTP/1.1 {status}")), "{reply}");
        assert!(reply.contains(detail), "{reply}");
    };
    let chunk = format!("{:x}\r\n{}\r\n0\r\n\r\n", 5000, " ".repeat(5000));
    check("transfer-encoding: chunked", chunk.as_bytes(), "413", "more than 4096 bytes");
    check("content-length: 2", b"\xff\xfe", "400", "the body is not the JSON expected here");
    check("content-length: 2\r\nx-api-key: \u{e9}", b"{}", "400", "neither user_id nor history");
}

#[test]
fn a_body_that_never_comes_is_given_up() {
    let server = Server::with(|config| config.server.request_timeout_s = 1);
    let mut stream = TcpStream::connect(server.client.address).unwrap();
    let head =
        "POST /v1/recommend HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(15))).unwrap();
    let mut reply = [0u8; 2048];
    let read = stream.read(&mut reply).unwrap();
    let reply = String::from_utf8_lossy(&reply[..read]);
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    assert!(reply.contains("application/problem+json") && reply.contains("not answered within 1 s"), "{reply}");
    assert!(reply.contains("x-request-id"), "{reply}");
    let counted =
        "recommender_http_requests_total{dim=\"none\",route=\"/v1/recommend\",status=\"503\",tier=\"none\"} 1\n";
    let metrics = server.client.get("/metrics").text;
    assert!(metrics.contains(counted), "a late request is its route's: {metrics}");
}

#[test]
fn request_ids() {
    let server = Server::start();
    let given = |id: &str| server.client.call("GET", "/v1/bundle", &[("x-request-id", id)], "");
    let longest = "f".repeat(64);
    for id in ["abc-123", longest.as_str(), "a!~"] {
        let reply = given(id);
        assert_eq!((reply.header("x-request-id"), &reply.json()["request_id"]), (id, &json!(id)));
    }
    let too_long = "f".repeat(65);
    for id in ["", "two words", too_long.as_str()] {
        let found = given(id).header("x-request-id").to_string();
        assert_eq!(found.len(), 36, "{id:?} became {found:?}");
        assert_eq!(found.as_bytes()[14], b'7', "{found:?} is no UUID v7");
    }
    let problem = server.client.call("GET", "/nowhere", &[("x-request-id", "abc")], "");
    assert_eq!((problem.header("x-request-id"), &problem.json()["request_id"]), ("abc", &json!("abc")));
}

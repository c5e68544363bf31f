//! The catalogue by title, page after page; HEAD wherever GET is; the page at /ui.

use crate::fixture::{ITEMS, Server};
use serde_json::Value;

#[test]
fn pages_follow_each_other_and_end() {
    let server = Server::start();
    let mut seen: Vec<String> = Vec::new();
    let mut cursor = String::new();
    loop {
        let body = server.client.get(&format!("/v1/items?limit=7{cursor}")).json();
        let page = body["items"].as_array().unwrap();
        assert!((1..=7).contains(&page.len()));
        seen.extend(page.iter().map(|item| item["title"].as_str().unwrap().to_string()));
        match &body["next"] {
            Value::String(next) => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    let all: Vec<String> = (1..=ITEMS).map(|item| format!("Item {item}")).collect();
    assert_eq!(seen, all);
}

#[test]
fn titles_are_found_in_any_case() {
    let server = Server::start();
    let check = |query: &str, expect: &[&str]| {
        let body = server.client.get(&format!("/v1/items?{query}")).json();
        let found: Vec<&str> =
            body["items"].as_array().unwrap().iter().map(|item| item["title"].as_str().unwrap()).collect();
        assert_eq!(found, expect, "{query}");
    };
    check("title=ITEM%2029", &["Item 29"]);
    check("title=item%203", &["Item 3", "Item 30"]);
    check("title=nothing", &[]);
    let refuse = |query: &str, detail: &str| {
        let reply = server.client.get(&format!("/v1/items?{query}"));
        assert_eq!(reply.status, 400, "{query}");
        assert!(reply.text.contains(detail), "{}", reply.text);
    };
    refuse("limit=0", "limit is 0; ask for 1 to 100");
    refuse("limit=101", "limit is 101");
    refuse("limit=x", "limit is \\\"x\\\"");
    refuse("cursor=nowhere", "cursor is none that this call gave");
    refuse("after=i1", "unknown field `after`");
    refuse(&format!("title={}", "a".repeat(201)), "title has 201 bytes");
}

#[test]
fn head_answers_wherever_get_does_without_a_body() {
    let server = Server::start();
    for path in
        ["/v1/items", "/v1/items/i1/similar", "/v1/bundle", "/livez", "/readyz", "/metrics", "/openapi.json", "/ui"]
    {
        let (get, head) = (server.client.get(path), server.client.call("HEAD", path, &[], ""));
        assert_eq!((head.status, head.text.as_str()), (200, ""), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[test]
fn the_page_needs_nothing_from_elsewhere() {
    let server = Server::start();
    let page = server.client.get("/ui");
    assert!(page.header("content-type").starts_with("text/html"));
    assert!(page.header("content-security-policy").starts_with("default-src 'none'"));
    // The name of SVG looks like an address and is none.
    let text = page.text.replace("http://www.w3.org/2000/svg", "");
    for outside in ["http://", "https://", "//cdn", "@import", "<link", "<img", " src="] {
        assert!(!text.contains(outside), "{outside} in the page");
    }
}

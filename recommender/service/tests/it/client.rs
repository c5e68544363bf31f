//! A small HTTP client: a request in, status, headers and body out, whatever the status.

use serde_json::Value;
use std::net::SocketAddr;
use std::time::Duration;
use ureq::Agent;
use ureq::http::{HeaderMap, Request};

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
    agent: Agent,
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// Keys of the ranked items of an answer.
    pub(crate) fn item_ids(&self) -> Vec<String> {
        let json = self.json();
        let items = json["items"].as_array().unwrap_or_else(|| panic!("no items: {json}"));
        items.iter().map(|item| item["item_id"].as_str().unwrap().to_string()).collect()
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Client {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(30)))
            .build();
        Client { address, agent: config.into() }
    }

    pub(crate) fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = match method {
            "POST" | "PUT" | "PATCH" => self.agent.run(request.body(body.to_string()).unwrap()),
            _ => self.agent.run(request.body(()).unwrap()),
        };
        let mut response = response.unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        Reply {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            text: response.body_mut().read_to_string().unwrap(),
        }
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.call("GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Reply {
        self.call("POST", path, &[("content-type", "application/json")], &body.to_string())
    }

    /// A recommendation that must succeed.
    pub(crate) fn recommend(&self, body: &Value) -> Reply {
        let reply = self.post("/v1/recommend", body);
        assert_eq!(reply.status, 200, "{body}: {}", reply.text);
        reply
    }

    /// An event that must be accepted.
    pub(crate) fn event(&self, body: &Value) -> Value {
        let reply = self.post("/v1/events", body);
        assert_eq!(reply.status, 200, "{body}: {}", reply.text);
        reply.json()
    }
}

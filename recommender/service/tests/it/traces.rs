//! Trace context: a caller's trace goes on, a broken header begins a new one, errors are in it too.

use crate::client::Reply;
use crate::fixture::Server;

fn parts(reply: &Reply) -> Vec<String> {
    let header = reply.header("traceparent");
    let parts: Vec<String> = header.split('-').map(str::to_owned).collect();
    assert!(parts.len() == 4 && parts[0] == "00" && parts[1].len() == 32 && parts[2].len() == 16, "{header:?}");
    parts
}

#[test]
fn a_callers_trace_goes_on_under_a_span_of_its_own() {
    let server = Server::start();
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    for (method, path, status) in [("GET", "/livez", 200), ("GET", "/nowhere", 404), ("PUT", "/v1/items/x", 401)] {
        let given = format!("00-{trace}-{span}-01");
        let reply = server.client.call(method, path, &[("traceparent", &given)], "{}");
        assert_eq!(reply.status, status, "{}", reply.text);
        let parts = parts(&reply);
        assert_eq!((parts[1].as_str(), parts[3].as_str()), (trace, "01"), "{path}");
        assert_ne!(parts[2], span, "{path}");
    }
    let ask = |given: &str| parts(&server.client.call("GET", "/livez", &[("traceparent", given)], ""));
    let (one, other) = (ask("00-not-a-trace"), ask("00-not-a-trace"));
    assert_ne!(one[1], other[1], "each begins a trace");
    assert_eq!(one[3], "00", "nobody asked to sample it");
    assert_ne!(parts(&server.client.get("/livez"))[1], "0".repeat(32));
}

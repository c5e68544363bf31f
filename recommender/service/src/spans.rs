//! Requests as spans, for whoever collects traces. The service knows no protocol: it tells a [`SpanSink`] of
//! every sampled request once it is answered, with the parts of it that took time.

use std::time::{Duration, Instant};

/// Takes the spans of sampled requests.
pub trait SpanSink: Send + Sync {
    /// Whether a trace that begins here is sampled; a caller's own decision comes with its `traceparent`.
    fn samples(&self, trace_id: u128) -> bool;

    /// A request was answered just now. Called on the thread of the request: must not block.
    fn put(&self, span: RequestSpan);
}

/// One answered request.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestSpan {
    /// Id of the trace, as in `traceparent`.
    pub trace_id: u128,
    /// Id of this span, as in the answer's `traceparent`.
    pub span_id: u64,
    /// The caller's span, if the trace is the caller's.
    pub parent_id: Option<u64>,
    /// HTTP method.
    pub method: String,
    /// Pattern of the route; none where no route matched.
    pub route: Option<String>,
    /// HTTP status of the answer.
    pub status: u16,
    /// As in the answer's `x-request-id`.
    pub request_id: String,
    /// The tier that chose the dim, if one did.
    pub tier: Option<String>,
    /// The dim that was used.
    pub dim: Option<usize>,
    /// From the head of the request being read to the answer's body being ready.
    pub took: Duration,
    /// Its parts, in order of time; none where no items were ranked.
    pub phases: Vec<Phase>,
}

/// A part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Phase {
    /// `queue` (waiting for a compute thread), `user` (the user vectors of its batch) or `search` (items of its batch).
    pub name: &'static str,
    /// Since the request began.
    pub after: Duration,
    /// How long it took.
    pub took: Duration,
}

/// Moments of a ranked request on its way through the compute threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Moments {
    pub(crate) asked: Instant,
    pub(crate) taken: Instant,
    /// When the user vectors of its batch were there.
    pub(crate) ready: Instant,
    pub(crate) ranked: Instant,
}

impl Moments {
    /// The parts between, of a request that began at `begun`.
    pub(crate) fn phases(&self, begun: Instant) -> Vec<Phase> {
        let part = |name, from: Instant, to: Instant| Phase {
            name,
            after: from.saturating_duration_since(begun),
            took: to.saturating_duration_since(from),
        };
        vec![
            part("queue", self.asked, self.taken),
            part("user", self.taken, self.ready),
            part("search", self.ready, self.ranked),
        ]
    }
}

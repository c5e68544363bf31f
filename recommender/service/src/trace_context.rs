//! W3C trace context: the trace a request belongs to, taken from `traceparent` or begun here, told in
//! logs and in the answer's `traceparent`, so that a caller's traces and this service's logs meet.
//!
//! `00-TRACE(32 hex)-SPAN(16 hex)-FLAGS(2 hex)`. A header that is not that begins a new trace, as the
//! recommendation asks.

use crate::spans::SpanSink;
use actix_web::http::header::{HeaderMap, HeaderName};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Header of the trace, in both directions.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// One request's place in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TraceContext {
    trace: u128,
    /// This request's own span.
    span: u64,
    /// The caller's span, if the trace is the caller's.
    parent: Option<u64>,
    flags: u8,
}

/// Of the flags, the one that says that the trace is collected.
const SAMPLED: u8 = 1;

impl TraceContext {
    /// The caller's trace with a span of its own, or a new trace, which `sink` may sample.
    pub(crate) fn from_headers(headers: &HeaderMap, sink: Option<&dyn SpanSink>) -> TraceContext {
        let given = headers.get(TRACEPARENT).and_then(|value| parse(value.to_str().ok()?));
        if let Some((trace, parent, flags)) = given {
            return TraceContext { trace, span: random(), parent: Some(parent), flags };
        }
        let trace = u128::from(random()) << 64 | u128::from(random());
        let flags = if sink.is_some_and(|sink| sink.samples(trace)) { SAMPLED } else { 0 };
        TraceContext { trace, span: random(), parent: None, flags }
    }

    /// Whether the trace is collected.
    pub(crate) fn sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// Ids of the trace, of this request's span and of the caller's.
    pub(crate) fn ids(&self) -> (u128, u64, Option<u64>) {
        (self.trace, self.span, self.parent)
    }

    /// The trace's id, 32 hex digits.
    pub(crate) fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// As sent on.
    pub(crate) fn header(&self) -> String {
        format!("00-{:032x}-{:016x}-{:02x}", self.trace, self.span, self.flags)
    }
}

/// Bits that nobody guesses and no system call is needed for: a counter under keys of this process. Never
/// zero, which would be no id.
fn random() -> u64 {
    static KEYS: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    KEYS.hash_one(NEXT.fetch_add(1, Ordering::Relaxed)).max(1)
}

/// Trace id, span id and flags of a header of version 00, or of a later one that begins like it.
fn parse(header: &str) -> Option<(u128, u64, u8)> {
    let mut parts = header.split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, digits: usize| {
        text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let well_formed = hex(version, 2) && hex(trace, 32) && hex(span, 16) && hex(flags, 2);
    if !well_formed || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    let (trace, span) = (u128::from_str_radix(trace, 16).ok()?, u64::from_str_radix(span, 16).ok()?);
    let flags = u8::from_str_radix(flags, 16).ok()?;
    // Of the flags only "sampled" is known; others must not be passed on.
    (trace != 0 && span != 0).then_some((trace, span, flags & SAMPLED))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_a_well_formed_header_is_taken_over() {
        let trace = "0af7651916cd43dd8448eb211c80319c";
        let check = |header: &str, expect: Option<u8>| {
            let expect = expect.map(|flags| (u128::from_str_radix(trace, 16).unwrap(), 0xb7ad_6b71_6920_3331, flags));
            assert_eq!(parse(header), expect, "{header}");
        };
        check(&format!("00-{trace}-b7ad6b7169203331-01"), Some(1));
        check(&format!("00-{trace}-b7ad6b7169203331-00"), Some(0));
        check(&format!("00-{trace}-b7ad6b7169203331-03"), Some(1));
        check(&format!("01-{trace}-b7ad6b7169203331-01-more"), Some(1));
        check(&format!("00-{trace}-b7ad6b7169203331-01-more"), None);
        check(&format!("ff-{trace}-b7ad6b7169203331-01"), None);
        check(&format!("00-{}-b7ad6b7169203331-01", trace.to_uppercase()), None);
        check(&format!("00-{}-b7ad6b7169203331-01", "0".repeat(32)), None);
        check(&format!("00-{trace}-0000000000000000-01"), None);
        check(&format!("00-{trace}-b7ad6b7169203331"), None);
        check("", None);
    }
}

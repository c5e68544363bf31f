//! Spans of requests to an OpenTelemetry collector, over OTLP/HTTP, where the environment names one.
//!
//! OpenTelemetry's own variables configure it: `OTEL_EXPORTER_OTLP_ENDPOINT` (or `.._TRACES_ENDPOINT`) turns it on;
//! `OTEL_TRACES_SAMPLER` may be `parentbased_always_on`, which is the default, `parentbased_always_off` or
//! `parentbased_traceidratio` with `OTEL_TRACES_SAMPLER_ARG`; the library reads the others (headers, timeout,
//! `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`). Spans wait in a bounded queue for a thread of their
//! own: a collector that is slow or away costs spans, never requests. Built with the feature `otlp`.

#[cfg(feature = "otlp")]
mod otlp;

#[cfg(feature = "otlp")]
pub(crate) use otlp::start;

/// A variable that is set to something.
fn set(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Whether a collector is named, and nobody says that it is not to be used.
fn wanted() -> bool {
    let named = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    named.into_iter().any(|name| set(name).is_some())
        && set("OTEL_SDK_DISABLED").is_none_or(|value| value != "true")
        && set("OTEL_TRACES_EXPORTER").is_none_or(|value| value != "none")
}

/// What stands in where the feature is not built.
#[cfg(not(feature = "otlp"))]
mod absent {
    use service::{RequestSpan, SpanSink};
    use std::sync::Arc;

    /// There are none.
    pub(crate) enum Traces {}

    impl SpanSink for Traces {
        fn samples(&self, _: u128) -> bool {
            match *self {}
        }

        fn put(&self, _: RequestSpan) {
            match *self {}
        }
    }

    impl Traces {
        pub(crate) fn stop(&self) {
            match *self {}
        }
    }

    /// Says that a collector is named in vain.
    pub(crate) fn start() -> anyhow::Result<Option<Arc<Traces>>> {
        if super::wanted() {
            crate::output::note("no traces are exported: this program was built without the feature otlp");
        }
        Ok(None)
    }
}

#[cfg(not(feature = "otlp"))]
pub(crate) use absent::start;

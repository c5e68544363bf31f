//! The exporter: a request's span and its parts become spans of OpenTelemetry's SDK, which batches and sends them.

use super::{set, wanted};
use crate::failure::bad_input;
use anyhow::Context as _;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::SpanExporter;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchSpanProcessor, IdGenerator as _, RandomIdGenerator, SpanData, SpanEvents, SpanLinks, SpanProcessor as _,
};
use service::{RequestSpan, SpanSink};
use std::borrow::Cow;
use std::sync::Arc;
use std::time::SystemTime;

/// Collects and sends spans until it is stopped.
pub(crate) struct Traces {
    processor: BatchSpanProcessor,
    ids: RandomIdGenerator,
    scope: InstrumentationScope,
    /// Share of the traces beginning here that are sampled.
    ratio: f64,
}

/// Starts the exporter if a collector is named.
///
/// # Errors
/// A variable that is no sampler, ratio or address.
pub(crate) fn start() -> anyhow::Result<Option<Arc<Traces>>> {
    if !wanted() {
        return Ok(None);
    }
    let ratio = sampler(set("OTEL_TRACES_SAMPLER").as_deref(), set("OTEL_TRACES_SAMPLER_ARG").as_deref())?;
    // This build has no TLS: every export would fail without a word.
    let endpoints = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    let named = endpoints.iter().find_map(|name| Some((name, set(name)?)));
    if let Some((name, url)) = named.filter(|(_, url)| !url.starts_with("http://")) {
        return Err(bad_input(format!("{name}={url:?} is not http://; name a collector beside this service")));
    }
    let exporter = SpanExporter::builder().build().context("OTEL_EXPORTER_OTLP_ENDPOINT")?;
    let mut processor = BatchSpanProcessor::builder(exporter).build();
    let named = set("OTEL_SERVICE_NAME").is_some()
        || set("OTEL_RESOURCE_ATTRIBUTES").is_some_and(|attributes| attributes.contains("service.name="));
    let resource = Resource::builder();
    let resource = if named { resource } else { resource.with_service_name("recommender") };
    processor.set_resource(&resource.build());
    let version = env!("CARGO_PKG_VERSION");
    let scope = InstrumentationScope::builder("recommender").with_version(version).build();
    Ok(Some(Arc::new(Traces { processor, ids: RandomIdGenerator::default(), scope, ratio })))
}

/// Share of new traces to sample.
fn sampler(name: Option<&str>, argument: Option<&str>) -> anyhow::Result<f64> {
    match name {
        None | Some("parentbased_always_on") => Ok(1.0),
        Some("parentbased_always_off") => Ok(0.0),
        Some("parentbased_traceidratio") => {
            let argument = argument.unwrap_or("1");
            argument.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio)).ok_or_else(|| {
                bad_input(format!("OTEL_TRACES_SAMPLER_ARG={argument:?} is no share; name one from 0 to 1"))
            })
        }
        Some(other) => Err(bad_input(format!(
            "OTEL_TRACES_SAMPLER={other:?} is not known here; name parentbased_always_on, parentbased_always_off or \
             parentbased_traceidratio"
        ))),
    }
}

impl Traces {
    /// Sends what waits, for some seconds at most.
    pub(crate) fn stop(&self) {
        if let Err(error) = self.processor.shutdown() {
            tracing::warn!(%error, "the last spans were not sent");
        }
    }

    fn span(
        &self,
        trace: TraceId,
        id: SpanId,
        parent: SpanId,
        name: Cow<'static, str>,
        (start_time, end_time): (SystemTime, SystemTime),
    ) -> SpanData {
        SpanData {
            span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::default()),
            parent_span_id: parent,
            parent_span_is_remote: false,
            span_kind: SpanKind::Internal,
            name,
            start_time,
            end_time,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: self.scope.clone(),
        }
    }
}

impl SpanSink for Traces {
    /// As OpenTelemetry's TraceIdRatioBased: the same traces in every process.
    fn samples(&self, trace_id: u128) -> bool {
        const LARGEST: f64 = (1_u64 << 63) as f64;
        self.ratio >= 1.0 || ((trace_id as u64 >> 1) as f64) < self.ratio * LARGEST
    }

    fn put(&self, request: RequestSpan) {
        let now = SystemTime::now();
        let begun = now - request.took;
        let (trace, id) = (TraceId::from(request.trace_id), SpanId::from(request.span_id));
        for phase in &request.phases {
            let (from, to) = (begun + phase.after, begun + phase.after + phase.took);
            self.processor.on_end(self.span(trace, self.ids.new_span_id(), id, phase.name.into(), (from, to)));
        }
        let parent = request.parent_id.map_or(SpanId::INVALID, SpanId::from);
        let name = match &request.route {
            Some(route) => format!("{} {route}", request.method),
            None => request.method.clone(),
        };
        let mut span = self.span(trace, id, parent, name.into(), (begun, now));
        span.parent_span_is_remote = request.parent_id.is_some();
        span.span_kind = SpanKind::Server;
        if request.status >= 500 {
            span.status = Status::error("");
        }
        span.attributes = attributes(request);
        self.processor.on_end(span);
    }
}

/// Names of OpenTelemetry's semantic conventions for HTTP where there are some.
fn attributes(request: RequestSpan) -> Vec<KeyValue> {
    let mut found = vec![
        KeyValue::new("http.request.method", request.method),
        KeyValue::new("http.response.status_code", i64::from(request.status)),
        KeyValue::new("recommender.request_id", request.request_id),
    ];
    found.extend(request.route.map(|route| KeyValue::new("http.route", route)));
    found.extend(request.tier.map(|tier| KeyValue::new("recommender.tier", tier)));
    found.extend(request.dim.map(|dim| KeyValue::new("recommender.dim", dim as i64)));
    found
}

#[cfg(test)]
mod tests {
    use super::sampler;

    #[test]
    fn samplers_are_read_or_refused() {
        let check = |name, argument, expect: f64| assert_eq!(sampler(name, argument).unwrap(), expect);
        check(None, None, 1.0);
        check(Some("parentbased_always_off"), None, 0.0);
        check(Some("parentbased_traceidratio"), Some("0.25"), 0.25);
        check(Some("parentbased_traceidratio"), None, 1.0);
        let refuse = |name, argument, part: &str| {
            let message = sampler(name, argument).unwrap_err().to_string();
            assert!(message.contains(part), "{message}");
        };
        refuse(Some("jaeger_remote"), None, "jaeger_remote");
        refuse(Some("parentbased_traceidratio"), Some("2"), "\"2\"");
        refuse(Some("parentbased_traceidratio"), Some("half"), "half");
    }
}

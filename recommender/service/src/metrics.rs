//! Prometheus metrics. Every label takes few values: route patterns, statuses, tiers of the config,
//! trained dims; never a path, a key or a user.

use actix_web::http::StatusCode;
use prometheus::{
    Encoder, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};
use std::time::Duration;

/// Label of requests whose path is no route, or which chose no tier or dim.
const NONE: &str = "none";

/// Upper bounds of the latency buckets, in seconds: finest where a recommendation is expected.
const LATENCY_BUCKETS_S: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Tier and dim as labels; handlers put it on the request.
#[derive(Debug, Clone)]
pub(crate) struct Labels {
    pub(crate) tier: String,
    pub(crate) dim: String,
}

impl Labels {
    pub(crate) fn none() -> Labels {
        Labels { tier: NONE.into(), dim: NONE.into() }
    }
}

impl From<&crate::tier::Choice> for Labels {
    fn from(choice: &crate::tier::Choice) -> Labels {
        Labels { tier: choice.tier.clone().unwrap_or_else(|| NONE.into()), dim: choice.dim.to_string() }
    }
}

/// The metrics of one running service.
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    latency_s: HistogramVec,
    pub(crate) in_flight: IntGauge,
    pub(crate) events: IntCounterVec,
    pub(crate) unknown_items: IntCounter,
}

impl Metrics {
    /// Registers everything in a registry of its own, so that two services in a process do not meet.
    pub(crate) fn new(bundle_id: &str) -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new("recommender_http_requests_total", "Requests answered."),
            &["route", "status", "tier", "dim"],
        )?;
        let latency_s = HistogramVec::new(
            HistogramOpts::new(
                "recommender_http_request_duration_seconds",
                "Time from a request's head to its answer.",
            )
            .buckets(LATENCY_BUCKETS_S.to_vec()),
            &["route", "tier", "dim"],
        )?;
        let in_flight = IntGauge::new("recommender_http_requests_in_flight", "Requests begun and not yet answered.")?;
        let events =
            IntCounterVec::new(Opts::new("recommender_events_total", "Events accepted, by outcome."), &["outcome"])?;
        let unknown_items = IntCounter::new(
            "recommender_unknown_history_items_total",
            "History items that the Bundle does not know and that were skipped.",
        )?;
        let bundle =
            IntGaugeVec::new(Opts::new("recommender_bundle_info", "1 for the Bundle that is served."), &["bundle_id"])?;
        bundle.with_label_values(&[bundle_id]).set(1);
        registry.register(Box::new(requests.clone()))?;
        registry.register(Box::new(latency_s.clone()))?;
        registry.register(Box::new(in_flight.clone()))?;
        registry.register(Box::new(events.clone()))?;
        registry.register(Box::new(unknown_items.clone()))?;
        registry.register(Box::new(bundle))?;
        Ok(Metrics { registry, requests, latency_s, in_flight, events, unknown_items })
    }

    /// Counts one answered request; `route` is the pattern that matched.
    pub(crate) fn answered(&self, route: Option<&str>, status: StatusCode, labels: &Labels, took: Duration) {
        let (route, tier, dim) = (route.unwrap_or(NONE), labels.tier.as_str(), labels.dim.as_str());
        self.requests.with_label_values(&[route, status.as_str(), tier, dim]).inc();
        self.latency_s.with_label_values(&[route, tier, dim]).observe(took.as_secs_f64());
    }

    /// The text exposition format.
    pub(crate) fn text(&self) -> Result<String, prometheus::Error> {
        let mut bytes = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut bytes)?;
        String::from_utf8(bytes).map_err(|error| prometheus::Error::Msg(error.to_string()))
    }
}

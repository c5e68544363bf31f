//! Prometheus metrics. Every label takes few values: route patterns, statuses, tiers of the config,
//! trained dims, the newest Bundles; never a path, a key or a user.

use crate::compute::Ranked;
use crate::served::BundleSlot;
use crate::spans::Moments;
use crate::tiers::Choice;
use actix_web::http::StatusCode;
use prometheus::core::Collector;
use prometheus::{
    Encoder, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Label of requests whose path is no route, or which chose no tier or dim.
const NONE: &str = "none";

/// Upper bounds of the latency buckets, in seconds: finest where a recommendation is expected.
const LATENCY_BUCKETS_S: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// Upper bounds of the batch sizes.
const BATCH_BUCKETS: [f64; 9] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Bundles whose answers are counted apart, those served last: a service may live through any number of them.
const BUNDLES: usize = 8;

/// Upper bounds of the shares that two Bundles agree on.
const OVERLAP_BUCKETS: [f64; 6] = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0];

/// Tier and dim as labels, and what took time; handlers put it on the request.
#[derive(Debug, Clone, Default)]
pub(crate) struct Labels {
    /// The tier that chose the dim, if one did.
    pub(crate) tier: Option<Arc<str>>,
    /// The dim that was used.
    pub(crate) dim: Option<usize>,
    /// Of a request whose items were ranked.
    pub(crate) moments: Option<Moments>,
}

impl Labels {
    /// Of a request that may yet be ranked at a smaller dim.
    pub(crate) fn of(choice: &Choice, dim: usize) -> Labels {
        Labels { tier: choice.by_tier.then(|| Arc::clone(&choice.tier.name)), dim: Some(dim), moments: None }
    }

    /// Of a ranked request.
    pub(crate) fn ranked(choice: &Choice, ranked: &Ranked) -> Labels {
        Labels { moments: Some(ranked.moments), ..Labels::of(choice, ranked.dim) }
    }
}

/// The metrics of one running service. Clones count together.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    latency_s: HistogramVec,
    bundle: IntGaugeVec,
    /// Bundles that were served, the last one last.
    bundles: Arc<Mutex<VecDeque<String>>>,
    pub(crate) in_flight: IntGauge,
    pub(crate) events: IntCounterVec,
    pub(crate) unknown_items: IntCounter,
    /// Items that the model read: what user vectors cost.
    pub(crate) model_items: IntCounter,
    /// By Bundle and tier: what a trial is compared on.
    pub(crate) answers: IntCounterVec,
    /// By Bundle: seconds from the question to the ranked items.
    pub(crate) answer_s: HistogramVec,
    /// By tier and dim used.
    pub(crate) degraded: IntCounterVec,
    /// By tier, if it was known, and reason.
    pub(crate) refused: IntCounterVec,
    /// By tier: the dim of now.
    pub(crate) tier_dim: IntGaugeVec,
    /// By tier: requests waiting.
    pub(crate) queue_depth: IntGaugeVec,
    /// By where the vector came from.
    pub(crate) user_vectors: IntCounterVec,
    pub(crate) batch_size: Histogram,
    /// By outcome.
    pub(crate) swaps: IntCounterVec,
    /// Questions to a Bundle in the shadow, by outcome.
    pub(crate) shadow: IntCounterVec,
    /// Share of an answer that it agrees with.
    pub(crate) shadow_overlap: Histogram,
    /// Items of the Bundle of now that came after training.
    pub(crate) added_items: IntGauge,
    /// Stored items that it cannot place.
    pub(crate) left_out_items: IntGauge,
}

impl Metrics {
    /// Registers everything in a registry of its own, so that two services in a process do not meet.
    pub(crate) fn new() -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let latency = HistogramOpts::new(
            "recommender_http_request_duration_seconds",
            "Time from a request's head to its answer.",
        );
        let latency_s = HistogramVec::new(latency.buckets(LATENCY_BUCKETS_S.to_vec()), &["route", "tier", "dim"])?;
        let answer = HistogramOpts::new(
            "recommender_answer_duration_seconds",
            "Time from a question to its ranked items, waiting included, by Bundle.",
        );
        let answer_s = HistogramVec::new(answer.buckets(LATENCY_BUCKETS_S.to_vec()), &["bundle_id"])?;
        let sizes = HistogramOpts::new("recommender_batch_size", "Requests that a compute thread took at once.");
        let overlaps = HistogramOpts::new(
            "recommender_shadow_overlap",
            "Share of an answer's items that a Bundle in the shadow answers too.",
        );
        let metrics = Metrics {
            requests: counter("http_requests_total", "Requests answered.", &["route", "status", "tier", "dim"])?,
            latency_s,
            bundle: gauge("bundle_info", "1 for each Bundle that is served.", &["bundle_id"])?,
            bundles: Arc::default(),
            in_flight: IntGauge::new("recommender_http_requests_in_flight", "Requests begun and not yet answered.")?,
            events: counter(
                "events_total",
                "Events asked to be stored, by outcome; unwritten and refused_by_stream were not.",
                &["outcome"],
            )?,
            unknown_items: IntCounter::new(
                "recommender_unknown_history_items_total",
                "History items that the Bundle does not know and that were skipped.",
            )?,
            model_items: IntCounter::new(
                "recommender_model_items_total",
                "Items that the model read for user vectors and explanations, a step or a position of a forward pass each.",
            )?,
            answers: counter("answers_total", "Recommendations answered, by Bundle.", &["bundle_id", "tier"])?,
            answer_s,
            degraded: counter("degraded_total", "Answers at a smaller dim than the tier's.", &["tier", "dim"])?,
            refused: counter("refused_total", "Requests refused for load or rate.", &["tier", "reason"])?,
            tier_dim: gauge("tier_dim", "Dim that a tier is served at now.", &["tier"])?,
            queue_depth: gauge("queue_depth", "Requests of a tier that wait for a compute thread.", &["tier"])?,
            user_vectors: counter("user_vectors_total", "User vectors by where they came from.", &["outcome"])?,
            batch_size: Histogram::with_opts(sizes.buckets(BATCH_BUCKETS.to_vec()))?,
            swaps: counter("bundle_swaps_total", "Loads of another Bundle, by outcome.", &["outcome"])?,
            shadow: counter("shadow_total", "Questions to a Bundle in the shadow, by outcome.", &["outcome"])?,
            shadow_overlap: Histogram::with_opts(overlaps.buckets(OVERLAP_BUCKETS.to_vec()))?,
            added_items: IntGauge::new("recommender_added_items", "Items served that came after training.")?,
            left_out_items: IntGauge::new("recommender_left_out_items", "Stored items that the Bundle cannot place.")?,
            registry,
        };
        metrics.register()?;
        Ok(metrics)
    }

    fn register(&self) -> Result<(), prometheus::Error> {
        let all: [Box<dyn Collector>; 20] = [
            Box::new(self.requests.clone()),
            Box::new(self.latency_s.clone()),
            Box::new(self.bundle.clone()),
            Box::new(self.in_flight.clone()),
            Box::new(self.events.clone()),
            Box::new(self.unknown_items.clone()),
            Box::new(self.model_items.clone()),
            Box::new(self.answers.clone()),
            Box::new(self.answer_s.clone()),
            Box::new(self.degraded.clone()),
            Box::new(self.refused.clone()),
            Box::new(self.tier_dim.clone()),
            Box::new(self.queue_depth.clone()),
            Box::new(self.user_vectors.clone()),
            Box::new(self.batch_size.clone()),
            Box::new(self.swaps.clone()),
            Box::new(self.shadow.clone()),
            Box::new(self.shadow_overlap.clone()),
            Box::new(self.added_items.clone()),
            Box::new(self.left_out_items.clone()),
        ];
        all.into_iter().try_for_each(|metric| self.registry.register(metric))
    }

    /// Says which Bundles are served.
    pub(crate) fn bundles_are(&self, slot: &BundleSlot) {
        self.bundle.reset();
        let on_trial = slot.trial().map(|trial| trial.served);
        for served in std::iter::once(slot.current()).chain(on_trial) {
            self.bundle.with_label_values(&[served.bundle.id()]).set(1);
            self.serves(served.bundle.id());
        }
    }

    /// Notes that a Bundle is served, and forgets what was counted of those that were long ago.
    fn serves(&self, bundle_id: &str) {
        // The list is whole between calls, so a lock that a panic left behind is still good.
        let mut bundles = self.bundles.lock().unwrap_or_else(PoisonError::into_inner);
        bundles.retain(|known| known != bundle_id);
        bundles.push_back(bundle_id.to_owned());
        while bundles.len() > BUNDLES {
            bundles.pop_front().iter().for_each(|gone| self.forget_bundle(gone));
        }
    }

    fn forget_bundle(&self, bundle_id: &str) {
        // What never answered has no series: that is all an error can say.
        let _ = self.answer_s.remove_label_values(&[bundle_id]);
        for metric in self.answers.collect().iter().flat_map(|family| family.get_metric()) {
            let label = |name: &str| metric.get_label().iter().find(|label| label.name() == name);
            let (of, tier) = (label("bundle_id"), label("tier"));
            if let Some(tier) = tier.filter(|_| of.is_some_and(|of| of.value() == bundle_id)) {
                let _ = self.answers.remove_label_values(&[bundle_id, tier.value()]);
            }
        }
    }

    /// Counts a request that was refused for load before it had a tier.
    pub(crate) fn refused_before_tier(&self, reason: &str) {
        self.refused.with_label_values(&[NONE, reason]).inc();
    }

    /// Forgets the gauges of tiers that are gone.
    pub(crate) fn forget_tiers(&self) {
        self.tier_dim.reset();
        self.queue_depth.reset();
    }

    /// Counts one answered request; `route` is the pattern that matched, or what stands for one.
    pub(crate) fn answered(&self, route: Option<&str>, status: StatusCode, labels: &Labels, took: Duration) {
        let dim = labels.dim.map(|dim| dim.to_string());
        let (route, tier, dim) =
            (route.unwrap_or(NONE), labels.tier.as_deref().unwrap_or(NONE), dim.as_deref().unwrap_or(NONE));
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

fn counter(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
    IntCounterVec::new(Opts::new(format!("recommender_{name}"), help), labels)
}

fn gauge(name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
    IntGaugeVec::new(Opts::new(format!("recommender_{name}"), help), labels)
}

#[cfg(test)]
mod tests {
    use super::{BUNDLES, Metrics};

    #[test]
    fn what_was_counted_of_bundles_long_gone_is_forgotten() {
        let metrics = Metrics::new().unwrap();
        let serve = |number: usize| {
            let id = format!("b{number}");
            metrics.serves(&id);
            for tier in ["bulk", "premium"] {
                metrics.answers.with_label_values(&[id.as_str(), tier]).inc();
            }
            metrics.answer_s.with_label_values(&[id.as_str()]).observe(0.01);
        };
        (0..BUNDLES).for_each(serve);
        // One that is served again is the newest.
        [0, BUNDLES, BUNDLES + 1].into_iter().for_each(serve);
        let text = metrics.text().unwrap();
        for number in 0..BUNDLES + 2 {
            let kept = text.contains(&format!("bundle_id=\"b{number}\""));
            assert_eq!(kept, ![1, 2].contains(&number), "b{number} in\n{text}");
        }
    }
}

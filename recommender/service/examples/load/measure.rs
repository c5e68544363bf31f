//! What a run saw: latencies, statuses, dims.

use crate::connection::Answer;
use std::collections::BTreeMap;

/// Collected over a run.
#[derive(Debug, Default)]
pub(crate) struct Measured {
    /// Of answers with items, in microseconds from the scheduled moment.
    latencies_us: Vec<u32>,
    /// Of refusals.
    refused_us: Vec<u32>,
    statuses: BTreeMap<u16, u64>,
    dims: BTreeMap<usize, u64>,
    degraded: u64,
    broken: u64,
}

impl Measured {
    pub(crate) fn add(&mut self, answer: std::io::Result<Answer>, latency_us: u32) {
        let Ok(answer) = answer else {
            self.broken += 1;
            return;
        };
        *self.statuses.entry(answer.status).or_default() += 1;
        if answer.status == 200 {
            self.latencies_us.push(latency_us);
            *self.dims.entry(answer.dim).or_default() += 1;
            self.degraded += u64::from(answer.degraded);
        } else {
            self.refused_us.push(latency_us);
        }
    }

    /// One JSON object: `seconds` is the time from the first request to the last answer.
    pub(crate) fn report(mut self, seconds: f64) -> serde_json::Value {
        self.latencies_us.sort_unstable();
        self.refused_us.sort_unstable();
        let sent = self.statuses.values().sum::<u64>() + self.broken;
        let good = self.latencies_us.len() as f64;
        let share = |part: f64, whole: f64| (part / whole.max(1.0) * 10_000.0).round() / 10_000.0;
        serde_json::json!({
            "requests": sent,
            "answered_per_s": (good / seconds).round(),
            "p50_ms": quantile_ms(&self.latencies_us, 0.50),
            "p90_ms": quantile_ms(&self.latencies_us, 0.90),
            "p99_ms": quantile_ms(&self.latencies_us, 0.99),
            "p999_ms": quantile_ms(&self.latencies_us, 0.999),
            "max_ms": quantile_ms(&self.latencies_us, 1.0),
            "refused_p99_ms": quantile_ms(&self.refused_us, 0.99),
            "degraded": share(self.degraded as f64, good),
            "refused": share(self.refused_us.len() as f64, sent as f64),
            "broken_connections": self.broken,
            "statuses": self.statuses,
            "dims": self.dims,
        })
    }
}

fn quantile_ms(sorted_us: &[u32], quantile: f64) -> Option<f64> {
    let last = sorted_us.len().checked_sub(1)?;
    let at = (last as f64 * quantile).round() as usize;
    Some((f64::from(sorted_us[at]) / 10.0).round() / 100.0)
}

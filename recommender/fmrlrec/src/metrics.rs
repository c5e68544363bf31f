//! Recall, NDCG and MRR at cutoffs, for one relevant item a user. Means over users.

use std::collections::BTreeMap;

/// The cutoffs `k` of every report.
pub const CUTOFFS: [usize; 5] = [1, 5, 10, 20, 50];

/// Metrics named `recall@10`, `ndcg@10`, `mrr@10`, ... from the 1-based rank of each user's target.
pub fn metrics_of_ranks(ranks: &[usize]) -> BTreeMap<String, f64> {
    let mut metrics = BTreeMap::new();
    for k in CUTOFFS {
        let hits = ranks.iter().filter(|rank| **rank <= k);
        let mean = |gain: fn(f64) -> f64| {
            rounded(hits.clone().map(|rank| gain(*rank as f64)).sum::<f64>() / ranks.len().max(1) as f64)
        };
        metrics.insert(format!("recall@{k}"), mean(|_| 1.0));
        metrics.insert(format!("ndcg@{k}"), mean(|rank| 1.0 / (rank + 1.0).log2()));
        metrics.insert(format!("mrr@{k}"), mean(|rank| 1.0 / rank));
    }
    metrics
}

/// Nine decimals: enough for any table, and few enough digits that a value read back from JSON is
/// the same to the bit, which resumed runs rely on.
pub(crate) fn rounded(value: f64) -> f64 {
    // Adding zero turns -0, the sum of nothing, into 0.
    (value * 1e9).round() / 1e9 + 0.0
}

/// Names of all metrics.
pub(crate) fn names() -> Vec<String> {
    metrics_of_ranks(&[]).into_keys().collect()
}

//! The model card: what the Bundle is and how good it is at each dim, for people.

use crate::Report;
use crate::bundle::BundleConfig;
use std::collections::BTreeMap;

const COLUMNS: [&str; 3] = ["recall@10", "ndcg@10", "mrr@10"];

pub(crate) fn render(config: &BundleConfig, report: &Report) -> String {
    let train = &config.train;
    let features = match train.features.is_empty() {
        true => "on item ids alone, without features".to_owned(),
        false => format!("on the features {}", train.features.join(" + ")),
    };
    let (known_by, added) = what_items_are(config);
    let mut card = format!(
        "# Model card\n\nfMRLRec (arXiv 2409.16627), {} LRU block(s), trained once at dims {:?} {features}.\n\
         Weights are those of epoch {} (best validation {}). Seed {}.\n\n\
         ## Quality\n\nLeave-one-out {} split: {} users, all {} items ranked, seen items not removed.\n\n\
         | model | Recall@10 | NDCG@10 | MRR@10 |\n|---|---|---|---|\n",
        train.model.blocks,
        train.model.nesting_dims,
        report.epoch,
        train.early_stopping.metric,
        train.seed,
        report.split,
        report.users,
        report.items,
    );
    for quality in &report.dims {
        card += &row(&format!("dim {}", quality.dim), &quality.metrics);
    }
    for exit in &report.exits {
        for quality in &exit.dims {
            card += &row(&format!("dim {}, exit after block {}", quality.dim, exit.depth), &quality.metrics);
        }
    }
    for baseline in &report.baselines {
        card += &row(&baseline.name, &baseline.metrics);
    }
    if let Some(old) = &config.compatible_with {
        card += &format!("\nUser vectors were trained to score against the item vectors of Bundle {old} too.\n");
    }
    card += &format!(
        "\n## Limits\n\nItems are known by {known_by} and the vocabulary of the training Snapshot. \
         {added} Histories longer than the configured length count with their newest items only. \
         Quality above is on held-out interactions of known users; it says nothing about what users would have done \
         with items they were never shown.\n"
    );
    card
}

/// What an item's vector comes from, and what that means for items that come after training.
fn what_items_are(config: &BundleConfig) -> (&'static str, &'static str) {
    match (config.train.features.is_empty(), config.train.model.item_embedding) {
        (true, _) => ("a vector learned for each of them", "Items are added by training again."),
        (false, true) => (
            "their features, a vector learned for each of them",
            "An item added later is known by its features alone: it lacks the learned vector.",
        ),
        (false, false) => ("their features", "An item added later is known by its features like all others."),
    }
}

fn row(name: &str, metrics: &BTreeMap<String, f64>) -> String {
    let cells: Vec<String> =
        COLUMNS.iter().map(|metric| format!("{:.4}", metrics.get(*metric).unwrap_or(&0.0))).collect();
    format!("| {name} | {} |\n", cells.join(" | "))
}

//! The model card: what the Bundle is and how good it is at each dim, for people.

use crate::Report;
use crate::bundle::BundleConfig;
use std::collections::BTreeMap;

const COLUMNS: [&str; 3] = ["recall@10", "ndcg@10", "mrr@10"];

pub(crate) fn render(config: &BundleConfig, report: &Report) -> String {
    let train = &config.train;
    let (features, known_by) = match train.features.is_empty() {
        true => ("on item ids alone, without features".to_owned(), "a vector learned for each of them"),
        false => (format!("on the features {}", train.features.join(" + ")), "their features"),
    };
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
         Histories longer than the configured length count with their newest items only. \
         Quality above is on held-out interactions of known users; it says nothing about what users would have done \
         with items they were never shown.\n"
    );
    card
}

fn row(name: &str, metrics: &BTreeMap<String, f64>) -> String {
    let cells: Vec<String> =
        COLUMNS.iter().map(|metric| format!("{:.4}", metrics.get(*metric).unwrap_or(&0.0))).collect();
    format!("| {name} | {} |\n", cells.join(" | "))
}

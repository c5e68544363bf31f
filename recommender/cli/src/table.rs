//! The table that `train`, `evaluate` and `demo` print: quality at every dim below the baselines.

use fmrlrec::Report;
use std::collections::BTreeMap;

/// Report keys and their headings.
const COLUMNS: [(&str, &str); 3] = [("recall@10", "Recall@10"), ("ndcg@10", "NDCG@10"), ("mrr@10", "MRR@10")];

/// One row a baseline, then one row a dim, then those of each earlier exit, with a heading.
pub(crate) fn quality(report: &Report) -> String {
    let mut rows: Vec<(String, &BTreeMap<String, f64>)> = Vec::new();
    rows.extend(report.baselines.iter().map(|baseline| (baseline.name.clone(), &baseline.metrics)));
    rows.extend(report.dims.iter().map(|quality| (format!("dim {}", quality.dim), &quality.metrics)));
    for exit in &report.exits {
        let name = |dim| format!("dim {dim}, exit after block {}", exit.depth);
        rows.extend(exit.dims.iter().map(|quality| (name(quality.dim), &quality.metrics)));
    }
    render(&rows)
}

fn render(rows: &[(String, &BTreeMap<String, f64>)]) -> String {
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(12);
    let mut text = format!("{:width$}", "");
    for (_, heading) in COLUMNS {
        text.push_str(&format!("  {heading:>9}"));
    }
    for (name, metrics) in rows {
        text.push_str(&format!("\n{name:width$}"));
        for (key, _) in COLUMNS {
            match metrics.get(key) {
                Some(value) => text.push_str(&format!("  {value:>9.4}")),
                None => text.push_str(&format!("  {:>9}", "-")),
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::render;
    use std::collections::BTreeMap;

    #[test]
    fn columns_line_up_and_an_absent_metric_is_a_dash() {
        let full =
            BTreeMap::from([("recall@10".into(), 0.0475), ("ndcg@10".into(), 0.0202), ("mrr@10".into(), 0.0121)]);
        let part = BTreeMap::from([("ndcg@10".into(), 0.5)]);
        let text = render(&[("popularity".into(), &full), ("dim 16".into(), &part)]);
        let expect = "              Recall@10    NDCG@10     MRR@10\n\
                      popularity       0.0475     0.0202     0.0121\n\
                      dim 16                -     0.5000          -";
        assert_eq!(text, expect);
    }
}

//! Lines of JSON from `run` and `capacity` to a table: medians over the rounds with their spread, and
//! the quality that smaller dims cost.

use crate::TableArgs;
use fmrlrec::Bundle;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write as _;

/// Metric of the Bundle's report that quality is measured by.
const METRIC: &str = "recall@10";

/// Reads `label<TAB>json` lines and prints a Markdown table, one row a label in order of appearance.
pub(crate) fn print(args: &TableArgs) -> Result<(), Box<dyn std::error::Error>> {
    let bundle = Bundle::open(&args.bundle)?;
    let quality: BTreeMap<usize, f64> =
        bundle.report().dims.iter().filter_map(|at| Some((at.dim, *at.metrics.get(METRIC)?))).collect();
    let mut rows: Vec<(String, Vec<Value>)> = Vec::new();
    for line in std::fs::read_to_string(&args.lines)?.lines() {
        let (label, json) = line.split_once('\t').ok_or("a line is no label, tab and JSON")?;
        let value = serde_json::from_str(json)?;
        match rows.iter_mut().find(|(found, _)| found == label) {
            Some((_, values)) => values.push(value),
            None => rows.push((label.to_string(), vec![value])),
        }
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "| load | sent/s | answered/s | p50 ms | p99 ms | degraded % | refused % | {METRIC} lost % | service MiB | service cores | generator cores |"
    )?;
    writeln!(out, "|---|---|---|---|---|---|---|---|---|---|---|")?;
    for (label, runs) in &rows {
        let field = |name: &str, scale: f64| spread(runs.iter().filter_map(|run| Some(run[name].as_f64()? * scale)));
        let lost = spread(runs.iter().filter_map(|run| Some(100.0 * lost(run, &quality)?)));
        writeln!(
            out,
            "| {label} | {} | {} | {} | {} | {} | {} | {lost} | {} | {} | {} |",
            field("rate_per_s", 1.0),
            field("answered_per_s", 1.0),
            field("p50_ms", 1.0),
            field("p99_ms", 1.0),
            field("degraded", 100.0),
            field("refused", 100.0),
            field("service_resident_mib", 1.0),
            field("service_cores", 1.0),
            field("generator_cores", 1.0),
        )?;
    }
    Ok(())
}

/// Mean quality of the dims served, as a share below that of the largest dim of the Bundle.
fn lost(run: &Value, quality: &BTreeMap<usize, f64>) -> Option<f64> {
    let (_, best) = quality.last_key_value()?;
    let (mut answers, mut sum) = (0.0, 0.0);
    for (dim, count) in run["dims"].as_object()? {
        let count = count.as_f64()?;
        answers += count;
        sum += count * quality.get(&dim.parse().ok()?)?;
    }
    (answers > 0.0 && *best > 0.0).then(|| 1.0 - sum / answers / best)
}

/// `median (least to most)`; a dash without values.
fn spread(values: impl Iterator<Item = f64>) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (Some(least), Some(most)) = (values.first(), values.last()) else { return "-".into() };
    let median = shown(values[values.len() / 2]);
    if shown(*least) == shown(*most) { median } else { format!("{median} ({} to {})", shown(*least), shown(*most)) }
}

fn shown(value: f64) -> String {
    // No minus before a zero.
    let value = if value.abs() < 0.05 { 0.0 } else { value };
    if value.abs() >= 100.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

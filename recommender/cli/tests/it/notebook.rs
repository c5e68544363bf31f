//! The notebook is committed without outputs, reads the report that this program writes, and runs
//! head to foot where Jupyter is there.

use std::path::{Path, PathBuf};
use std::process::Command;

fn notebooks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../notebooks")
}

#[test]
fn it_is_committed_clean_and_its_example_is_a_report() {
    let text = std::fs::read_to_string(notebooks().join("quality_by_dim.ipynb")).unwrap();
    let notebook: serde_json::Value = serde_json::from_str(&text).unwrap();
    let cells = notebook["cells"].as_array().unwrap();
    for cell in cells.iter().filter(|cell| cell["cell_type"] == "code") {
        assert_eq!(cell["outputs"], serde_json::json!([]), "an output was committed");
        assert!(cell["execution_count"].is_null(), "an execution count was committed");
    }
    assert!(text.contains("REPORT") && text.contains("example_report.json"));

    // The program's own type reads the example: a field renamed in the report fails here.
    let example = std::fs::read(notebooks().join("example_report.json")).unwrap();
    let report: fmrlrec::Report = serde_json::from_slice(&example).unwrap();
    assert!(report.dims.len() > 1 && !report.baselines.is_empty());
    for quality in &report.dims {
        for metric in ["recall@10", "ndcg@10"] {
            assert!(quality.metrics.contains_key(metric), "dim {} lacks {metric}", quality.dim);
        }
    }
}

#[test]
fn it_runs_head_to_foot() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    // Another name than the default's, so that the path really comes from the environment.
    let report = dir.path().join("another.json");
    std::fs::copy(notebooks().join("example_report.json"), &report).unwrap();
    let done = match Command::new("bash")
        .arg(notebooks().join("run_notebook.sh"))
        .arg(&page)
        .env("REPORT", &report)
        .output()
    {
        Ok(done) => done,
        Err(error) => return crate::program::say_skipped(&format!("bash does not start ({error})")),
    };
    let stderr = String::from_utf8_lossy(&done.stderr);
    if done.status.code() == Some(77) {
        return crate::program::say_skipped(stderr.trim().trim_start_matches("skipped: "));
    }
    assert!(done.status.success(), "{stderr}");
    let html = std::fs::read_to_string(&page).unwrap();
    assert!(html.contains("src=\"data:image/png;base64"), "no plot in the page");
    assert!(html.contains("another.json"), "the report is not the one that REPORT names");
    assert!(html.contains("best NDCG@10 at dim"), "the last cell did not run");
}

//! `tune`: plans go into the Bundle, which stays whole and servable.

use crate::data::Data;
use crate::program::{Running, command, refuse, refuse_usage, succeed, text};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn plans_are_written_into_the_bundle_and_a_tuned_tier_serves() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let bundle = data.trained(&snapshot, "bundle");
    let tune = |more: &[&str]| succeed([&["tune", "--bundle", text(&bundle), "--recall", "0.9"], more].concat());
    let said = tune(&[]);
    assert!(said.contains("30 items are fewer than 50000: exact search is the plan at every dim"), "{said}");
    assert!(said.contains("dim 4: exact; recall@10 1.0000") && said.contains("dim 8: exact"), "{said}");
    let said = tune(&["--dim", "8", "--k", "5", "--snapshot", text(&snapshot)]);
    assert!(said.contains("dim 4: exact; recall@10") && said.contains("dim 8: exact; recall@5"), "{said}");
    let config = std::fs::read_to_string(data.serve_config()).unwrap();
    std::fs::write(data.serve_config(), config.replace("default = true", "default = true\nsearch = \"tuned\""))
        .unwrap();
    let mut service = Running::start(command().args(["serve", "--config", text(&data.serve_config())]));
    let base = service.base_url(LIMIT);
    let answer: serde_json::Value = ureq::post(format!("{base}/v1/recommend"))
        .send_json(serde_json::json!({"user_id": "ada", "k": 3}))
        .unwrap()
        .into_body()
        .read_json()
        .unwrap();
    assert_eq!(answer["items"].as_array().unwrap().len(), 3);
    service.signal("INT");
    assert_eq!(service.wait(LIMIT).code, Some(0));
}

#[test]
fn what_cannot_be_tuned_is_one_sentence() {
    let data = Data::new();
    let bundle = data.trained(&data.built("snapshot"), "bundle");
    let bundle = text(&bundle);
    refuse(["tune", "--bundle", bundle, "--recall", "1.5"], &["recall 1.5"]);
    refuse(["tune", "--bundle", bundle, "--recall", "0.9", "--dim", "5"], &["dim 5 was not trained", "[4, 8]"]);
    refuse(["tune", "--bundle", bundle, "--recall", "0.9", "--queries", "3"], &["3 queries"]);
    refuse(["tune", "--bundle", "nowhere", "--recall", "0.9"], &["nowhere"]);
    refuse_usage(&["tune", "--bundle", bundle], "--recall");
}

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
fn while_another_program_writes_the_bundle_it_is_not_tuned() {
    let data = Data::new();
    let bundle = data.trained(&data.built("snapshot"), "bundle");
    let lock = std::fs::File::create(data.path("bundle.lock")).unwrap();
    lock.lock().unwrap();
    refuse(["tune", "--bundle", text(&bundle), "--recall", "0.9"], &["another train or tune writes", "bundle.lock"]);
    drop(lock);
    succeed(["tune", "--bundle", text(&bundle), "--recall", "0.9"]);
}

#[test]
fn what_cannot_be_tuned_is_one_sentence() {
    let data = Data::new();
    let bundle = data.trained(&data.built("snapshot"), "bundle");
    let bundle = text(&bundle);
    refuse(["tune", "--bundle", bundle, "--recall", "0.9", "--dim", "5"], &["--dim 5 was not trained", "[4, 8]"]);
    refuse(["tune", "--bundle", "nowhere", "--recall", "0.9"], &["nowhere"]);
    refuse_usage(&["tune", "--bundle", bundle], "--recall");
}

#[test]
fn a_number_out_of_its_range_is_told_with_flag_value_and_range() {
    let check = |verb: &[&str], flag: &str, value: &str, range: &str| {
        let args = [verb, &[flag, value]].concat();
        for part in [flag, &format!("'{value}'"), range] {
            refuse_usage(&args, part);
        }
    };
    // Before anything is opened: none of these is there.
    let tune = ["tune", "--bundle", "nowhere"];
    check(&tune, "--recall", "1.5", "above 0 and at most 1");
    let tune = ["tune", "--bundle", "nowhere", "--recall", "0.9"];
    check(&tune, "--k", "0", "from 1 to 1000");
    check(&tune, "--queries", "3", "from 20 to 100000");
    check(&["ingest", "--events", "nowhere", "--store", "nowhere"], "--max-history", "0", "from 1 to 10000");
    check(&["export-interactions", "--store", "nowhere", "--output", "x"], "--max-history", "10001", "from 1 to 10000");
    check(&["demo"], "--port", "70000", "0..=65535");
}

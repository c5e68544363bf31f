//! What is refused, by name: damaged and altered Bundles, configurations and data that cannot be trained on.

use crate::training::{bytes, config, snapshot};
use fmrlrec::{Bundle, CompatibilityConfig, Device, DropoutConfig, ExitConfig, TrainConfig, train};
use std::path::Path;

/// Replaces a Bundle's configuration so that its checksums and id fit.
pub(crate) fn reseal(bundle: &Path, config: &str) {
    std::fs::write(bundle.join("config.json"), config).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&bytes(bundle, "bundle.json")).unwrap();
    manifest["files"]["config.json"] =
        serde_json::json!({"bytes": config.len(), "sha256": feature_store::sha256_bytes(config.as_bytes())});
    let sums = manifest["files"].as_object().unwrap().values().map(|entry| entry["sha256"].as_str().unwrap());
    let id = feature_store::sha256_bytes(sums.collect::<String>().as_bytes())[..16].to_owned();
    manifest["id"] = id.into();
    std::fs::write(bundle.join("bundle.json"), manifest.to_string()).unwrap();
}

/// Plans belong to one Bundle, and none that are not listed stay behind: they would keep it from ever being replaced.
#[test]
fn search_plans_are_written_into_their_own_bundle_alone() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let mut config = config();
    config.epochs = 1;
    let output = dir.path().join("bundle");
    let mut trained = |seed: u64| {
        config.seed = seed;
        train(&snapshot, &config, &output, false, Device::Cpu, &mut ()).unwrap();
        Bundle::open(&output).unwrap()
    };
    let old = trained(1);
    std::fs::write(output.join("search-plans-0123456789abcdef.json"), "[]").unwrap();
    old.write_search_plans(&output, "[1]").unwrap();
    old.write_search_plans(&output, "[2]").unwrap();
    let plans = std::fs::read_dir(&output).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(plans.filter(|name| name.to_string_lossy().starts_with("search-plans-")).count(), 1);
    assert_eq!(Bundle::open(&output).unwrap().search_plans(), Some("[2]"));
    let new = trained(2);
    let error = old.write_search_plans(&output, "[3]").unwrap_err().to_string();
    assert!(error.contains(new.id()) && error.contains(old.id()), "{error}");
    assert_eq!(Bundle::open(&output).unwrap().search_plans(), None);
}

#[test]
fn a_damaged_bundle_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let mut config = config();
    config.epochs = 1;
    let output = dir.path().join("bundle");
    train(&snapshot, &config, &output, false, Device::Cpu, &mut ()).unwrap();
    let check = |file: &str, damage: &dyn Fn(Vec<u8>) -> Vec<u8>, expect: &str| {
        let whole = bytes(&output, file);
        std::fs::write(output.join(file), damage(whole.clone())).unwrap();
        let message = Bundle::open(&output).unwrap_err().to_string();
        std::fs::write(output.join(file), whole).unwrap();
        assert!(message.contains(file) && message.contains(expect), "{message}");
    };
    for file in ["weights.safetensors", "item_table.safetensors", "items.parquet", "report.json", "config.json"] {
        check(file, &|bytes| bytes[..bytes.len() / 2].to_vec(), "bytes");
        check(
            file,
            &|mut bytes| {
                let at = bytes.len() / 2;
                bytes[at] ^= 1;
                bytes
            },
            "altered",
        );
    }
    check("bundle.json", &|_| b"{\"schema_version\": 99}".to_vec(), "version 99");
    check("bundle.json", &|_| b"not json".to_vec(), "is not what this program writes");
    let edited = |key: &str, change: fn(&mut serde_json::Value)| {
        let key = key.to_owned();
        move |bytes: Vec<u8>| {
            let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
            change(manifest.pointer_mut(&key).unwrap());
            manifest.to_string().into_bytes()
        }
    };
    let other_digits = |value: &mut serde_json::Value| {
        let (first, rest) = value.as_str().unwrap().split_at(1);
        *value = format!("{}{rest}", if first == "0" { "1" } else { "0" }).into();
    };
    check("bundle.json", &edited("/id", |value| *value = "0123456789abcdef".into()), "its id is not that of the files");
    check("bundle.json", &edited("/files/report.json/sha256", other_digits), "its id is not that of the files");
    let one_more = |value: &mut serde_json::Value| *value = (value.as_u64().unwrap() + 1).into();
    check("bundle.json", &edited("/files/report.json/bytes", one_more), "report.json has");
    // Whole and sealed, and of no model: refused before one is made.
    let resealed = |pointer: &str, value: serde_json::Value, expect: &str| {
        let (config, manifest) = (bytes(&output, "config.json"), bytes(&output, "bundle.json"));
        let mut changed: serde_json::Value = serde_json::from_slice(&config).unwrap();
        *changed.pointer_mut(pointer).unwrap() = value;
        reseal(&output, &changed.to_string());
        let message = Bundle::open(&output).unwrap_err().to_string();
        assert!(message.contains("config.json") && message.contains(expect), "{message}");
        std::fs::write(output.join("config.json"), config).unwrap();
        std::fs::write(output.join("bundle.json"), manifest).unwrap();
    };
    resealed("/train/model/nesting_dims", serde_json::json!([16, 8]), "model.nesting_dims = [16, 8]");
    resealed("/train/model/blocks", serde_json::json!(1_000_000), "model.blocks");
    resealed("/train/objective/dim_weights", serde_json::json!([]), "objective.dim_weights = []");
    // What is refused since then is read.
    let twice = serde_json::json!(["text", "text"]);
    let (config, manifest) = (bytes(&output, "config.json"), bytes(&output, "bundle.json"));
    let mut old: serde_json::Value = serde_json::from_slice(&config).unwrap();
    old["train"]["features"] = twice;
    reseal(&output, &old.to_string());
    assert!(Bundle::open(&output).is_ok());
    std::fs::write(output.join("config.json"), config).unwrap();
    std::fs::write(output.join("bundle.json"), manifest).unwrap();
    resealed("/train/max_len", serde_json::json!(0), "max_len = 0");
    resealed("/feature_dim", serde_json::json!(u32::MAX), "feature_dim");
    resealed("/feature_widths", serde_json::json!([1, 2]), "feature_widths");
    std::fs::remove_file(output.join("items.parquet")).unwrap();
    assert!(Bundle::open(&output).unwrap_err().to_string().contains("items.parquet"));
}

#[test]
fn bad_configurations_and_data_are_named_before_training() {
    let dir = tempfile::tempdir().unwrap();
    let good = snapshot(&dir.path().join("snapshot"), |_| ());
    let check = |change: &dyn Fn(&mut TrainConfig), expect: &str| {
        let mut config = config();
        change(&mut config);
        let message =
            train(&good, &config, &dir.path().join("none"), false, Device::Cpu, &mut ()).unwrap_err().to_string();
        assert!(message.contains(expect), "{message} does not contain {expect}");
    };
    check(&|c| c.model.nesting_dims = vec![8, 4], "nesting_dims = [8, 4]");
    check(&|c| c.model.nesting_dims = vec![], "nesting_dims");
    check(
        &|c| c.model.nesting_dims = vec![4, 8, 49],
        "the largest dim 49 is above the 48 feature columns; lower it or set model.item_embedding = true",
    );
    check(&|c| c.features.push(c.features[0].clone()), "is named twice");
    check(
        &|c| (c.model.vector_norm, c.model.nesting_dims) = (true, vec![4, 7, 16]),
        "nesting_dims = [4, 7, 16]: each must add 4 columns",
    );
    check(&|c| c.model.r_max = 1.0, "r_max");
    check(&|c| c.dropout = DropoutConfig::Everywhere(1.0), "dropout = 1.0");
    check(&|c| c.dropout = DropoutConfig::BySlice(vec![0.1]), "dropout = [0.1]");
    check(&|c| c.epochs = 0, "epochs = 0");
    check(&|c| c.optimizer.learning_rate = f64::NAN, "learning_rate");
    for value in [f64::NAN, f64::INFINITY] {
        check(&|c| c.model.r_min = value, "model.r_min, r_max");
        check(&|c| c.model.r_max = value, "model.r_min, r_max");
        check(&|c| c.dropout = DropoutConfig::Everywhere(value), "dropout = ");
        check(&|c| c.dropout = DropoutConfig::BySlice(vec![0.0, 0.1, value]), "dropout = ");
        check(&|c| c.objective.distillation = value, "objective.distillation");
        check(&|c| c.objective.dim_weights[1] = value, "objective.dim_weights");
        check(&|c| c.optimizer.learning_rate = value, "optimizer.learning_rate");
        check(&|c| c.optimizer.final_rate = value, "optimizer.final_rate");
        check(&|c| c.optimizer.weight_decay = value, "optimizer.weight_decay");
        check(&|c| c.optimizer.clip_norm = value, "optimizer.clip_norm");
        check(&|c| c.compatibility = Some(CompatibilityConfig { weight: value }), "compatibility.weight");
    }
    check(&|c| c.objective.dim_weights = vec![1e308; 3], "objective.dim_weights");
    check(&|c| c.early_stopping.metric = "auc".into(), "early_stopping.metric");
    let exit = |depth, dim, weight| ExitConfig { depth, dim, weight };
    check(&|c| c.objective.exits = vec![exit(1, 8, 0.5)], "objective.exits.depth = 1: must be in 1..1");
    check(&|c| (c.model.blocks, c.objective.exits) = (2, vec![exit(1, 5, 0.5)]), "objective.exits.dim = 5");
    check(&|c| (c.model.blocks, c.objective.exits) = (2, vec![exit(1, 8, 0.0)]), "objective.exits.weight = 0.0");
    check(
        &|c| (c.model.blocks, c.objective.exits) = (2, vec![exit(1, 8, f64::INFINITY)]),
        "objective.exits.weight = inf",
    );
    check(&|c| (c.model.blocks, c.objective.exits) = (3, vec![exit(2, 8, 0.5), exit(1, 8, 0.5)]), "depths must rise");
    check(&|c| c.features = vec!["sound".into()], "no \"sound\"; it has [\"text\", \"image\"]");
    let few = snapshot(&dir.path().join("few"), |contents| contents.interactions.retain(|row| row.timestamp_ms < 2));
    let message =
        train(&few, &config(), &dir.path().join("none"), false, Device::Cpu, &mut ()).unwrap_err().to_string();
    assert!(message.contains("three interactions"), "{message}");
    let message =
        train(&good, &config(), &dir.path().join("none"), true, Device::Cpu, &mut ()).unwrap_err().to_string();
    assert!(message.contains("none.checkpoint.safetensors"), "{message}");
}

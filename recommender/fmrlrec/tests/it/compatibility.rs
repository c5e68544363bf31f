//! Upgrades: a model trained to score against an older Bundle's item vectors, and refusals.

use crate::training::{config, snapshot};
use feature_store::Snapshot;
use fmrlrec::{Bundle, CompatibilityConfig, Device, Part, Split, TrainConfig, evaluate, train, train_compatible};
use std::path::Path;

/// Another seed and another set of dims: 4 and 16 are shared.
fn upgrade(weight: Option<f64>) -> TrainConfig {
    let mut config = config();
    config.seed = 11;
    config.model.nesting_dims = vec![4, 16, 24];
    config.compatibility = weight.map(|weight| CompatibilityConfig { weight });
    config
}

fn trained(snapshot: &Snapshot, config: &TrainConfig, old: Option<&Bundle>, output: &Path) -> Bundle {
    train_compatible(snapshot, config, old, output, false, Device::Cpu, &mut ()).unwrap();
    Bundle::open(output).unwrap()
}

#[test]
fn a_compatible_upgrade_is_good_against_the_old_items_and_its_own() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    let old = trained(&snapshot, &config(), None, &dir.path().join("old"));
    let compatible = trained(&snapshot, &upgrade(Some(1.0)), Some(&old), &dir.path().join("compatible"));
    let plain = trained(&snapshot, &upgrade(None), None, &dir.path().join("plain"));
    let against_old = |bundle: &Bundle| {
        let report = evaluate(bundle, &snapshot, Split::Test, Part::Against(&old), &mut |_, _| ()).unwrap();
        assert_eq!(report.dims.iter().map(|quality| quality.dim).collect::<Vec<_>>(), [4, 16]);
        report.dims[1].metrics["ndcg@10"]
    };
    assert!(against_old(&compatible) > 0.9, "{}", against_old(&compatible));
    assert!(against_old(&plain) < 0.5, "two trainings do not agree by themselves: {}", against_old(&plain));
    assert!(compatible.report().dims[2].metrics["ndcg@10"] > 0.9, "{:?}", compatible.report().dims[2]);
    // Against itself the table is the Bundle's own.
    let own = evaluate(&old, &snapshot, Split::Test, Part::Against(&old), &mut |_, _| ()).unwrap();
    assert_eq!(own.dims, old.report().dims);
    let card = std::fs::read_to_string(dir.path().join("compatible/MODEL_CARD.md")).unwrap();
    assert!(card.contains(old.id()), "{card}");
}

#[test]
fn new_items_have_no_part_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let fewer = snapshot(&dir.path().join("fewer"), |_| ());
    let old = trained(&fewer, &TrainConfig { epochs: 1, ..config() }, None, &dir.path().join("old"));
    // Item 1 has another key now: the old Bundle does not know it.
    let more = snapshot(&dir.path().join("more"), |contents| contents.items[0].key = "new".into());
    let config = TrainConfig { epochs: 1, ..upgrade(Some(1.0)) };
    let bundle = trained(&more, &config, Some(&old), &dir.path().join("bundle"));
    let message = evaluate(&bundle, &more, Split::Test, Part::Against(&old), &mut |_, _| ()).unwrap_err().to_string();
    assert!(message.contains("item \"new\" is not in the older Bundle"), "{message}");
}

#[test]
fn what_cannot_be_compatible_is_refused_before_training() {
    let dir = tempfile::tempdir().unwrap();
    let snapshot = snapshot(&dir.path().join("snapshot"), |_| ());
    train(&snapshot, &TrainConfig { epochs: 1, ..config() }, &dir.path().join("old"), false, Device::Cpu, &mut ())
        .unwrap();
    let old = Bundle::open(&dir.path().join("old")).unwrap();
    let check = |config: &TrainConfig, old: Option<&Bundle>, snapshot: &Snapshot, expect: &str| {
        let output = dir.path().join("none");
        let message =
            train_compatible(snapshot, config, old, &output, false, Device::Cpu, &mut ()).unwrap_err().to_string();
        assert!(message.contains(expect), "{message}");
    };
    check(&upgrade(Some(1.0)), None, &snapshot, "compatibility: names no Bundle");
    check(&upgrade(None), Some(&old), &snapshot, "compatibility: is missing");
    check(&upgrade(Some(0.0)), Some(&old), &snapshot, "compatibility.weight = 0.0");
    let mut none_shared = upgrade(Some(1.0));
    none_shared.model.nesting_dims = vec![5, 9, 20];
    check(&none_shared, Some(&old), &snapshot, "has dims [4, 8, 16], none of [5, 9, 20]");
    let others = crate::training::snapshot(&dir.path().join("others"), |contents| {
        contents.items.iter_mut().for_each(|item| item.key = format!("other {}", item.key));
    });
    check(&upgrade(Some(1.0)), Some(&old), &others, "has none of the Snapshot's 24 items");
}

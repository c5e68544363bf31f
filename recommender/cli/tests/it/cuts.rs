//! Exits, cuts and upgrades through the binary: what they print and write, and refusals.

use crate::data::Data;
use crate::program::{refuse, succeed, text};
use serde_json::Value;
use std::path::Path;

fn report(dir: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(dir.join("report.json")).unwrap()).unwrap()
}

#[test]
fn exits_are_reported_and_cuts_evaluated() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let exit = "\n[[objective.exits]]\ndepth = 1\ndim = 4\nweight = 0.5\n";
    let config = data.train_config_with("exit.toml", &[("blocks = 1", "blocks = 2")], exit);
    let bundle = data.path("bundle");
    let table = succeed(["train", "--config", text(&config), "--snapshot", text(&snapshot), "--output", text(&bundle)]);
    assert!(table.contains("dim 4, exit after block 1"), "{table}");
    let card = std::fs::read_to_string(bundle.join("MODEL_CARD.md")).unwrap();
    assert!(card.contains("| dim 4, exit after block 1 |"), "{card}");

    let output = data.path("cut");
    let evaluate = ["evaluate", "--bundle", text(&bundle), "--snapshot", text(&snapshot), "--output", text(&output)];
    succeed(evaluate.into_iter().chain(["--block-dims", "8,0"]));
    let (cut, trained) = (report(&output), report(&bundle));
    assert_eq!(cut["block_dims"], serde_json::json!([8, 0]));
    assert_eq!(cut["dims"][0], trained["exits"][0]["dims"][0], "the cut after block 1 is the exit");
    refuse(evaluate.into_iter().chain(["--block-dims", "8"]), &["block dims [8]", "2 blocks"]);
    refuse(evaluate.into_iter().chain(["--block-dims", "8,5"]), &["dim 5 was not trained", "[4, 8]"]);
    let deep = data.train_config_with("deep.toml", &[], exit);
    let none = data.path("none");
    refuse(
        ["train", "--config", text(&deep), "--snapshot", text(&snapshot), "--output", text(&none)],
        &["objective.exits.depth = 1"],
    );
}

#[test]
fn an_upgrade_names_the_bundle_it_fits() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let old = data.trained(&snapshot, "old");
    let config = data.train_config_with("new.toml", &[("seed = 7", "seed = 8")], "\n[compatibility]\nweight = 1.0\n");
    let bundle = data.path("new");
    let train = ["train", "--config", text(&config), "--snapshot", text(&snapshot), "--output", text(&bundle)];
    refuse(train, &["compatibility", "--compatible-with"]);
    refuse(train.into_iter().chain(["--compatible-with", text(&snapshot)]), &["bundle.json"]);
    succeed(train.into_iter().chain(["--compatible-with", text(&old)]));
    let output = data.path("against");
    let table = succeed([
        "evaluate",
        "--bundle",
        text(&bundle),
        "--against",
        text(&old),
        "--snapshot",
        text(&snapshot),
        "--output",
        text(&output),
    ]);
    assert!(table.contains("dim 8"), "{table}");
    assert_ne!(report(&output)["dims"], report(&bundle)["dims"], "the old item vectors were ranked");
}

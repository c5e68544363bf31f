//! Snapshots and Bundles: the same input gives the same bytes, and an altered file is named.

use crate::data::Data;
use crate::program::{refuse, run, succeed, text};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Every file below a folder, with its bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(contents(&path));
        } else {
            all.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    all
}

fn relative(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    contents(dir).into_iter().map(|(path, bytes)| (path.strip_prefix(dir).unwrap().to_owned(), bytes)).collect()
}

#[test]
fn two_builds_and_two_trainings_give_identical_bytes() {
    let data = Data::new();
    let (one, two) = (data.built("one"), data.built("two"));
    let (first, second) = (relative(&one), relative(&two));
    assert!(first.contains_key(Path::new("manifest.json")) && first.len() >= 4, "{:?}", first.keys());
    assert_eq!(first, second);
    // Over an older Snapshot too.
    data.build_into(&two);
    assert_eq!(first, relative(&two));

    let (one, two) = (data.trained(&one, "bundle-one"), data.trained(&two, "bundle-two"));
    let first = relative(&one);
    assert!(
        first.contains_key(Path::new("bundle.json")) && first.contains_key(Path::new("report.json")),
        "{:?}",
        first.keys()
    );
    assert_eq!(first, relative(&two));
    // No temporary folder and no checkpoint stays behind.
    let left: Vec<String> =
        fs::read_dir(data.root()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    assert!(left.iter().all(|name| !name.contains(".part") && !name.contains("checkpoint")), "{left:?}");
}

#[test]
fn an_altered_file_is_named() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let bundle = data.trained(&snapshot, "bundle");
    let out = data.path("report");
    let evaluate = ["evaluate", "--bundle", text(&bundle), "--snapshot", text(&snapshot), "--output", text(&out)];
    for dir in [&snapshot, &bundle] {
        for (path, bytes) in contents(dir) {
            let name = path.file_name().unwrap().to_str().unwrap();
            let check = |altered: &[u8]| {
                fs::write(&path, altered).unwrap();
                refuse(evaluate, &[name]);
                assert!(!out.exists(), "a report from a broken artefact");
            };
            check(&bytes[..bytes.len() / 2]);
            check(&[]);
            let mut flipped = bytes.clone();
            flipped[bytes.len() / 2] ^= 0x01;
            // A manifest has no checksum of its own: a flipped bit in a count may stay unseen there.
            if name != "manifest.json" && name != "bundle.json" {
                check(&flipped);
            }
            fs::remove_file(&path).unwrap();
            refuse(evaluate, &[name]);
            fs::write(&path, &bytes).unwrap();
        }
    }
    // All restored: it works again.
    succeed(evaluate);
    assert!(out.join("report.json").is_file());
}

#[test]
fn another_version_is_refused() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let bundle = data.trained(&snapshot, "bundle");
    let out = data.path("report");
    let evaluate = ["evaluate", "--bundle", text(&bundle), "--snapshot", text(&snapshot), "--output", text(&out)];
    for manifest in [snapshot.join("manifest.json"), bundle.join("bundle.json")] {
        let good = fs::read_to_string(&manifest).unwrap();
        let mut json: serde_json::Value = serde_json::from_str(&good).unwrap();
        let version =
            json.as_object_mut().unwrap().iter_mut().find(|(key, _)| key.contains("version")).expect("a version");
        *version.1 = serde_json::json!(999);
        fs::write(&manifest, json.to_string()).unwrap();
        refuse(evaluate, &[manifest.file_name().unwrap().to_str().unwrap(), "999"]);
        fs::write(&manifest, good).unwrap();
    }
}

#[test]
fn a_report_of_somebody_elses_is_not_replaced() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let bundle = data.trained(&snapshot, "bundle");
    let out = data.path("report");
    let evaluate = ["evaluate", "--bundle", text(&bundle), "--snapshot", text(&snapshot), "--output", text(&out)];
    fs::create_dir(&out).unwrap();
    fs::write(out.join("report.json"), "{\"my\": \"thesis\"}").unwrap();
    refuse(evaluate, &["report.json that no evaluation wrote", "name another folder"]);
    assert_eq!(fs::read_to_string(out.join("report.json")).unwrap(), "{\"my\": \"thesis\"}");
    fs::remove_file(out.join("report.json")).unwrap();
    succeed(evaluate);
    succeed(evaluate);
}

#[test]
fn settings_that_are_hardly_meant_are_spoken_of() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let check = |replace: &[(&str, &str)], expect: &[&str]| {
        let long = [("epochs = 1\n", "epochs = 40\n"), ("patience = 1", "patience = 40"), ("= 0.001", "= 0.01")];
        let config = data.train_config_with("odd.toml", &[&long[..], replace].concat(), "");
        let bundle = data.path("odd");
        let done = run(["train", "--config", text(&config), "--snapshot", text(&snapshot), "--output", text(&bundle)]);
        assert_eq!(done.code, Some(0), "{}", done.stderr);
        assert_eq!(done.stderr.matches("caution: ").count(), expect.len(), "{}", done.stderr);
        expect.iter().for_each(|part| assert!(done.stderr.contains(part), "{} lacks {part}", done.stderr));
    };
    check(&[], &[]);
    check(
        &[("warmup_steps = 2", "warmup_steps = 1000")],
        &["optimizer.warmup_steps = 1000 of about", "at no dim is ndcg@10 above"],
    );
    check(&[("learning_rate = 0.01", "learning_rate = 1e-30")], &["at no dim is ndcg@10 above"]);
}

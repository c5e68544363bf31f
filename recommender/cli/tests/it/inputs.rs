//! Bad input: exit code 2, one sentence that names the file, and nothing written.

use crate::data::Data;
use crate::program::{refuse, text};
use std::fs;
use std::path::Path;

#[test]
fn an_absent_config_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let check = |args: &[&str]| {
        refuse(args.iter().copied(), &["absent.toml", "No such file"]);
        assert!(!out.exists(), "{args:?} wrote something");
    };
    check(&["build", "--config", "absent.toml", "--output", text(&out)]);
    check(&["train", "--config", "absent.toml", "--snapshot", "nowhere", "--output", text(&out)]);
    check(&["serve", "--config", "absent.toml"]);
    refuse(["demo", "--config", "absent.toml", "--output", text(&out), "--port", "0"], &["--config", "absent.toml"]);
    refuse(["demo", "--sample", "absent", "--output", text(&out), "--port", "0"], &["--sample", "build.toml"]);
    assert!(!out.exists());
}

#[test]
fn a_config_that_is_wrong_is_named_with_its_line() {
    let dir = tempfile::tempdir().unwrap();
    let (config, out) = (dir.path().join("wrong.toml"), dir.path().join("out"));
    let check = |body: &str, parts: &[&str]| {
        fs::write(&config, body).unwrap();
        let config = text(&config);
        for args in [
            &["build", "--config", config, "--output", text(&out)][..],
            &["train", "--config", config, "--snapshot", "nowhere", "--output", text(&out)][..],
            &["serve", "--config", config][..],
        ] {
            refuse(args.iter().copied(), &[&["wrong.toml"], parts].concat());
        }
        assert!(!out.exists());
    };
    check("", &["missing field"]);
    check("speed = 9\n", &["line 1", "unknown field `speed`"]);
    check("a = \"\n", &["line 1"]);
    check(&"#".repeat(2 << 20), &["2097152", "bytes"]);
}

#[test]
fn a_folder_that_is_no_artefact_says_which_verb_makes_one() {
    let data = Data::new();
    let (nowhere, out) = (data.path("nowhere"), data.path("out"));
    refuse(
        ["train", "--config", text(&data.train_config()), "--snapshot", text(&nowhere), "--output", text(&out)],
        &["nowhere", "no Snapshot", "recommender build"],
    );
    refuse(
        ["evaluate", "--bundle", text(&nowhere), "--snapshot", text(&nowhere), "--output", text(&out)],
        &["nowhere", "no Bundle", "recommender train"],
    );
    refuse(
        ["serve", "--config", text(&data.serve_config()), "--bundle", text(&nowhere), "--bind", "127.0.0.1:0"],
        &["nowhere", "no Bundle", "recommender train"],
    );
    assert!(!out.exists());
}

#[test]
fn an_output_that_holds_something_else_is_not_replaced() {
    let data = Data::new();
    let mine = data.path("mine");
    fs::create_dir(&mine).unwrap();
    fs::write(mine.join("thesis.txt"), "years of work").unwrap();
    let snapshot = data.built("snapshot");
    for output in [text(&mine), "/", ".."] {
        let name = if output == text(&mine) { "mine" } else { output };
        refuse(["build", "--config", text(&data.build_config()), "--output", output], &["--output", name]);
        refuse(
            ["train", "--config", text(&data.train_config()), "--snapshot", text(&snapshot), "--output", output],
            &["--output", name],
        );
    }
    assert_eq!(fs::read_to_string(mine.join("thesis.txt")).unwrap(), "years of work");
}

#[test]
fn an_artefact_with_something_else_in_it_is_not_replaced() {
    let data = Data::new();
    let config = data.build_config();
    let check = |output: &Path, parts: &[&str]| {
        refuse(["build", "--config", text(&config), "--output", text(output)], &[&["--output"], parts].concat());
    };
    let snapshot = data.built("snapshot");
    fs::write(snapshot.join("features/notes.txt"), "mine").unwrap();
    check(&snapshot, &["snapshot", "holds features/notes.txt", "manifest.json"]);
    assert_eq!(fs::read_to_string(snapshot.join("features/notes.txt")).unwrap(), "mine");
    fs::remove_file(snapshot.join("features/notes.txt")).unwrap();
    data.build_into(&snapshot);
    // A file of that name in somebody's web application.
    let app = data.path("app");
    fs::create_dir(&app).unwrap();
    fs::write(app.join("manifest.json"), r#"{"name":"app","files":{}}"#).unwrap();
    check(&app, &["app", "manifest.json is none that this program writes"]);
    if cfg!(target_os = "linux") {
        // A mount point, and a place where nobody makes folders.
        check(Path::new("/proc"), &["/proc", "is a mount point", "inside the volume"]);
        check(Path::new("/proc/snapshot"), &["/proc/snapshot", "cannot be written", "inside the volume"]);
    }
}

#[test]
fn a_report_does_not_go_into_an_artefact() {
    let data = Data::new();
    for marker in ["bundle.json", "manifest.json"] {
        let dir = data.path(&format!("artefact with {marker}"));
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join(marker), "{}").unwrap();
        fs::write(dir.join("report.json"), "its own").unwrap();
        // Before anything is opened, so before the evaluation.
        refuse(
            ["evaluate", "--bundle", "nowhere", "--snapshot", "nowhere", "--output", text(&dir)],
            &["--output", marker, "name another folder"],
        );
        assert_eq!(fs::read_to_string(dir.join("report.json")).unwrap(), "its own");
    }
}

#[test]
fn data_that_is_wrong_is_named() {
    let check = |ratings: &str, parts: &[&str]| {
        let data = Data::new();
        fs::write(data.path("ratings.csv"), ratings).unwrap();
        let out = data.path("out");
        refuse(
            ["build", "--config", text(&data.build_config()), "--output", text(&out)],
            &[&["ratings.csv"], parts].concat(),
        );
        assert!(!out.exists(), "a half-written Snapshot");
    };
    check("", &[]);
    check("userId,rating,timestamp\n1,5,1000\n", &["movieId"]);
    check("userId,movieId,rating,timestamp\n", &[]);
    check("userId,movieId,rating,timestamp\nu1,i1,5,yesterday\n", &["timestamp"]);
}

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
    // A byte order mark is no part of the text.
    check("\u{feff}speed = 9\n", &["line 1", "unknown field `speed`"]);
    fs::write(&config, b"\xff\xfes\0p\0").unwrap();
    refuse(["serve", "--config", text(&config)], &["wrong.toml", "no UTF-8 text", "save it as UTF-8"]);
    refuse(["serve", "--config", "/dev/zero"], &["/dev/zero", "no regular file"]);
}

#[test]
fn a_value_of_the_wrong_type_is_named_by_its_field_in_every_config() {
    let data = Data::new();
    let check = |good: &Path, from: &str, to: &str, verb: &[&str], field: &str| {
        let (wrong, body) = (data.path("wrong.toml"), fs::read_to_string(good).unwrap());
        assert!(body.contains(from), "{body}");
        fs::write(&wrong, body.replacen(from, to, 1)).unwrap();
        let said = format!(": {field}: invalid type");
        refuse(verb.iter().copied().chain(["--config", text(&wrong)]), &["wrong.toml line", &said]);
    };
    let out = ["--snapshot", "nowhere", "--output", "nowhere"];
    check(&data.build_config(), "min_user = 5", "min_user = \"5\"", &["build", out[2], out[3]], "k_core.min_user");
    check(&data.build_config(), "\"films\"", "7", &["build", out[2], out[3]], "tables[1].name");
    check(&data.train_config(), "blocks = 1", "blocks = true", &[&["train"], &out[..]].concat(), "model.blocks");
    check(&data.serve_config(), "cache_mib = 1", "cache_mib = \"1\"", &["serve"], "state.cache_mib");
    let stream = crate::stream::config(data.root(), crate::stream::LOG);
    check(&stream, "max_messages = 50", "max_messages = [50]", &["ingest"], "batch.max_messages");
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
fn an_output_inside_an_input_is_refused_before_the_work_begins() {
    let data = Data::new();
    let snapshot = data.built("snapshot");
    let bundle = data.trained(&snapshot, "bundle");
    let check = |args: &[&str], output: &Path, parts: &[&str]| {
        let refused = [&["--output", "outside of it"], parts].concat();
        refuse(args.iter().copied().chain(["--output", text(output)]), &refused);
        assert!(!output.exists(), "{args:?}");
    };
    let evaluate = ["evaluate", "--bundle", text(&bundle), "--snapshot", text(&snapshot)];
    check(&evaluate, &bundle.join("report"), &["lies in the Bundle", "bundle.json"]);
    check(&evaluate, &snapshot.join("features/report"), &["lies in the Snapshot", "manifest.json"]);
    let config = data.train_config();
    let train = ["train", "--config", text(&config), "--snapshot", text(&snapshot)];
    check(&train, &snapshot.join("bundle"), &["lies in the Snapshot"]);
    let config = data.path("cached.toml");
    let body = fs::read_to_string(data.build_config()).unwrap();
    let given = "file = \"text.npy\"\nkeys = \"items.csv\"";
    assert!(body.contains(given), "{body}");
    let images = "image_encoder = { dir = \"encoder\", runtime = \"tract\", images = \".\", extension = \"jpg\" }";
    let body = body.replace(given, images);
    let cached = |cache_dir: &str| fs::write(&config, format!("cache_dir = \"{cache_dir}\"\n{body}")).unwrap();
    let build = ["build", "--config", text(&config)];
    cached("cache");
    check(&build, &bundle.join("snapshot"), &["lies in the Bundle"]);
    check(&build, &data.path("cache/snapshot"), &["lies in", "cache_dir"]);
    // Beside images, which are only read, it comes as far as the encoder, which is not there.
    let beside = data.path("beside");
    refuse(build.into_iter().chain(["--output", text(&beside)]), &["holds no encoder"]);
    cached("out/cache");
    check(&build, &data.path("out"), &["holds", "out/cache", "cache_dir"]);
    cached("snapshot/cache");
    refuse(build.into_iter().chain(["--output", text(&beside)]), &["config cache_dir", "lies in the Snapshot"]);
    // Folders that other verbs make.
    let (events, within) = (data.path("events.jsonl"), snapshot.join("state"));
    fs::write(&events, "{\"user_id\":\"u\",\"item_id\":\"i\",\"timestamp_ms\":1}\n").unwrap();
    let ingest = ["ingest", "--events", text(&events), "--store", text(&within)];
    refuse(ingest, &["user state", "state: lies in the Snapshot", "outside of it"]);
    let stream = |log: &str| {
        let source = crate::stream::LOG.replace("\"events\"", &format!("\"{log}\""));
        crate::stream::config(data.root(), &source)
    };
    for log in ["bundle/events", "bundle"] {
        refuse(["ingest", "--config", text(&stream(log))], &["config log.dir", "lies in the Bundle", "outside of it"]);
    }
    // What is spoilt by nothing is replaced as before.
    data.build_into(&snapshot);
    data.trained(&snapshot, "bundle");
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
    check("userId,movieId,rating,timestamp\nu1,i1,5,\"1\nu2,i1,5,2\n", &["line 2 opens a quote", "never closed"]);
}

/// A Bundle with a file that its manifest does not list is never replaced again.
#[test]
fn a_service_keeps_nothing_of_its_own_in_a_bundle() {
    let data = Data::new();
    let bundle = data.trained(&data.built("snapshot"), "bundle");
    let config = data.serve_config();
    let check = |flag: &str, place: &Path, field: &str| {
        let args = ["serve", "--config", text(&config), "--bind", "127.0.0.1:0", flag, text(place)];
        refuse(args, &[field, "lies in the Bundle", "name a place outside of it"]);
        assert!(!place.exists());
    };
    check("--tiers-file", &bundle.join("tiers.json"), "tiers_file");
    check("--state", &bundle.join("state"), "user state");
}

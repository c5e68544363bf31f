//! `--help` is the manual: each verb, flag and exit code is there.

use crate::program::{refuse_usage, run, succeed};

const VERBS: [&str; 9] =
    ["build", "train", "evaluate", "tune", "serve", "ingest", "export-interactions", "demo", "completions"];

#[test]
fn the_manual_names_the_flow_the_verbs_and_the_exit_codes() {
    let manual = succeed(["--help"]);
    for part in ["DATA FLOW", "EXAMPLES", "FILES", "EXIT CODES", "ENVIRONMENT", "Snapshot", "Bundle"] {
        assert!(manual.contains(part), "the manual lacks {part:?}");
    }
    let mut from = 0;
    for verb in VERBS {
        // In the order of the data flow.
        let at =
            manual[from..].find(&format!("\n  {verb} ")).unwrap_or_else(|| panic!("{verb} is not listed in order"));
        from += at;
    }
    for line in manual.lines() {
        assert!(line.chars().count() <= 100, "too wide for a terminal: {line:?}");
    }
}

#[test]
fn each_verb_explains_its_flags() {
    let check = |verb: &str, flags: &[&str]| {
        let help = succeed([verb, "--help"]);
        for flag in flags {
            assert!(help.contains(flag), "{verb} --help lacks {flag}");
        }
    };
    check("build", &["--config <FILE>", "--output <DIR>"]);
    check("train", &["--config <FILE>", "--snapshot <DIR>", "--output <DIR>", "--resume"]);
    check("evaluate", &["--bundle <DIR>", "--snapshot <DIR>", "--split <SPLIT>", "--output <DIR>", "validation"]);
    check(
        "serve",
        &["--config <FILE>", "--bundle <DIR>", "--bind <ADDRESS:PORT>", "--stream <FILE>", "--state <DIR|URL>"],
    );
    check("ingest", &["--events <FILE>", "--store <DIR|URL>", "--max-history <N>", "--validate", "--format <FORMAT>"]);
    check("ingest", &["--config <FILE>", "--until-end", "--redrive", "metarank"]);
    check("export-interactions", &["--store <DIR|URL>", "--output <FILE>", "--max-history <N>"]);
    check("demo", &["--output <DIR>", "--port <PORT>", "runs/demo", "8080"]);
    check("completions", &["bash", "zsh", "fish"]);
}

#[test]
fn usage_errors_exit_with_2_and_print_nothing_on_stdout() {
    refuse_usage(&["fly"], "fly");
    refuse_usage(&["build"], "--config");
    refuse_usage(&["build", "--config", "a", "--output", "b", "--fast"], "--fast");
    refuse_usage(&["evaluate", "--bundle", "a", "--snapshot", "b", "--output", "c", "--split", "train"], "train");
    refuse_usage(&["serve", "--config", "a", "--bind", "everywhere"], "everywhere");
    refuse_usage(&["completions", "tclsh"], "tclsh");
    refuse_usage(&["demo", "--port", "70000"], "70000");
}

#[test]
fn the_version_is_that_of_the_package() {
    assert_eq!(succeed(["--version"]), format!("recommender {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(run::<&str>([]).code, Some(2));
}

//! Completion scripts name the verbs, and a reader that goes away is no failure.

use crate::program::{command, succeed};
use std::io::Read as _;
use std::process::Stdio;

#[test]
fn every_shell_gets_a_script_that_names_the_verbs() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = succeed(["completions", shell]);
        for verb in ["build", "train", "evaluate", "serve", "ingest", "demo"] {
            assert!(script.contains(verb), "the {shell} script lacks {verb}");
        }
    }
}

#[test]
fn a_closed_stdout_is_no_panic() {
    for args in [&["completions", "zsh"][..], &["--help"][..]] {
        let mut child = command().args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // Nobody reads: the very first write meets a broken pipe.
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        let status = child.wait().unwrap();
        assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
        assert_eq!(status.code(), Some(0), "{args:?}: {stderr}");
    }
}

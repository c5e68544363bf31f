//! From an error to one sentence on stderr and an exit code.
//!
//! | code | meaning |
//! |---|---|
//! | 0 | done, or the reader of stdout went away |
//! | 1 | internal failure: the machine or the program, not what was asked |
//! | 2 | bad input: an argument, a config, a data file, an artefact, a busy port |
//! | 130 | `train` or `demo` interrupted by Ctrl-C or SIGTERM; what was finished is kept |

use fmrlrec::TrainError;
use std::fmt;
use std::io;
use std::process::ExitCode;

/// Exit code of an internal failure.
const INTERNAL: u8 = 1;
/// Exit code of bad input; clap uses the same for usage errors.
const BAD_INPUT: u8 = 2;
/// Exit code after Ctrl-C: 128 + SIGINT, as shells expect.
pub(crate) const INTERRUPTED: u8 = 130;

/// Something the user can correct, said in one sentence.
#[derive(Debug)]
pub(crate) struct BadInput(pub(crate) String);

impl fmt::Display for BadInput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for BadInput {}

/// The user asked to stop, and the work that was finished is kept where the sentence says.
#[derive(Debug)]
pub(crate) struct Interrupted(pub(crate) String);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Nobody reads stdout any more: the program ends quietly, as one killed by SIGPIPE would.
#[derive(Debug)]
pub(crate) struct StdoutClosed;

impl fmt::Display for StdoutClosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stdout was closed by its reader")
    }
}

impl std::error::Error for StdoutClosed {}

/// An error that the user can correct.
pub(crate) fn bad_input(sentence: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(BadInput(sentence.into()))
}

/// Prints the error on stderr (nothing when stdout was closed) and picks the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<StdoutClosed>() {
        return ExitCode::SUCCESS;
    }
    crate::output::note_failure(&format!("recommender: {}", sentence(error)));
    ExitCode::from(code(error))
}

fn code(error: &anyhow::Error) -> u8 {
    if error.is::<Interrupted>() || matches!(error.downcast_ref(), Some(TrainError::Interrupted { .. })) {
        return INTERRUPTED;
    }
    // The machine's own failures (a full disk, a failing device) are not the user's input, whatever
    // library reports them.
    let machine =
        error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>()).any(|cause| !names_bad_input(cause.kind()));
    if machine {
        INTERNAL
    } else if is_library_refusal(error) {
        BAD_INPUT
    } else {
        INTERNAL
    }
}

/// The libraries refuse input with their own error types; everything else is ours to explain.
fn is_library_refusal(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause.is::<BadInput>()
            || cause.is::<feature_store::StoreError>()
            || cause.is::<pipeline::BuildError>()
            || cause.is::<pipeline::stream::StreamError>()
            || cause.is::<TrainError>()
            || cause.is::<fmrlrec::BundleError>()
            || cause.is::<retrieval::RetrievalError>()
            || cause.is::<service::ServiceError>()
            || cause.is::<service::TuneError>()
    })
}

fn names_bad_input(kind: io::ErrorKind) -> bool {
    use io::ErrorKind as Kind;
    matches!(
        kind,
        Kind::NotFound
            | Kind::PermissionDenied
            | Kind::AlreadyExists
            | Kind::IsADirectory
            | Kind::NotADirectory
            | Kind::InvalidData
            | Kind::InvalidInput
            | Kind::InvalidFilename
            | Kind::UnexpectedEof
            | Kind::AddrInUse
            | Kind::AddrNotAvailable
            | Kind::ReadOnlyFilesystem
    )
}

/// The chain of causes on one line; a cause whose text an earlier one already holds is left out.
fn sentence(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        if text.contains(&cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(&cause);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn codes_follow_the_cause() {
        let full: Result<(), io::Error> = Err(io::Error::from(io::ErrorKind::StorageFull));
        let absent = io::Error::from(io::ErrorKind::NotFound);
        let check = |error: anyhow::Error, expect: u8| assert_eq!(code(&error), expect, "{error:#}");
        check(bad_input("k is 0; ask for 1 to 1000"), BAD_INPUT);
        check(bad_input("inner").context("outer"), BAD_INPUT);
        check(anyhow::anyhow!("a surprise"), INTERNAL);
        check(full.context("writing report.json").unwrap_err(), INTERNAL);
        check(anyhow::Error::new(BadInput(absent.to_string())), BAD_INPUT);
        check(anyhow::Error::new(Interrupted("stopped".into())), INTERRUPTED);
    }

    #[test]
    fn a_cause_is_said_once_and_on_one_line() {
        let check = |error: anyhow::Error, expect: &str| assert_eq!(sentence(&error), expect);
        check(anyhow::anyhow!("not found").context("a.toml: not found"), "a.toml: not found");
        check(anyhow::anyhow!("line 1\n  | here").context("a.toml"), "a.toml: line 1 | here");
    }
}

//! The one error type of this crate: each variant reads as one sentence that names the file or field.

use std::path::{Path, PathBuf};

/// Why a build was refused.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The operating system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file does not hold what the configuration says it does.
    #[error("{path}: {reason}", path = .path.display())]
    Input {
        /// The file or folder.
        path: PathBuf,
        /// What was found, what was expected, and the way out.
        reason: String,
    },
    /// A value of the configuration breaks a rule.
    #[error("config {field}: {reason}")]
    Config {
        /// The field's name.
        field: String,
        /// The value, the rule, and the way out.
        reason: String,
    },
    /// The query engine refused.
    #[error("{what}: {reason}")]
    Query {
        /// Which query.
        what: String,
        /// The engine's reason.
        reason: String,
    },
    /// The Snapshot could not be written.
    #[error(transparent)]
    Store(#[from] feature_store::StoreError),
}

impl BuildError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> BuildError + '_ {
        move |source| BuildError::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn input(path: &Path, reason: impl ToString) -> BuildError {
        BuildError::Input { path: path.to_path_buf(), reason: one_line(&reason.to_string()) }
    }

    pub(crate) fn config(field: impl Into<String>, reason: impl Into<String>) -> BuildError {
        BuildError::Config { field: field.into(), reason: reason.into() }
    }

    pub(crate) fn query(what: impl Into<String>, reason: impl ToString) -> BuildError {
        BuildError::Query { what: what.into(), reason: one_line(&reason.to_string()) }
    }
}

/// Other libraries' reasons come in several lines; ours is one sentence.
fn one_line(reason: &str) -> String {
    reason.split_whitespace().collect::<Vec<_>>().join(" ")
}

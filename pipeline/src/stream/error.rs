//! Why a stream stopped: one sentence with the file, topic or value and the way out.

use std::path::{Path, PathBuf};

/// Why streaming was refused or ended.
#[derive(Debug, thiserror::Error)]
pub enum StreamError {
    /// The operating system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A log's file is not what its name says.
    #[error("{path}: {reason}", path = .path.display())]
    Log {
        /// The file or folder.
        path: PathBuf,
        /// What was found and the way out.
        reason: String,
    },
    /// A value of the configuration breaks a rule.
    #[error("config {field}: {reason}")]
    Config {
        /// The field's name.
        field: &'static str,
        /// The value, the rule, and the way out.
        reason: String,
    },
    /// The broker or the client library refused.
    #[error("kafka {what}: {reason}")]
    Kafka {
        /// Topic, partition or action.
        what: String,
        /// The library's reason and the way out.
        reason: String,
        /// Whether trying again may help: brokers come back, leaders move.
        passes: bool,
    },
    /// No broker answered in the time that a run with an end waits for one.
    #[error(
        "config kafka.brokers: nobody at {brokers:?} answered within {waited_s} s ({reason}); start a broker there, or \
         correct kafka.brokers"
    )]
    Unreachable {
        /// The configured addresses.
        brokers: String,
        /// How long it was tried, in seconds.
        waited_s: u64,
        /// The library's reason.
        reason: String,
    },
    /// The user state store refused.
    #[error(transparent)]
    Store(#[from] feature_store::StoreError),
}

impl StreamError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StreamError + '_ {
        move |source| StreamError::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn log(path: &Path, reason: impl Into<String>) -> StreamError {
        StreamError::Log { path: path.to_path_buf(), reason: reason.into() }
    }

    pub(crate) fn config(field: &'static str, reason: impl Into<String>) -> StreamError {
        StreamError::Config { field, reason: reason.into() }
    }

    pub(crate) fn kafka(what: impl Into<String>, reason: impl ToString) -> StreamError {
        StreamError::Kafka { what: what.into(), reason: reason.to_string(), passes: false }
    }

    /// Whether the same may succeed later, with nothing changed here.
    pub fn passes(&self) -> bool {
        match self {
            StreamError::Kafka { passes, .. } => *passes,
            StreamError::Unreachable { .. } => true,
            StreamError::Store(error) => error.passes(),
            _ => false,
        }
    }
}

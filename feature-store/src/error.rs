//! The one error type of this crate: each variant reads as one sentence that names the file or field.

use parquet::errors::ParquetError;
use std::path::{Path, PathBuf};

/// Why a file or a record was refused.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused.
    #[error("{path}: {source}", path = .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file is not what its name or manifest says.
    #[error("{path}: {reason}", path = .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What was found, what was expected, and the way out.
        reason: String,
    },
    /// A value handed in breaks a rule.
    #[error("{field}: {reason}")]
    Invalid {
        /// The field's name.
        field: &'static str,
        /// The value, the rule, and the way out.
        reason: String,
    },
    /// The server of a shared store does not answer, or is not ready; later it may be.
    #[error("user state store {store}: {source}")]
    Unreachable {
        /// Its URL, without a password.
        store: String,
        /// What was tried and failed.
        source: std::io::Error,
    },
    /// Other processes changed the same rows again and again; later it may be quieter.
    #[error("user state store {store}: {what}: other processes kept changing what was read; try again")]
    Busy {
        /// Its URL, without a password.
        store: String,
        /// What was tried.
        what: String,
    },
    /// The store has lost writes, as a server may in a failover.
    #[error(
        "user state store {store}: of {stream}, partition {partition}, offset {offset} was applied and the store now ends \
         at {stored:?}: its server lost the last writes, which have to be applied from the stream again"
    )]
    Behind {
        /// Its URL, without a password.
        store: String,
        /// Name of the source.
        stream: String,
        /// Its partition.
        partition: u32,
        /// Last offset known to have been there.
        offset: u64,
        /// Last offset that is there.
        stored: Option<u64>,
    },
    /// The database of user state refused.
    #[error("user state store {path}: {reason}", path = .path.display())]
    State {
        /// Its folder, or its URL without a password.
        path: PathBuf,
        /// The database's reason.
        reason: String,
    },
}

impl StoreError {
    /// Whether the same may succeed later, with nothing changed here.
    pub fn passes(&self) -> bool {
        matches!(self, StoreError::Unreachable { .. } | StoreError::Busy { .. })
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + '_ {
        move |source| StoreError::Io { path: path.to_path_buf(), source }
    }

    pub(crate) fn corrupt(path: &Path, reason: impl ToString) -> StoreError {
        StoreError::Corrupt { path: path.to_path_buf(), reason: reason.to_string() }
    }

    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> StoreError {
        StoreError::Invalid { field, reason: reason.into() }
    }

    /// Why a table was not written. The system's own failure, such as a full disk, stays what it is; all else is about
    /// the table.
    pub(crate) fn unwritten(path: &Path, error: ParquetError) -> StoreError {
        match error {
            ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
                Ok(source) => StoreError::io(path)(*source),
                Err(other) => StoreError::corrupt(path, other),
            },
            other => StoreError::corrupt(path, other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_the_system_does_not_take_is_the_systems_failure() {
        let check = |error: ParquetError, of_the_system: bool| {
            let told = StoreError::unwritten(Path::new("users.parquet"), error);
            assert_eq!(matches!(told, StoreError::Io { .. }), of_the_system, "{told:?}");
            assert!(told.to_string().starts_with("users.parquet: "), "{told}");
        };
        check(std::io::Error::from(std::io::ErrorKind::StorageFull).into(), true);
        check(ParquetError::External("another library".into()), false);
        check(ParquetError::General("too many columns".to_owned()), false);
    }
}

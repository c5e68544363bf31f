//! One writer a Bundle: two trainings would share a checkpoint, one would replace the other's Bundle, and plans would be
//! written into the Bundle of before.

use crate::failure::bad_input;
use feature_store::StoreError;
use std::fs::File;
use std::path::{Path, PathBuf};

/// `OUTPUT.NAME`.
pub(crate) fn beside(output: &Path, name: &str) -> PathBuf {
    let mut file = output.file_name().unwrap_or_default().to_os_string();
    file.push(format!(".{name}"));
    output.with_file_name(file)
}

/// Held by whoever writes a Bundle. A lock that a killed run left is no lock any more.
pub(crate) struct Alone {
    _locked: File,
    path: PathBuf,
}

impl Alone {
    /// Takes the lock of a Bundle's folder, `OUTPUT.lock` beside it.
    ///
    /// # Errors
    /// Another program holds it, or the system refuses.
    pub(crate) fn take(output: &Path) -> anyhow::Result<Alone> {
        let path = beside(output, "lock");
        let failure = |source| StoreError::Io { path: path.clone(), source };
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(failure)?;
        }
        let file = File::create(&path).map_err(failure)?;
        match file.try_lock() {
            Ok(()) => Ok(Alone { _locked: file, path }),
            Err(std::fs::TryLockError::WouldBlock) => {
                let output = output.display();
                Err(bad_input(format!(
                    "another train or tune writes {output} (it holds {}); wait for it, or name another output",
                    path.display()
                )))
            }
            Err(std::fs::TryLockError::Error(error)) => Err(failure(error).into()),
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Left behind it does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

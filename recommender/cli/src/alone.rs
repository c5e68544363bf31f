//! One writer a Bundle: two trainings would share a checkpoint, one would replace the other's Bundle, and plans would be
//! written into the Bundle of before.

use crate::failure::bad_input;
use feature_store::{StoreError, leads_to};
use std::fs::File;
use std::path::{Path, PathBuf};

/// The Bundle's folder itself where a path is a link to it or has no name of its own, such as `.`: whatever it is called,
/// lock and checkpoint lie beside the same folder.
pub(crate) fn folder(path: &Path) -> PathBuf {
    // Without a slash at the end, which would follow the link here too.
    let plain: PathBuf = path.components().collect();
    match plain.is_symlink() || plain.file_name().is_none() {
        true => plain.canonicalize().unwrap_or(plain),
        false => plain,
    }
}

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
    /// Takes the lock of a Bundle's [`folder`], `OUTPUT.lock` beside it.
    ///
    /// # Errors
    /// Another program holds it, or the system refuses.
    pub(crate) fn take(output: &Path) -> anyhow::Result<Alone> {
        let path = beside(output, "lock");
        let failure = |source| StoreError::Io { path: path.clone(), source };
        let file = File::create(&path).map_err(failure)?;
        let held = match file.try_lock() {
            // Else whoever held it removed it meanwhile, and the next one makes another.
            Ok(()) => leads_to(&path, &file),
            Err(std::fs::TryLockError::WouldBlock) => false,
            Err(std::fs::TryLockError::Error(error)) => return Err(failure(error).into()),
        };
        if held {
            return Ok(Alone { _locked: file, path });
        }
        let (output, path) = (output.display(), path.display());
        Err(bad_input(format!(
            "another train or tune writes {output} (it holds {path}); wait for it, or name another output"
        )))
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Left behind it does no harm.
        let _ = std::fs::remove_file(&self.path);
    }
}

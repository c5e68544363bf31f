//! Artefacts are folders that appear whole or not at all: written beside, synced, then renamed.

use crate::StoreError;
use std::path::{Path, PathBuf};

/// A folder being written beside its final place. Dropped without [`StagedDir::commit`], it is
/// removed; a crash leaves only a hidden folder that a later writer of the same target removes.
#[derive(Debug)]
pub struct StagedDir {
    target: PathBuf,
    staging: PathBuf,
    committed: bool,
}

impl StagedDir {
    /// Starts a folder that will become `target`. If `target` exists it must hold `marker` (the
    /// manifest of an artefact of the same kind) or be empty, so that a mistyped path never costs
    /// somebody's files.
    ///
    /// # Errors
    /// `target` is something else, or the parent cannot be written.
    pub fn create(target: &Path, marker: &str) -> Result<StagedDir, StoreError> {
        if target.exists() && !target.join(marker).is_file() && !is_empty_dir(target) {
            return Err(StoreError::corrupt(
                target,
                format!("exists and holds no {marker}, so it is not replaced; name another output or remove it"),
            ));
        }
        let name = target
            .file_name()
            .ok_or_else(|| StoreError::corrupt(target, "is not a folder name; name an output folder"))?
            .to_string_lossy();
        let parent = parent_of(target);
        std::fs::create_dir_all(parent).map_err(StoreError::io(parent))?;
        remove_leftovers(parent, &name);
        // The process id keeps two writers of one target apart: the last rename wins, whole.
        let staging = parent.join(format!(".{name}.{}.part", std::process::id()));
        std::fs::create_dir(&staging).map_err(StoreError::io(&staging))?;
        Ok(StagedDir { target: target.to_path_buf(), staging, committed: false })
    }

    /// The folder to write into.
    pub fn path(&self) -> &Path {
        &self.staging
    }

    /// Syncs every file and makes the folder appear as `target`, replacing what was there. Where the
    /// system can exchange two names (Linux), `target` is whole at every moment.
    pub fn commit(mut self) -> Result<(), StoreError> {
        sync_tree(&self.staging)?;
        if self.target.exists() {
            exchange(&self.staging, &self.target)?;
            // What is called staging now is what was replaced; the drop below removes it.
        } else {
            std::fs::rename(&self.staging, &self.target).map_err(StoreError::io(&self.target))?;
            self.committed = true;
        }
        sync(parent_of(&self.target))
    }
}

#[cfg(target_os = "linux")]
fn exchange(new: &Path, target: &Path) -> Result<(), StoreError> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE).map_err(|e| StoreError::io(target)(e.into()))
}

#[cfg(not(target_os = "linux"))]
fn exchange(new: &Path, target: &Path) -> Result<(), StoreError> {
    let old = new.with_extension("old");
    std::fs::rename(target, &old).map_err(StoreError::io(target))?;
    let renamed = std::fs::rename(new, target).and_then(|()| std::fs::rename(&old, new));
    renamed.map_err(StoreError::io(target))
}

/// Removes what writers of `name` that were killed left behind. Best effort: it is only disk space.
fn remove_leftovers(parent: &Path, name: &str) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let pid = file.strip_prefix(&format!(".{name}.")).and_then(|rest| rest.strip_suffix(".part"));
        let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
        let running = Path::new("/proc").join(pid.to_string()).exists();
        if pid == std::process::id() || (Path::new("/proc/self").exists() && !running) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing to do about a failure here: the next writer removes what is left.
            let _ = std::fs::remove_dir_all(&self.staging);
        }
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn is_empty_dir(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

fn sync_tree(dir: &Path) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(dir).map_err(StoreError::io(dir))? {
        let path = entry.map_err(StoreError::io(dir))?.path();
        if path.is_dir() { sync_tree(&path)? } else { sync(&path)? }
    }
    sync(dir)
}

fn sync(path: &Path) -> Result<(), StoreError> {
    std::fs::File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io(path))
}

//! Names in folders that are there after a crash of the machine: what is made, renamed or exchanged is synced into the
//! folder that it lies in.

use crate::StoreError;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Makes a folder and those above it that are absent, each of them synced into the one it lies in: else a crash of the
/// machine could take away what was synced inside of it.
///
/// # Errors
/// The system's failure.
pub fn create_dir_all_synced(dir: &Path) -> Result<(), StoreError> {
    let absent: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
    std::fs::create_dir_all(dir).map_err(StoreError::io(dir))?;
    absent.into_iter().rev().try_for_each(|made| sync_path(parent_of(made)))
}

/// Syncs a file, or the names in a folder.
///
/// # Errors
/// The system's failure.
pub fn sync_path(path: &Path) -> Result<(), StoreError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(StoreError::io(path))
}

/// Renames a file that was written and synced beside its place.
pub(crate) fn rename_whole(part: &Path, path: &Path) -> Result<(), StoreError> {
    std::fs::rename(part, path).map_err(StoreError::io(path))?;
    sync_path(parent_of(path))
}

/// Syncs every file below a folder, and the folders.
pub(crate) fn sync_tree(dir: &Path) -> Result<(), StoreError> {
    for entry in std::fs::read_dir(dir).map_err(StoreError::io(dir))? {
        let path = entry.map_err(StoreError::io(dir))?.path();
        if path.is_dir() { sync_tree(&path)? } else { sync_path(&path)? }
    }
    sync_path(dir)
}

/// Makes two folders change places, at one moment where the disk can.
#[cfg(target_os = "linux")]
pub(crate) fn exchange(new: &Path, target: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, new, CWD, target, RenameFlags::EXCHANGE) {
        // NFS, 9p and most of FUSE cannot exchange names.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => swap(new, target),
        done => Ok(done?),
    }
}

/// Makes two folders change places.
#[cfg(not(target_os = "linux"))]
pub(crate) fn exchange(new: &Path, target: &Path) -> std::io::Result<()> {
    swap(new, target)
}

/// Renames a folder to one like it with another ending, `0.ENDING` or the next that nothing has, which no writer removes.
pub(crate) fn set_aside(dir: &Path, like: &Path, ending: &str) -> std::io::Result<PathBuf> {
    let free = (0..1000).map(|number| like.with_extension(format!("{number}.{ending}"))).find(|free| !free.exists());
    let free = free.ok_or_else(|| std::io::Error::new(ErrorKind::AlreadyExists, format!("1000 .{ending} folders")))?;
    std::fs::rename(dir, &free).map(|()| free)
}

/// Exchanges two folders in three steps; a crash between the first two leaves the old one under the name
/// `NAME.NUMBER.old`.
fn swap(new: &Path, target: &Path) -> std::io::Result<()> {
    let old = set_aside(target, new, "old")?;
    if let Err(error) = std::fs::rename(new, target) {
        // Best effort: the error that is returned is the one that matters.
        let _ = std::fs::rename(&old, target);
        return Err(error);
    }
    // The new one is in place; what it replaced goes, under whichever name.
    if std::fs::rename(&old, new).is_err() {
        let _ = std::fs::remove_dir_all(&old);
    }
    Ok(())
}

/// The folder that a file or folder is in.
pub(crate) fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What exchanges two folders where the system cannot.
    #[test]
    fn a_swap_exchanges_two_folders_or_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (new, target) = (dir.path().join(".x.1.0.part"), dir.path().join("x"));
        let read = |path: &Path| std::fs::read_to_string(path.join("f")).unwrap();
        for (path, text) in [(&new, "new"), (&target, "old")] {
            std::fs::create_dir(path).unwrap();
            std::fs::write(path.join("f"), text).unwrap();
        }
        assert!(swap(&dir.path().join(".x.1.1.part"), &target).is_err() && read(&target) == "old");
        swap(&new, &target).unwrap();
        assert_eq!((read(&target), read(&new)), ("new".to_owned(), "old".to_owned()));
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        // What a crash left is in nobody's way.
        let left = dir.path().join(".x.1.0.0.old");
        std::fs::create_dir(&left).unwrap();
        std::fs::write(left.join("f"), "older").unwrap();
        swap(&new, &target).unwrap();
        assert_eq!((read(&target), read(&left)), ("old".to_owned(), "older".to_owned()));
    }
}

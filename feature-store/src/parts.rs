//! What is written beside its place: `NAME.PROCESS.NUMBER.part`, locked for as long as its writer runs. So what a killed
//! writer left is told from what another one of the same machine is writing, in whichever container. Network disks differ in
//! whether a lock on a folder is seen by other machines: writers of one target belong on one.

use crate::StoreError;
use crate::durable::{create_dir_all_synced, parent_of};
use crate::staging::name_of;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Names that are tried, one for each writer at work.
const TRIES: u32 = 1000;

/// Makes a file beside the place of one that is to be renamed there. It is locked as long as it is open.
pub(crate) fn create_part(path: &Path) -> Result<(PathBuf, File), StoreError> {
    let (name, parent) = (name_of(path)?, parent_of(path));
    create_dir_all_synced(parent)?;
    remove_leftovers(parent, &name);
    let (part, file) = unused(parent, &name, |part| Ok(Some(File::create_new(part)?)))?;
    Ok((part, file.expect("it was just made")))
}

/// Makes something beside a target under a name that nothing has, and locks it. `make` gives what carries the lock.
pub(crate) fn unused(
    parent: &Path,
    name: &str,
    make: impl Fn(&Path) -> std::io::Result<Option<File>>,
) -> Result<(PathBuf, Option<File>), StoreError> {
    // The process id alone is not enough: another container may have the same.
    let place = |number: u32| parent.join(format!("{name}.{}.{number}.part", std::process::id()));
    let mut tried = (0..TRIES).map(place).filter_map(|part| match make(&part) {
        Ok(file) if file.as_ref().map_or_else(|| part.exists(), |file| held(file, &part)) => Some(Ok((part, file))),
        // Another writer took it for one left behind before it was locked.
        Ok(_) => None,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => None,
        Err(error) => Some(Err(StoreError::io(&part)(error))),
    });
    tried.next().unwrap_or_else(|| {
        let reason = format!("{TRIES} writers of {name} are at work, or were killed and cannot be told from such");
        Err(StoreError::io(parent)(std::io::Error::new(ErrorKind::AlreadyExists, reason)))
    })
}

/// Locks a part that was just made; false if somebody was faster and removes it. Where the disk knows no locks, nobody
/// else gets one either.
fn held(file: &File, part: &Path) -> bool {
    match file.try_lock() {
        Ok(()) => leads_to(part, file),
        Err(std::fs::TryLockError::WouldBlock) => false,
        Err(std::fs::TryLockError::Error(_)) => true,
    }
}

/// Removes what writers of `name` that were killed left behind: what can be locked has no writer any more, in whatever
/// container it ran. Best effort: it is only disk space.
pub(crate) fn remove_leftovers(parent: &Path, name: &str) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten().filter(|entry| is_part_of(&entry.file_name().to_string_lossy(), name)) {
        let Ok(part) = File::open(entry.path()) else { continue };
        let path = entry.path();
        if part.try_lock().is_ok() && leads_to(&path, &part) {
            let _ = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        }
    }
}

/// Whether a name still leads to what was opened under it: since then it may have been renamed, and another made.
#[cfg(unix)]
pub fn leads_to(path: &Path, file: &File) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |found: std::fs::Metadata| (found.dev(), found.ino());
    file.metadata().is_ok_and(|opened| path.symlink_metadata().is_ok_and(|there| place(there) == place(opened)))
}

#[cfg(not(unix))]
pub fn leads_to(path: &Path, _file: &File) -> bool {
    path.exists()
}

/// Whether it is what a writer of `name` writes into; a folder of `StagedDir::check` has a process and no number.
fn is_part_of(file: &str, name: &str) -> bool {
    let numbers = || file.strip_prefix(name)?.strip_prefix('.')?.strip_suffix(".part");
    numbers().is_some_and(|numbers| {
        let (process, number) = numbers.split_once('.').unwrap_or((numbers, "0"));
        process.parse::<u32>().is_ok() && number.parse::<u32>().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_told_by_their_names() {
        let check = |file: &str, expect: bool| assert_eq!(is_part_of(file, ".x"), expect, "{file}");
        check(".x.12.part", true);
        check(".x.12.3.part", true);
        check(".x.12.3.kept", false);
        check(".x.12.3.old", false);
        check(".x.y.12.part", false);
        check(".x.12.3.4.part", false);
        check("x.12.part", false);
    }
}

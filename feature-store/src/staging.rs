//! Artefacts are folders, and single files, that appear whole or not at all: written beside, synced, then renamed.
//!
//! A folder that is replaced is ours to the last file: its marker is a manifest (JSON with `schema_version` and `files`)
//! that lists everything that lies beside it. So a mistyped path never costs somebody's files.

use crate::StoreError;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Staging folders of this process, so that no thread takes another's for one that was left behind.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// A folder being written beside its final place. Dropped without [`StagedDir::commit`], it is
/// removed; a crash leaves only a hidden folder that a later writer of the same target removes.
#[derive(Debug)]
pub struct StagedDir {
    target: PathBuf,
    staging: PathBuf,
    committed: bool,
}

impl StagedDir {
    /// Starts a folder that will become `target`. If `target` exists it must be empty or hold `marker` (the
    /// manifest of an artefact of the same kind) and nothing that the manifest does not list.
    ///
    /// # Errors
    /// `target` is something else or a mount point, or the parent cannot be written.
    pub fn create(target: &Path, marker: &str) -> Result<StagedDir, StoreError> {
        check_target(target, marker)?;
        StagedDir::beside(target)
    }

    /// Says before hours of work what [`StagedDir::create`] and the rename at its end would say after them. Leaves
    /// nothing behind.
    ///
    /// # Errors
    /// As [`StagedDir::create`].
    pub fn check(target: &Path, marker: &str) -> Result<(), StoreError> {
        check_target(target, marker)?;
        check_parent(target)
    }

    /// Starts a folder that will become `target` and replaces nothing; none if something is there already.
    pub(crate) fn create_new(target: &Path) -> Result<Option<StagedDir>, StoreError> {
        // A link to an empty folder stands for that folder.
        let target = target.canonicalize().unwrap_or_else(|_| target.to_path_buf());
        if target.exists() && !is_empty_dir(&target) {
            return Ok(None);
        }
        check_no_mount(&target)?;
        StagedDir::beside(&target).map(Some)
    }

    fn beside(target: &Path) -> Result<StagedDir, StoreError> {
        let name = name_of(target)?;
        let parent = parent_of(target);
        std::fs::create_dir_all(parent).map_err(StoreError::io(parent))?;
        let parent = parent.canonicalize().map_err(StoreError::io(parent))?;
        let mut live = live();
        remove_leftovers(&parent, &name, &live);
        // Process and number keep writers of one target apart: the last rename wins, whole.
        let place = |number: u32| parent.join(format!(".{name}.{}.{number}.part", std::process::id()));
        let staging = (0..).map(place).find(|staging| !live.contains(staging)).expect("fewer than 2^32 at once");
        std::fs::create_dir(&staging).map_err(StoreError::io(&staging))?;
        live.insert(staging.clone());
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

    /// Syncs every file and makes the folder appear as `target` where nothing is, or an empty folder; false, with
    /// nothing changed, if another writer was faster.
    pub(crate) fn commit_new(mut self) -> Result<bool, StoreError> {
        sync_tree(&self.staging)?;
        // The system itself renames a folder onto nothing or an empty folder only, so no other writer's is lost.
        match std::fs::rename(&self.staging, &self.target) {
            Ok(()) => self.committed = true,
            Err(error) if matches!(error.kind(), ErrorKind::DirectoryNotEmpty | ErrorKind::AlreadyExists) => {
                return Ok(false);
            }
            Err(error) => return Err(StoreError::io(&self.target)(error)),
        }
        sync(parent_of(&self.target))?;
        Ok(true)
    }
}

/// Writes a file that appears whole or not at all, replacing an older one: beside its place, synced, renamed, and the
/// folder synced. The folder is made if it is absent. The process id keeps writers apart; within a process a path has one
/// writer at a time.
///
/// # Errors
/// The system's failure.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let parent = parent_of(path);
    std::fs::create_dir_all(parent).map_err(StoreError::io(parent))?;
    let part = part_of(path);
    let written = std::fs::File::create(&part).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let done = written.map_err(StoreError::io(&part)).and_then(|()| rename_whole(&part, path));
    done.inspect_err(|_| {
        // Best effort: the error that is returned is the one that matters.
        let _ = std::fs::remove_file(&part);
    })
}

/// Where a file is written before it is renamed.
pub(crate) fn part_of(path: &Path) -> PathBuf {
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    PathBuf::from(part)
}

/// Renames a file that was written and synced beside its place.
pub(crate) fn rename_whole(part: &Path, path: &Path) -> Result<(), StoreError> {
    std::fs::rename(part, path).map_err(StoreError::io(path))?;
    sync(parent_of(path))
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

/// The set is whole after every statement, also if a thread panicked.
fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what writers of `name` that were killed left behind. Best effort: it is only disk space.
fn remove_leftovers(parent: &Path, name: &str, live: &BTreeSet<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = writer_of(&file, name) else { continue };
        let running = Path::new("/proc").join(pid.to_string()).exists();
        // An earlier process may have had this one's id, as in a container that starts again.
        let gone = if pid == std::process::id() {
            !live.contains(&entry.path())
        } else {
            Path::new("/proc/self").exists() && !running
        };
        if gone {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// The process that a staging folder of `name` belongs to; one of an older version or of [`check_parent`] has no number.
fn writer_of(file: &str, name: &str) -> Option<u32> {
    let rest = file.strip_prefix(&format!(".{name}."))?.strip_suffix(".part")?;
    let (pid, number) = rest.split_once('.').unwrap_or((rest, "0"));
    number.parse::<u32>().ok()?;
    pid.parse().ok()
}

impl Drop for StagedDir {
    fn drop(&mut self) {
        if !self.committed {
            // Nothing to do about a failure here: the next writer removes what is left.
            let _ = std::fs::remove_dir_all(&self.staging);
        }
        live().remove(&self.staging);
    }
}

fn check_target(target: &Path, marker: &str) -> Result<(), StoreError> {
    name_of(target)?;
    check_no_mount(target)?;
    check_replaceable(target, marker)
}

/// A mount point cannot be renamed, and what lies beside it is on another disk.
#[cfg(unix)]
fn check_no_mount(target: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    let (Ok(found), Ok(beside)) = (target.symlink_metadata(), parent_of(target).metadata()) else { return Ok(()) };
    if !found.is_dir() || found.dev() == beside.dev() {
        return Ok(());
    }
    Err(StoreError::corrupt(
        target,
        "is a mount point, which no folder can be renamed to; name a folder inside the volume",
    ))
}

#[cfg(not(unix))]
fn check_no_mount(_target: &Path) -> Result<(), StoreError> {
    Ok(())
}

/// Makes and removes a folder where [`StagedDir::create`] will make one, or where it will make the parent.
fn check_parent(target: &Path) -> Result<(), StoreError> {
    let mut above = target.ancestors().skip(1).map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir });
    let place = above.find(|dir| dir.exists()).unwrap_or(Path::new("."));
    let probe = place.join(format!(".{}.{}.part", name_of(target)?, std::process::id()));
    match std::fs::create_dir(&probe) {
        Ok(()) => {
            // Best effort: the next writer removes what is left.
            let _ = std::fs::remove_dir(&probe);
            Ok(())
        }
        Err(error) => match error.kind() {
            ErrorKind::AlreadyExists => Ok(()),
            ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotFound
            | ErrorKind::NotADirectory => {
                let place = place.display();
                let reason = format!(
                    "cannot be made, since {place} cannot be written ({error}) and an artefact is written beside its \
                     place; name a folder inside the volume"
                );
                Err(StoreError::corrupt(target, reason))
            }
            _ => Err(StoreError::io(place)(error)),
        },
    }
}

fn check_replaceable(target: &Path, marker: &str) -> Result<(), StoreError> {
    if !target.exists() || is_empty_dir(target) {
        return Ok(());
    }
    let refuse = |why: String| {
        Err(StoreError::corrupt(target, format!("{why}, so it is not replaced; name another output or remove it")))
    };
    let manifest = target.join(marker);
    if !manifest.is_file() {
        return refuse(format!("exists and holds no {marker}"));
    }
    let Some(mut listed) = listed(&manifest) else {
        return refuse(format!("exists and its {marker} is none that this program writes"));
    };
    listed.insert(marker.to_owned());
    match foreign(target, "", &listed)? {
        Some(name) => refuse(format!("exists and holds {name}, which its {marker} does not list")),
        None => Ok(()),
    }
}

/// The artefact that a place lies in: the nearest folder above it in which a file of one of these names is a manifest,
/// and that name. A place that is an artefact itself is not in one by that.
pub fn artefact_around<'a>(place: &Path, markers: &[&'a str]) -> Option<(PathBuf, &'a str)> {
    resolved(place).ancestors().skip(1).find_map(|dir| {
        let marker = markers.iter().find(|marker| listed(&dir.join(marker)).is_some())?;
        Some((dir.to_path_buf(), *marker))
    })
}

/// Whether a place, there or not yet, is a folder or lies in it, whatever links lead to either.
pub fn lies_in(place: &Path, folder: &Path) -> bool {
    resolved(place).starts_with(resolved(folder))
}

/// A place with the links in the part of it followed that is there.
fn resolved(place: &Path) -> PathBuf {
    let whole = std::path::absolute(place).unwrap_or_else(|_| place.to_path_buf());
    let there = whole.ancestors().find_map(|dir| Some((dir, dir.canonicalize().ok()?)));
    there.and_then(|(dir, found)| Some(found.join(whole.strip_prefix(dir).ok()?))).unwrap_or(whole)
}

/// The files that a manifest lists; none if it is no manifest of any version.
fn listed(manifest: &Path) -> Option<BTreeSet<String>> {
    let manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(manifest).ok()?).ok()?;
    manifest["schema_version"].as_u64()?;
    Some(manifest["files"].as_object()?.keys().cloned().collect())
}

/// The first entry below `dir`, by name, that is not listed; a folder counts by what is in it.
fn foreign(dir: &Path, prefix: &str, listed: &BTreeSet<String>) -> Result<Option<String>, StoreError> {
    let mut entries = BTreeMap::new();
    for entry in std::fs::read_dir(dir).map_err(StoreError::io(dir))? {
        let entry = entry.map_err(StoreError::io(dir))?;
        // Of a link itself: what it leads to is not looked at.
        let kind = entry.file_type().map_err(StoreError::io(dir))?;
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        entries.insert(name, (entry.path(), kind.is_dir()));
    }
    for (name, (path, is_folder)) in entries {
        let found = if is_folder {
            foreign(&path, &format!("{name}/"), listed)?
        } else {
            (!listed.contains(&name)).then_some(name)
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

fn name_of(target: &Path) -> Result<String, StoreError> {
    let name = target.file_name();
    let name = name.ok_or_else(|| StoreError::corrupt(target, "is not a folder name; name an output folder"))?;
    Ok(name.to_string_lossy().into_owned())
}

/// The folder that a file or folder is in.
pub(crate) fn parent_of(path: &Path) -> &Path {
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

//! Artefacts are folders, and single files, that appear whole or not at all: written beside, synced, then renamed.
//!
//! A folder that is replaced is ours to the last file: its marker is a manifest (JSON with `schema_version` and `files`)
//! that lists everything that lies beside it. So a mistyped path never costs somebody's files.

use crate::StoreError;
use crate::durable::{create_dir_all_synced, exchange, parent_of, rename_whole, set_aside, sync_path, sync_tree};
use crate::parts::{create_part, remove_leftovers, unused};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

/// A folder being written beside its final place, under a lock of its own. Dropped without [`StagedDir::commit`], it
/// is removed; a crash leaves only a hidden folder whose lock nobody holds, and which a later writer of the same
/// target removes.
#[derive(Debug)]
pub struct StagedDir {
    target: PathBuf,
    staging: PathBuf,
    committed: bool,
    _lock: Option<File>,
}

impl StagedDir {
    /// Starts a folder that will become `target`, or what `target` is a link to. If that exists it must be empty or
    /// hold `marker` (the manifest of an artefact of the same kind) and nothing that the manifest does not list.
    ///
    /// # Errors
    /// `target` is something else, a mount point or a link that leads nowhere, or the parent cannot be written.
    pub fn create(target: &Path, marker: &str) -> Result<StagedDir, StoreError> {
        StagedDir::beside(&checked(target, marker)?)
    }

    /// Says before hours of work what [`StagedDir::create`] and the rename at its end would say after them. Leaves
    /// nothing behind.
    ///
    /// # Errors
    /// As [`StagedDir::create`].
    pub fn check(target: &Path, marker: &str) -> Result<(), StoreError> {
        check_parent(&checked(target, marker)?)
    }

    /// Starts a folder that will become `target` and replaces nothing; none if something is there already.
    pub(crate) fn create_new(target: &Path) -> Result<Option<StagedDir>, StoreError> {
        let target = followed(target)?;
        if target.exists() && !is_empty_dir(&target) {
            return Ok(None);
        }
        check_no_mount(&target)?;
        StagedDir::beside(&target).map(Some)
    }

    fn beside(target: &Path) -> Result<StagedDir, StoreError> {
        let name = name_of(target)?;
        let parent = parent_of(target);
        create_dir_all_synced(parent)?;
        let parent = parent.canonicalize().map_err(StoreError::io(parent))?;
        remove_leftovers(&parent, &format!(".{name}"));
        // Process and number keep writers of one target apart: the last rename wins, whole.
        let (staging, lock) = unused(&parent, &format!(".{name}"), |staging| {
            std::fs::create_dir(staging)?;
            // Where a folder cannot be opened there is no lock, and nobody removes it as one left behind.
            Ok(File::open(staging).ok())
        })?;
        Ok(StagedDir { target: target.to_path_buf(), staging, committed: false, _lock: lock })
    }

    /// The folder to write into.
    pub fn path(&self) -> &Path {
        &self.staging
    }

    /// Syncs every file and makes the folder appear as `target`, replacing what was there. Where the
    /// system can exchange two names (Linux, on its own disks), `target` is whole at every moment.
    ///
    /// # Errors
    /// The system's failure. One to rename costs no work: the folder stays, and the message says where.
    pub fn commit(mut self) -> Result<(), StoreError> {
        sync_tree(&self.staging)?;
        let replaces = self.target.exists();
        let renamed = match replaces {
            true => exchange(&self.staging, &self.target),
            false => std::fs::rename(&self.staging, &self.target),
        };
        if let Err(error) = renamed {
            return Err(self.keep(&error));
        }
        // Of one that was replaced, what is called staging now is the old one; the drop below removes it.
        self.committed = !replaces;
        sync_path(parent_of(&self.target))
    }

    /// Lets the folder stay, under a name that no writer removes.
    fn keep(&mut self, error: &std::io::Error) -> StoreError {
        self.committed = true;
        let (kept, more) = match set_aside(&self.staging, &self.staging, "kept") {
            Ok(kept) => (kept, ""),
            Err(_) => (self.staging.clone(), " before the next one is made, which removes it"),
        };
        let kept = kept.display();
        let reason = format!("{error}; what was made is whole and lies in {kept}: move it to its place{more}");
        StoreError::io(&self.target)(std::io::Error::new(error.kind(), reason))
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
        sync_path(parent_of(&self.target))?;
        Ok(true)
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

/// Writes a file that appears whole or not at all, replacing an older one: beside its place, synced, renamed, and the
/// folder synced. The folder is made if it is absent. What a writer of the file that was killed left is removed.
///
/// # Errors
/// The system's failure.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let (part, mut file) = create_part(path)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    let done = written.map_err(StoreError::io(&part)).and_then(|()| rename_whole(&part, path));
    done.inspect_err(|_| {
        // Best effort: the error that is returned is the one that matters.
        let _ = std::fs::remove_file(&part);
    })
}

/// Where a target is, if it may be written there.
fn checked(target: &Path, marker: &str) -> Result<PathBuf, StoreError> {
    name_of(target)?;
    let target = followed(target)?;
    check_no_mount(&target)?;
    check_replaceable(&target, marker)?;
    Ok(target)
}

/// The place itself where a target is a link to it: the link stays, and what it leads to is replaced.
fn followed(target: &Path) -> Result<PathBuf, StoreError> {
    // Without a slash at the end, which would follow the link too.
    let target: PathBuf = target.components().collect();
    if !target.is_symlink() {
        return Ok(target);
    }
    target.canonicalize().map_err(|error| {
        let reason = format!("is a link that leads nowhere ({error}); remove it, or make the folder that it names");
        StoreError::corrupt(&target, reason)
    })
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

pub(crate) fn name_of(target: &Path) -> Result<String, StoreError> {
    let name = target.file_name();
    let name = name.ok_or_else(|| StoreError::corrupt(target, "is not a folder name; name an output folder"))?;
    Ok(name.to_string_lossy().into_owned())
}

fn is_empty_dir(path: &Path) -> bool {
    std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none())
}

//! How to search the item table, chosen after training and written into the Bundle: a text that this
//! crate keeps and checks, and `retrieval` understands.
//!
//! The file's name holds its checksum and the manifest is renamed last, so a Bundle has the old plans or
//! the new ones at every moment. The Bundle's id stays: the plans change how fast items are found, not
//! what was trained.

use super::{Bundle, BundleManifest, MANIFEST, read_manifest, verify};
use crate::BundleError;
use feature_store::{FileEntry, sha256_bytes, write_whole};
use std::path::Path;

/// First part of the file's name.
pub(super) const PREFIX: &str = "search-plans-";

impl Bundle {
    /// The plans as they were written; none if nobody chose any.
    pub fn search_plans(&self) -> Option<&str> {
        self.search_plans.as_deref()
    }

    /// Writes plans for this Bundle into its folder, `dir`, in place of those that it has.
    ///
    /// # Errors
    /// This Bundle is not there, or not any more; or the system refuses.
    pub fn write_search_plans(&self, dir: &Path, text: &str) -> Result<(), BundleError> {
        let path = dir.join(MANIFEST);
        let mut manifest = read_manifest(&path)?;
        if manifest.id != self.id {
            let found = &manifest.id;
            return Err(BundleError::file(
                &path,
                format!("is Bundle {found} by now, and the plans are for {}", self.id),
            ));
        }
        remove_unlisted(dir, &manifest);
        let sha256 = sha256_bytes(text.as_bytes());
        let name = format!("{PREFIX}{}.json", &sha256[..16]);
        write_whole(&dir.join(&name), text.as_bytes())?;
        let old: Vec<String> = names(&manifest).filter(|old| **old != name).cloned().collect();
        old.iter().for_each(|old| drop(manifest.files.remove(old)));
        manifest.files.insert(name, FileEntry { bytes: text.len() as u64, sha256 });
        let text = serde_json::to_string_pretty(&manifest).map_err(|error| BundleError::file(&path, error))?;
        write_whole(&path, (text + "\n").as_bytes())?;
        remove_unlisted(dir, &manifest);
        Ok(())
    }
}

/// Removes plans that the manifest does not list: those that were replaced, and what a crash left. A Bundle with a file
/// that is not listed is never replaced by a new one.
fn remove_unlisted(dir: &Path, manifest: &BundleManifest) {
    let names = std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    for name in names.filter_map(|name| name.into_string().ok()) {
        if name.starts_with(PREFIX) && !manifest.files.contains_key(&name) {
            // Best effort: the next call tries again.
            let _ = std::fs::remove_file(dir.join(name));
        }
    }
}

/// The plans that a manifest lists, verified.
pub(super) fn read(dir: &Path, manifest: &BundleManifest) -> Result<Option<String>, BundleError> {
    let Some(name) = names(manifest).next() else { return Ok(None) };
    let path = dir.join(name);
    verify(&path, manifest.files.get(name))?;
    std::fs::read_to_string(&path).map(Some).map_err(|error| BundleError::file(&path, error))
}

fn names(manifest: &BundleManifest) -> impl Iterator<Item = &String> {
    manifest.files.keys().filter(|name| name.starts_with(PREFIX))
}

//! The tier table that is live, and the file that keeps its changes across restarts.
//!
//! The file is JSON: the version, the tiers, and the newest changes. It is written beside its place,
//! synced and renamed before a change takes effect, so that what is live is what a restart brings
//! back. While the file exists it wins over the tiers of the config.

use crate::ServiceError;
use crate::access::KeyTier;
use crate::config::broken;
use crate::tiers::config::{TierConfig, validate_tiers};
use crate::tiers::table::TierTable;
use fmrlrec::BundleShape;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Version of the file's layout.
const SCHEMA: u32 = 1;
/// Changes kept.
const MAX_CHANGES: usize = 50;
/// Largest file read, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;

/// One change that was made.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Change {
    /// Version that the change made.
    pub(crate) version: u64,
    /// When, in milliseconds since the Unix epoch.
    pub(crate) at_ms: i64,
    /// Name of the API key that asked.
    pub(crate) by: String,
    /// Why, in the caller's words.
    pub(crate) note: String,
    /// What, field by field.
    pub(crate) changes: Vec<String>,
}

#[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    version: u64,
    tiers: Vec<TierConfig>,
    history: Vec<Change>,
}

/// The live table and its history.
pub(crate) struct Journal {
    path: PathBuf,
    live: RwLock<Arc<TierTable>>,
    /// Held for the whole of a change: one at a time.
    file: Mutex<File>,
    header: String,
    key_tiers: Vec<KeyTier>,
    max_k: usize,
}

impl Journal {
    /// Starts from the file if there is one, else from `tiers` at version 1.
    ///
    /// # Errors
    /// The file is no journal of this version, or its tiers do not fit `trained`.
    pub(crate) fn open(
        path: &Path,
        tiers: &[TierConfig],
        header: &str,
        key_tiers: Vec<KeyTier>,
        trained: &BundleShape,
        max_k: usize,
    ) -> Result<Journal, ServiceError> {
        let file = read(path)?.unwrap_or_else(|| File {
            schema: SCHEMA,
            version: 1,
            tiers: tiers.to_vec(),
            history: Vec::new(),
        });
        validate_tiers(&file.tiers, trained, max_k).map_err(|error| refused(path, error))?;
        let table = TierTable::new(file.version, &file.tiers, header, &key_tiers, None);
        Ok(Journal {
            path: path.to_path_buf(),
            live: RwLock::new(Arc::new(table)),
            file: Mutex::new(file),
            header: header.to_string(),
            key_tiers,
            max_k,
        })
    }

    /// The table of now.
    pub(crate) fn current(&self) -> Arc<TierTable> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes made, newest first.
    pub(crate) fn history(&self) -> Vec<Change> {
        self.locked().history.iter().rev().cloned().collect()
    }

    /// Whether the live tiers fit a Bundle.
    ///
    /// # Errors
    /// The tier that does not.
    pub(crate) fn fits(&self, trained: &BundleShape) -> Result<(), ServiceError> {
        validate_tiers(&self.current().configs(), trained, self.max_k)
    }

    /// What `tiers` would change, field by field.
    ///
    /// # Errors
    /// A broken rule, or an API key whose tier would be gone.
    pub(crate) fn plan(&self, tiers: &[TierConfig], trained: &BundleShape) -> Result<Vec<String>, ServiceError> {
        validate_tiers(tiers, trained, self.max_k)?;
        let gone = |name: &&String| !name.is_empty() && !tiers.iter().any(|tier| tier.name == **name);
        if let Some(name) = self.key_tiers.iter().map(|key| &key.tier).find(gone) {
            return Err(broken(
                "tiers",
                format!("an API key of the config has tier {name:?}; keep a tier of that name"),
            ));
        }
        Ok(differences(&self.current().configs(), tiers))
    }

    /// Makes a planned change: first on disk, then live. `change.version` is the version it was planned
    /// against plus one.
    ///
    /// # Errors
    /// Another change came first ([`ServiceError::Conflict`]), or the file cannot be written.
    pub(crate) fn commit(&self, tiers: Vec<TierConfig>, change: Change) -> Result<u64, ServiceError> {
        let mut file = self.locked();
        if file.version + 1 != change.version {
            return Err(ServiceError::Conflict { live: file.version });
        }
        let mut next = File { schema: SCHEMA, version: change.version, tiers, history: file.history.clone() };
        next.history.push(change);
        let surplus = next.history.len().saturating_sub(MAX_CHANGES);
        next.history.drain(..surplus);
        let text = serde_json::to_string_pretty(&next).map_err(|error| refused(&self.path, error))?;
        feature_store::write_whole(&self.path, text.as_bytes()).map_err(|error| refused(&self.path, error))?;
        let before = self.current();
        let table = TierTable::new(next.version, &next.tiers, &self.header, &self.key_tiers, Some(&before));
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(table);
        let version = next.version;
        *file = next;
        Ok(version)
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, File> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One line a field that differs, and one a tier that comes or goes.
fn differences(before: &[TierConfig], after: &[TierConfig]) -> Vec<String> {
    let mut lines = Vec::new();
    for tier in after {
        match before.iter().find(|old| old.name == tier.name) {
            None => lines.push(format!("{}: new at dim {}", tier.name, tier.dim)),
            Some(old) => {
                let (old, new) = (fields(old), fields(tier));
                let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
                let text = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), Value::to_string);
                let differs = names.into_iter().filter(|name| old.get(*name) != new.get(*name));
                lines.extend(differs.map(|field| {
                    format!("{}.{field}: {} -> {}", tier.name, text(old.get(field)), text(new.get(field)))
                }));
            }
        }
    }
    let gone = before.iter().filter(|old| !after.iter().any(|tier| tier.name == old.name));
    lines.extend(gone.map(|tier| format!("{}: removed", tier.name)));
    lines
}

/// A tier's fields as they are written down, so that none is forgotten.
fn fields(tier: &TierConfig) -> serde_json::Map<String, Value> {
    match serde_json::to_value(tier) {
        Ok(Value::Object(fields)) => fields,
        _ => unreachable!("a tier is a map of plain values"),
    }
}

/// The tiers that a file keeps, if it is there.
///
/// # Errors
/// It is no journal of this version.
pub(crate) fn kept_tiers(path: &Path) -> Result<Option<Vec<TierConfig>>, ServiceError> {
    Ok(read(path)?.map(|file| file.tiers))
}

fn read(path: &Path) -> Result<Option<File>, ServiceError> {
    let bytes = match std::fs::metadata(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(refused(path, error)),
        Ok(found) => found.len(),
    };
    if bytes > MAX_FILE_BYTES {
        return Err(refused(path, format!("it has {bytes} bytes; at most {MAX_FILE_BYTES} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| refused(path, error))?;
    let file: File = serde_json::from_str(&text).map_err(|error| refused(path, error))?;
    if file.schema != SCHEMA {
        return Err(refused(path, format!("it has version {}; this program reads version {SCHEMA}", file.schema)));
    }
    Ok(Some(file))
}

fn refused(path: &Path, reason: impl ToString) -> ServiceError {
    ServiceError::Journal { path: path.to_path_buf(), reason: reason.to_string() }
}

//! The files of a Bundle's folder: checked before they are read, and written as text.

use super::{BUNDLE_VERSION, BundleConfig, BundleManifest, MANIFEST, OLDEST_VERSION, search_plans};
use crate::{BundleError, EpochLine};
use feature_store::{ATTRIBUTES_FILE, Attribute, FileEntry, StoreError, read_attributes, sha256_bytes, sha256_file};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// Most columns of all features together, which a Bundle may state.
const MAX_FEATURE_DIM: usize = 1 << 20;

pub(super) fn read_manifest(path: &Path) -> Result<BundleManifest, BundleError> {
    let value: serde_json::Value = read_json(path)?;
    let version = value["schema_version"].as_u64().and_then(|version| u32::try_from(version).ok());
    if !version.is_some_and(|version| (OLDEST_VERSION..=BUNDLE_VERSION).contains(&version)) {
        let found = &value["schema_version"];
        return Err(BundleError::file(
            path,
            format!(
                "has version {found}; this program reads Bundles of version {OLDEST_VERSION} to {BUNDLE_VERSION}: train again"
            ),
        ));
    }
    let manifest: BundleManifest = serde_json::from_value(value).map_err(|e| BundleError::file(path, e))?;
    if manifest.id != id_of(&manifest.files) {
        return Err(BundleError::file(path, "was altered: its id is not that of the files it lists: copy it again"));
    }
    Ok(manifest)
}

/// The id of a Bundle of these files: what was trained, so without the plans for searching.
pub(super) fn id_of(files: &BTreeMap<String, FileEntry>) -> String {
    let trained = files.iter().filter(|(name, _)| !name.starts_with(search_plans::PREFIX));
    let all: String = trained.map(|(_, entry)| entry.sha256.as_str()).collect();
    sha256_bytes(all.as_bytes())[..16].to_owned()
}

/// A Bundle from before a field was there does not state it and has none of it; a config of today must.
pub(super) fn read_config(path: &Path) -> Result<BundleConfig, BundleError> {
    let mut value: serde_json::Value = read_json(path)?;
    for (table, later) in [("/train/model", "vector_norm"), ("/train/objective", "scaled_logits")] {
        if let Some(fields) = value.pointer_mut(table).and_then(|fields| fields.as_object_mut()) {
            fields.entry(later).or_insert(false.into());
        }
    }
    let config: BundleConfig = serde_json::from_value(value)
        .map_err(|e| BundleError::file(path, format!("is not what this program writes: {e}")))?;
    config.train.validate().map_err(|error| BundleError::file(path, error))?;
    let widths: usize = config.feature_widths.iter().sum();
    if config.feature_dim > MAX_FEATURE_DIM || !config.feature_widths.is_empty() && widths != config.feature_dim {
        let found = (config.feature_dim, &config.feature_widths);
        return Err(BundleError::file(
            path,
            format!("feature_dim, feature_widths = {found:?} do not fit: train again"),
        ));
    }
    Ok(config)
}

/// The attributes, if the manifest lists some; a version 1 has none.
pub(super) fn attributes(dir: &Path, manifest: &BundleManifest, items: usize) -> Result<Vec<Attribute>, BundleError> {
    let path = dir.join(ATTRIBUTES_FILE);
    match manifest.files.get(ATTRIBUTES_FILE) {
        None => Ok(Vec::new()),
        entry => {
            verify(&path, entry)?;
            Ok(read_attributes(&path, items)?)
        }
    }
}

pub(super) fn verify(path: &Path, entry: Option<&FileEntry>) -> Result<(), BundleError> {
    let entry = entry.ok_or_else(|| BundleError::file(path, "is not listed in bundle.json: train again"))?;
    let (bytes, sha256) = sha256_file(path)?;
    if bytes != entry.bytes {
        let expected = entry.bytes;
        // The checksum tells which of the two is wrong.
        let wrong = if sha256 == entry.sha256 { &path.with_file_name(MANIFEST) } else { path };
        let name = path.file_name().unwrap_or_default().display();
        return Err(BundleError::file(
            wrong,
            format!("{name} has {bytes} bytes and {MANIFEST} says {expected}: copy it again"),
        ));
    }
    if sha256 != entry.sha256 {
        return Err(BundleError::file(path, "was altered: its SHA-256 is not the one in bundle.json: copy it again"));
    }
    Ok(())
}

/// One line an epoch; one column a dim and metric.
pub(super) fn curves_csv(curves: &[EpochLine]) -> String {
    let mut text = String::from("epoch,loss,learning_rate");
    let columns = |line: &EpochLine| -> Vec<(String, f64)> {
        let of_dim = |q: &crate::DimQuality| {
            q.metrics.iter().map(|(name, v)| (format!("{name} dim {}", q.dim), *v)).collect::<Vec<_>>()
        };
        line.validation.iter().flat_map(of_dim).collect()
    };
    for (name, _) in curves.first().map(columns).unwrap_or_default() {
        text += &format!(",{name}");
    }
    for line in curves {
        text += &format!("\n{},{:.6},{:.8}", line.epoch, line.loss, line.learning_rate);
        for (_, value) in columns(line) {
            text += &format!(",{value:.6}");
        }
    }
    text + "\n"
}

pub(super) fn write_text(path: &Path, text: &str) -> Result<(), BundleError> {
    std::fs::write(path, text).map_err(|source| StoreError::Io { path: path.to_path_buf(), source }.into())
}

pub(super) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), BundleError> {
    let text = serde_json::to_string_pretty(value).map_err(|e| BundleError::file(path, e))?;
    write_text(path, &(text + "\n"))
}

pub(super) fn read_json<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, BundleError> {
    let text = std::fs::read(path).map_err(|source| StoreError::Io { path: path.to_path_buf(), source })?;
    serde_json::from_slice(&text).map_err(|e| BundleError::file(path, format!("is not what this program writes: {e}")))
}

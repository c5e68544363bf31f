//! The Snapshot: what `build` makes and `train` and `evaluate` read. A folder:
//!
//! ```text
//! manifest.json            version, counts, files with sizes and SHA-256, encoders, sources, config
//! users.parquet            row u: user u
//! items.parquet            row i: item i (row 0 is PAD)
//! interactions.parquet     by user, then time, then row of the source file
//! features/NAME.safetensors  row i: item i
//! attributes.parquet       row i: item i; only if items have attributes
//! ```
//! It holds no clock, and no path but those of the config as it names them, so the same input gives the same bytes.

use crate::attributes::{ATTRIBUTES_FILE, check_attributes, read_attributes, write_attributes};
use crate::tables::{read_interactions, read_users, row_count, write_interactions, write_users};
use crate::{
    Attribute, FeatureDtype, FeatureMatrix, Interaction, Item, PAD, StagedDir, StoreError, Vocabulary, read_items,
    sha256_file, write_items, write_matrix,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Version of the folder's layout; a reader refuses every other.
pub const SNAPSHOT_VERSION: u32 = 1;
const MANIFEST: &str = "manifest.json";

/// What `manifest.json` says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SNAPSHOT_VERSION`] of the writer.
    pub schema_version: u32,
    /// Sizes of the tables.
    pub counts: Counts,
    /// Things counted while building, such as images that were missing.
    pub notes: BTreeMap<String, u64>,
    /// The feature matrices in the order the model concatenates them.
    pub features: Vec<FeatureInfo>,
    /// The files this was built from.
    pub sources: Vec<SourceFile>,
    /// The build's configuration as given.
    pub config: serde_json::Value,
    /// Every other file of this folder.
    pub files: BTreeMap<String, FileEntry>,
}

/// Table sizes; PAD is not counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Users.
    pub users: u64,
    /// Items.
    pub items: u64,
    /// Interactions.
    pub interactions: u64,
}

/// One feature matrix.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureInfo {
    /// Name, also of its file.
    pub name: String,
    /// Width of a row.
    pub dim: usize,
    /// Element type on disk.
    pub dtype: FeatureDtype,
    /// Items without content here: zero rows with mask 0.
    pub missing: u64,
    /// What made it.
    pub encoder: EncoderInfo,
}

/// What computed a feature matrix.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EncoderInfo {
    /// Encoder's name, or the file of features that the user gave.
    pub name: String,
    /// SHA-256 of the weights; none for given features.
    pub weights_sha256: Option<String>,
}

/// A file the Snapshot was built from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceFile {
    /// Name as the configuration gives it.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// SHA-256.
    pub sha256: String,
}

/// Size and checksum of a file of the Snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Size.
    pub bytes: u64,
    /// SHA-256.
    pub sha256: String,
}

/// One feature matrix to write.
#[derive(Debug, Clone)]
pub struct FeatureBlock {
    /// Name: letters, digits, `-` and `_`.
    pub name: String,
    /// Width of a row.
    pub dim: usize,
    /// Row-major `[items + 1, dim]`; row 0 (PAD) is zero.
    pub values: Vec<f32>,
    /// `[items + 1]`: 1 where the item has content.
    pub mask: Vec<u8>,
    /// Element type on disk.
    pub dtype: FeatureDtype,
    /// What made it.
    pub encoder: EncoderInfo,
}

/// Everything a Snapshot holds.
#[derive(Debug, Clone)]
pub struct SnapshotContents {
    /// External user keys; user `u` is element `u`.
    pub users: Vec<String>,
    /// Items `1..` in order, without PAD.
    pub items: Vec<Item>,
    /// By user, then time, then row of the source file.
    pub interactions: Vec<Interaction>,
    /// Feature matrices.
    pub features: Vec<FeatureBlock>,
    /// What is known of items for filters.
    pub attributes: Vec<Attribute>,
    /// The files this was built from.
    pub sources: Vec<SourceFile>,
    /// The build's configuration as given.
    pub config: serde_json::Value,
    /// Things counted while building.
    pub notes: BTreeMap<String, u64>,
}

/// Writes a Snapshot beside `dir` and renames it into place.
///
/// # Errors
/// Contents that do not fit together (named), or a `dir` that holds something else.
pub fn write_snapshot(dir: &Path, contents: SnapshotContents) -> Result<Manifest, StoreError> {
    check_contents(&contents)?;
    let staged = StagedDir::create(dir, MANIFEST)?;
    let root = staged.path();
    write_users(&root.join("users.parquet"), &contents.users)?;
    write_items(&root.join("items.parquet"), &contents.items)?;
    write_interactions(&root.join("interactions.parquet"), &contents.interactions)?;
    let mut names = vec!["users.parquet".into(), "items.parquet".into(), "interactions.parquet".into()];
    std::fs::create_dir(root.join("features")).map_err(StoreError::io(root))?;
    for block in &contents.features {
        let name = feature_file(&block.name);
        write_matrix(&root.join(&name), &block.values, &block.mask, block.dim, block.dtype)?;
        names.push(name);
    }
    if !contents.attributes.is_empty() {
        write_attributes(&root.join(ATTRIBUTES_FILE), &contents.attributes)?;
        names.push(ATTRIBUTES_FILE.into());
    }
    let mut files = BTreeMap::new();
    for name in names {
        let (bytes, sha256) = sha256_file(&root.join(&name))?;
        files.insert(name, FileEntry { bytes, sha256 });
    }
    let manifest = Manifest {
        schema_version: SNAPSHOT_VERSION,
        counts: Counts {
            users: contents.users.len() as u64,
            items: contents.items.len() as u64,
            interactions: contents.interactions.len() as u64,
        },
        notes: contents.notes,
        features: contents.features.iter().map(info).collect(),
        sources: contents.sources,
        config: contents.config,
        files,
    };
    let path = root.join(MANIFEST);
    let text = serde_json::to_string_pretty(&manifest).map_err(|e| StoreError::corrupt(&path, e))?;
    std::fs::write(&path, text + "\n").map_err(StoreError::io(&path))?;
    staged.commit()?;
    Ok(manifest)
}

/// An opened and verified Snapshot.
#[derive(Debug)]
pub struct Snapshot {
    /// Its manifest.
    pub manifest: Manifest,
    dir: PathBuf,
}

impl Snapshot {
    /// Opens a folder and verifies version, sizes and checksums of every file, and the counts of rows.
    ///
    /// # Errors
    /// Not a Snapshot, another version, a file that was truncated or altered, or a count that is not its table's: named.
    pub fn open(dir: &Path) -> Result<Snapshot, StoreError> {
        let path = dir.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(StoreError::io(&path))?;
        let version = serde_json::from_str::<serde_json::Value>(&text).ok().and_then(|v| v["schema_version"].as_u64());
        if version != Some(u64::from(SNAPSHOT_VERSION)) {
            let found = version.map_or("no version".to_owned(), |v| format!("version {v}"));
            return Err(StoreError::corrupt(
                &path,
                format!("has {found}; this program reads Snapshots of version {SNAPSHOT_VERSION}: run `build` again"),
            ));
        }
        let manifest: Manifest = serde_json::from_str(&text).map_err(|e| StoreError::corrupt(&path, e))?;
        for (name, entry) in &manifest.files {
            verify(&dir.join(name), entry)?;
        }
        check_counts(dir, &manifest.counts)?;
        Ok(Snapshot { manifest, dir: dir.to_path_buf() })
    }

    /// External user keys.
    pub fn users(&self) -> Result<Vec<String>, StoreError> {
        read_users(&self.dir.join("users.parquet"))
    }

    /// Items `1..` in order.
    pub fn items(&self) -> Result<Vec<Item>, StoreError> {
        read_items(&self.dir.join("items.parquet"))
    }

    /// All interactions, by user, then time, then row of the source file.
    pub fn interactions(&self) -> Result<Vec<Interaction>, StoreError> {
        read_interactions(&self.dir.join("interactions.parquet"))
    }

    /// One chronological list of item ids a user; element `u` is user `u`.
    pub fn sequences(&self) -> Result<Vec<Vec<u32>>, StoreError> {
        let mut sequences = vec![Vec::new(); self.manifest.counts.users as usize];
        for row in self.interactions()? {
            let known = u64::from(row.item) <= self.manifest.counts.items && row.item != PAD;
            match sequences.get_mut(row.user as usize) {
                Some(sequence) if known => sequence.push(row.item),
                _ => {
                    let path = self.dir.join("interactions.parquet");
                    return Err(StoreError::corrupt(
                        &path,
                        format!("{row:?} names a user or an item that is not there"),
                    ));
                }
            }
        }
        Ok(sequences)
    }

    /// The feature matrices, named, in the manifest's order.
    pub fn features(&self) -> Result<Vec<(String, FeatureMatrix)>, StoreError> {
        self.manifest
            .features
            .iter()
            .map(|info| Ok((info.name.clone(), FeatureMatrix::open(&self.dir.join(feature_file(&info.name)))?)))
            .collect()
    }

    /// Attributes of the items; none in a Snapshot without them.
    pub fn attributes(&self) -> Result<Vec<Attribute>, StoreError> {
        if !self.manifest.files.contains_key(ATTRIBUTES_FILE) {
            return Ok(Vec::new());
        }
        read_attributes(&self.dir.join(ATTRIBUTES_FILE), self.manifest.counts.items as usize)
    }

    /// SHA-256 of the manifest, which names every byte of the Snapshot.
    pub fn fingerprint(&self) -> Result<String, StoreError> {
        Ok(sha256_file(&self.dir.join(MANIFEST))?.1)
    }
}

fn feature_file(name: &str) -> String {
    format!("features/{name}.safetensors")
}

fn info(block: &FeatureBlock) -> FeatureInfo {
    FeatureInfo {
        name: block.name.clone(),
        dim: block.dim,
        dtype: block.dtype,
        missing: block.mask.iter().skip(1).filter(|bit| **bit == 0).count() as u64,
        encoder: block.encoder.clone(),
    }
}

fn verify(path: &Path, entry: &FileEntry) -> Result<(), StoreError> {
    let (bytes, sha256) = sha256_file(path)?;
    if bytes != entry.bytes {
        return Err(StoreError::corrupt(
            path,
            format!("has {bytes} bytes and the manifest says {}; build it again", entry.bytes),
        ));
    }
    if sha256 != entry.sha256 {
        return Err(StoreError::corrupt(path, "was altered: its SHA-256 is not the manifest's; build it again"));
    }
    Ok(())
}

/// The manifest has no checksum of its own, and readers make room by its counts.
fn check_counts(dir: &Path, counts: &Counts) -> Result<(), StoreError> {
    let said = [
        ("users", counts.users, 0),
        // And PAD.
        ("items", counts.items, 1),
        ("interactions", counts.interactions, 0),
    ];
    for (name, said, more) in said {
        let file = format!("{name}.parquet");
        let rows = row_count(&dir.join(&file))?;
        if said.checked_add(more) != Some(rows) {
            let reason =
                format!("counts.{name} is {said}, which does not fit the {rows} rows of {file}; build it again");
            return Err(StoreError::corrupt(&dir.join(MANIFEST), reason));
        }
    }
    Ok(())
}

fn check_contents(contents: &SnapshotContents) -> Result<(), StoreError> {
    Vocabulary::new(contents.items.iter().map(|item| item.key.clone()).collect())?;
    let (users, items) = (contents.users.len(), contents.items.len());
    check_attributes(&contents.attributes, items)?;
    let mut last: Option<Interaction> = None;
    for row in &contents.interactions {
        if row.user as usize >= users || row.item == PAD || row.item as usize > items {
            return Err(StoreError::invalid(
                "interactions",
                format!("{row:?} is outside {users} users and {items} items"),
            ));
        }
        if last.is_some_and(|last| (last.user, last.timestamp_ms) > (row.user, row.timestamp_ms)) {
            return Err(StoreError::invalid(
                "interactions",
                format!("{row:?} is out of order; sort by user, then time"),
            ));
        }
        last = Some(*row);
    }
    for block in &contents.features {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if block.name.is_empty() || !block.name.chars().all(plain) {
            return Err(StoreError::invalid(
                "feature name",
                format!("{:?} may hold letters, digits, - and _ only", block.name),
            ));
        }
        if contents.features.iter().filter(|other| other.name == block.name).count() > 1 {
            return Err(StoreError::invalid("feature name", format!("{:?} is given twice; rename one", block.name)));
        }
        if block.mask.len() != items + 1 {
            return Err(StoreError::invalid(
                "features",
                format!("{} has {} rows for {items} items and PAD", block.name, block.mask.len()),
            ));
        }
        if block.mask[0] != 0 || block.values.iter().take(block.dim).any(|v| *v != 0.0) {
            return Err(StoreError::invalid("features", format!("row 0 of {} is PAD and must be zero", block.name)));
        }
    }
    Ok(())
}

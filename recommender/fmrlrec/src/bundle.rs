//! The Bundle: what `train` makes and the service serves. A folder:
//!
//! ```text
//! bundle.json              version, id, files with sizes and SHA-256
//! config.json              the training configuration, feature width, the Snapshot's fingerprint
//! weights.safetensors      every parameter by name, f32
//! item_table.safetensors   `features` [n + 1, D] f32: row i is item i's vector; a dim is a prefix
//! items.parquet            the vocabulary: row i is item i (row 0 is PAD)
//! attributes.parquet       what is known of items for filters; only if the Snapshot has attributes
//! search-plans-*.json      how to search the item table; only if `recommender tune` chose
//! report.json              quality per dim and of the baselines on the test split
//! curves.csv               loss and validation metrics per epoch
//! MODEL_CARD.md            the same for people
//! ```

mod files;
mod new_items;
mod search_plans;

pub use new_items::FeatureWidth;

use files::{attributes, curves_csv, id_of, read_config, read_json, read_manifest, verify, write_json, write_text};

use crate::checkpoint::{read_params, write_params};
use crate::data::pack_histories;
use crate::learner::Exit;
use crate::model::FmrlRec;
use crate::ops::host_values;
use crate::params::{load_params, named_params};
use crate::{BundleError, Cpu, EpochLine, Report, TrainConfig, model_card};
use burn::tensor::{Tensor, TensorData};
use feature_store::{
    ATTRIBUTES_FILE, Attribute, FeatureDtype, FeatureMatrix, FileEntry, Item, StagedDir, Vocabulary, read_items,
    sha256_file, write_attributes, write_items, write_matrix,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// Version of the folder's layout. Version 1 says no feature widths and has no attributes; it is read too.
pub const BUNDLE_VERSION: u32 = 2;
/// The oldest version that is read.
const OLDEST_VERSION: u32 = 1;
const MANIFEST: &str = "bundle.json";
const FILES: [&str; 7] = [
    "config.json",
    "weights.safetensors",
    "item_table.safetensors",
    "items.parquet",
    "report.json",
    "curves.csv",
    "MODEL_CARD.md",
];

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleManifest {
    schema_version: u32,
    id: String,
    files: BTreeMap<String, FileEntry>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct BundleConfig {
    pub(crate) train: TrainConfig,
    pub(crate) feature_dim: usize,
    /// Width of each of `train.features`; older Bundles do not say.
    #[serde(default)]
    pub(crate) feature_widths: Vec<usize>,
    pub(crate) snapshot_sha256: String,
    /// Id of the older Bundle whose item vectors user vectors score against too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) compatible_with: Option<String>,
}

/// Everything a Bundle is made of.
pub(crate) struct BundleContents<'a> {
    pub(crate) config: &'a BundleConfig,
    pub(crate) model: &'a FmrlRec<Cpu>,
    /// Row-major `[n + 1, D]`.
    pub(crate) table: &'a [f32],
    pub(crate) items: &'a [Item],
    pub(crate) attributes: &'a [Attribute],
    pub(crate) report: &'a Report,
    pub(crate) curves: &'a [EpochLine],
}

/// Writes a Bundle beside `dir` and renames it into place.
pub(crate) fn write_bundle(dir: &Path, contents: &BundleContents<'_>) -> Result<(), BundleError> {
    let staged = StagedDir::create(dir, MANIFEST)?;
    let root = staged.path();
    let width = contents.config.train.model.largest_dim();
    write_json(&root.join("config.json"), contents.config)?;
    write_params(&root.join("weights.safetensors"), &named_params(contents.model))?;
    let mut mask = vec![1u8; contents.items.len() + 1];
    mask[0] = 0;
    write_matrix(&root.join("item_table.safetensors"), contents.table, &mask, width, FeatureDtype::F32)?;
    write_items(&root.join("items.parquet"), contents.items)?;
    write_json(&root.join("report.json"), contents.report)?;
    write_text(&root.join("curves.csv"), &curves_csv(contents.curves))?;
    write_text(&root.join("MODEL_CARD.md"), &model_card::render(contents.config, contents.report))?;
    let mut names = FILES.to_vec();
    if !contents.attributes.is_empty() {
        write_attributes(&root.join(ATTRIBUTES_FILE), contents.attributes)?;
        names.push(ATTRIBUTES_FILE);
    }
    let mut files = BTreeMap::new();
    for name in names {
        let (bytes, sha256) = sha256_file(&root.join(name))?;
        files.insert(name.to_owned(), FileEntry { bytes, sha256 });
    }
    let id = id_of(&files);
    write_json(&root.join(MANIFEST), &BundleManifest { schema_version: BUNDLE_VERSION, id, files })?;
    staged.commit()?;
    Ok(())
}

/// What a Bundle was trained at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleShape {
    /// Dims, ascending.
    pub dims: Vec<usize>,
    /// Blocks of the model: the depth of the whole.
    pub blocks: usize,
    /// Exits after earlier blocks: depth, and the largest dim trained there.
    pub exits: Vec<(usize, usize)>,
}

impl BundleShape {
    /// One block, no exits.
    pub fn of_dims(dims: &[usize]) -> BundleShape {
        BundleShape { dims: dims.to_vec(), blocks: 1, exits: Vec::new() }
    }
}

/// An opened and verified Bundle, ready to serve on CPU.
pub struct Bundle {
    id: String,
    config: TrainConfig,
    snapshot_sha256: String,
    vocabulary: Vocabulary,
    items: Vec<Item>,
    attributes: Vec<Attribute>,
    table: Vec<f32>,
    report: Report,
    search_plans: Option<String>,
    feature_dim: usize,
    feature_widths: Vec<usize>,
    /// Length of the longest item vector, once it was asked for.
    longest_item: std::sync::OnceLock<f64>,
    /// One model a dim; they share the largest one's weights.
    models: BTreeMap<usize, FmrlRec<Cpu>>,
}

impl Bundle {
    /// Opens a folder; verifies version, sizes and checksums of every file.
    ///
    /// # Errors
    /// Not a Bundle, another version, or a file that is truncated, altered or does not fit: named; or another Bundle
    /// took its place meanwhile.
    pub fn open(dir: &Path) -> Result<Bundle, BundleError> {
        let manifest = read_manifest(&dir.join(MANIFEST))?;
        for name in FILES {
            verify(&dir.join(name), manifest.files.get(name))?;
        }
        let BundleConfig { train: config, feature_dim, feature_widths, snapshot_sha256, .. } =
            read_config(&dir.join("config.json"))?;
        let items = read_items(&dir.join("items.parquet"))?;
        let attributes = attributes(dir, &manifest, items.len())?;
        let vocabulary = Vocabulary::new(items.iter().map(|item| item.key.clone()).collect())?;
        let path = dir.join("item_table.safetensors");
        let matrix = FeatureMatrix::open(&path)?;
        let expected = (items.len() + 1, config.model.largest_dim());
        if (matrix.rows(), matrix.dim()) != expected {
            let found = (matrix.rows(), matrix.dim());
            return Err(BundleError::file(
                &path,
                format!("has shape {found:?}; {expected:?} is expected: train again"),
            ));
        }
        let path = dir.join("weights.safetensors");
        let params = read_params(&path).map_err(|reason| BundleError::file(&path, reason))?;
        let empty = FmrlRec::<Cpu>::blank(&config.model, feature_dim, items.len(), &Default::default());
        let model = load_params(empty, &params).map_err(|reason| BundleError::file(&path, reason))?;
        let (report, search_plans) = (read_json(&dir.join("report.json"))?, search_plans::read(dir, &manifest)?);
        // A training that ended while files were read has exchanged the folder: half of each would be neither.
        let path = dir.join(MANIFEST);
        if read_manifest(&path)?.id != manifest.id {
            return Err(BundleError::file(&path, "another Bundle was put here while this one was read; open it again"));
        }
        Ok(Bundle {
            id: manifest.id,
            snapshot_sha256,
            vocabulary,
            attributes,
            items,
            table: matrix.to_f32(),
            report,
            search_plans,
            feature_dim,
            feature_widths,
            longest_item: std::sync::OnceLock::new(),
            models: config.model.nesting_dims.iter().map(|dim| (*dim, model.slice(*dim))).collect(),
            config,
        })
    }

    /// Names these bytes: equal ids, equal Bundles.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// [`Snapshot::fingerprint`](feature_store::Snapshot::fingerprint) of what it was trained on.
    pub fn trained_on(&self) -> &str {
        &self.snapshot_sha256
    }

    /// Trained dims, ascending.
    pub fn dims(&self) -> &[usize] {
        &self.config.model.nesting_dims
    }

    /// Keys and ids.
    pub fn vocabulary(&self) -> &Vocabulary {
        &self.vocabulary
    }

    /// Element `i` is item `i + 1`.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// What is known of items for filters; none if the Snapshot had none.
    pub fn attributes(&self) -> &[Attribute] {
        &self.attributes
    }

    /// Row-major `[n + 1, D]`, row 0 is PAD.
    pub fn item_table(&self) -> &[f32] {
        &self.table
    }

    /// Moves the item table out, for who lays it out in a way of its own and needs no second copy. What is left knows
    /// no item by id any more: user vectors are asked for by item vectors ([`Bundle::fold_of`]).
    pub fn take_item_table(&mut self) -> Vec<f32> {
        // What new items are compared with.
        self.longest_item();
        // A learned vector is part of its item's vector: nothing reads it apart.
        self.models.values_mut().for_each(|model| model.item_embedding = None);
        let start_token = self.table[..self.config.model.largest_dim()].to_vec();
        std::mem::replace(&mut self.table, start_token)
    }

    /// Newest items of a history that count.
    pub fn max_history(&self) -> usize {
        self.config.max_len
    }

    /// Quality on the test split when it was trained.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// Trained exits after earlier blocks.
    pub(crate) fn exits(&self) -> Vec<Exit> {
        self.config.exits()
    }

    /// What it can be asked for.
    pub fn shape(&self) -> BundleShape {
        let exits = self.config.objective.exits.iter().map(|exit| (exit.depth, exit.dim)).collect();
        BundleShape { dims: self.dims().to_vec(), blocks: self.blocks(), exits }
    }

    /// Number of blocks of the model.
    pub fn blocks(&self) -> usize {
        self.config.model.blocks
    }

    pub(crate) fn model(&self) -> &FmrlRec<Cpu> {
        let (_, largest) = self.models.last_key_value().expect("open() refused a Bundle without dims");
        largest
    }

    /// The user vector `[dim]` after a history, oldest item first; an empty history gives the
    /// learned start token's. About a millisecond of one core.
    ///
    /// # Errors
    /// A dim that was not trained or an id past the item table.
    pub fn user_vector(&self, history: &[u32], dim: usize) -> Result<Vec<f32>, BundleError> {
        let model = self.model_at(dim)?;
        let (batch, last) = pack_histories(std::iter::once(history), self.max_history());
        let x = columns(&self.rows(&batch.tokens)?, dim);
        let (y, _) = model.forward_cut_at(x, &batch.keep, &model.block_dims(self.blocks()), &last);
        Ok(host_values(y))
    }

    /// The model cut to a trained dim.
    pub(crate) fn model_at(&self, dim: usize) -> Result<&FmrlRec<Cpu>, BundleError> {
        self.models.get(&dim).ok_or_else(|| BundleError::UntrainedDim { dim, trained: self.dims().to_vec() })
    }

    /// Rows of the item table.
    pub(crate) fn rows(&self, ids: &[u32]) -> Result<Vec<&[f32]>, BundleError> {
        let (width, items) = (self.config.model.largest_dim(), self.items.len());
        let row = |&id: &u32| {
            let row = self.table.chunks_exact(width).nth(id as usize);
            row.ok_or(BundleError::UnknownItem { id, items })
        };
        ids.iter().map(row).collect()
    }
}

/// The leading `dim` columns of item vectors, `[t, dim]`.
pub(crate) fn columns(rows: &[&[f32]], dim: usize) -> Tensor<Cpu, 2> {
    let values: Vec<f32> = rows.iter().flat_map(|row| &row[..dim]).copied().collect();
    Tensor::from_data(TensorData::new(values, [rows.len(), dim]), &Default::default())
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bundle({}, {} items, dims {:?})", self.id, self.items.len(), self.dims())
    }
}

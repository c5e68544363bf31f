//! The configuration of a build, as TOML. Every value is stated: there are no hidden defaults, and a
//! key that is not known is an error. Relative paths start at the folder the config lies in.

use crate::BuildError;
use crate::encoder::Runtime;
use feature_store::FeatureDtype;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Most tokens a text encoder may be given.
pub(crate) const MAX_TOKENS_LIMIT: usize = 8192;

/// What to build a Snapshot from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BuildConfig {
    /// Where embeddings are kept by content, so that a second build encodes only what is new.
    /// Needed when a feature has an encoder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_dir: Option<PathBuf>,
    /// The source tables, read as they are.
    pub tables: Vec<TableConfig>,
    /// Where the interactions are.
    pub interactions: InteractionsConfig,
    /// Fewest interactions a user and an item keep.
    pub k_core: KCoreConfig,
    /// What items are called and what their text is.
    pub items: ItemsConfig,
    /// The feature matrices, in the order the model concatenates them. `[]` makes a Snapshot of ids
    /// and interactions alone.
    pub features: Vec<FeatureConfig>,
}

/// One source table, queried by its name.
///
/// A CSV or TSV file has a header. A column is one of integers or of decimals if every value of it prints back
/// as it is written (`7`, `-12`; `4.0`, `19.9`), else it is text: `007`, `19.90`, an integer beyond 64 bits and a
/// column of both `4` and `3.5` stay as they are. Write `CAST(price AS DOUBLE)` in `items.sql` to reckon with one.
/// An empty field is null. Every table gets the column `source_row`: its rows counted from 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableConfig {
    /// Name in queries.
    pub name: String,
    /// File.
    pub path: PathBuf,
    /// Its format.
    pub format: TableFormat,
}

/// Format of a source table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableFormat {
    /// Comma-separated text with a header; a value in double quotes may hold commas, line ends, and double quotes
    /// written twice. A quote without its partner is an error.
    Csv,
    /// Tab-separated text with a header. There is no quoting: a quote is a character like others.
    Tsv,
    /// One line a user: the user's key, then item keys, oldest first, single spaces between them. A
    /// table with a row an interaction: `user` and `item` (text), `position` (of the item in its
    /// line, from 1) and `line` (from 1).
    Sequences,
    /// Apache Parquet.
    Parquet,
}

/// The table of interactions and its columns. Every row is an interaction.
///
/// A table of the format `sequences` has no times. There `timestamp = "position"` with the unit `ms`
/// keeps the order of each line: the first item of every user is at 1 ms, the second at 2 ms, so
/// times of different users do not compare.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InteractionsConfig {
    /// Name of the table.
    pub table: String,
    /// Column of user keys: text or integers; of a CSV or TSV file whatever it holds, as it is written.
    pub user: String,
    /// Column of item keys, as those of users.
    pub item: String,
    /// Column of times since the Unix epoch: integers. Equal times of a user keep the order of the
    /// file.
    pub timestamp: String,
    /// Unit of that column. `ms` is refused where all times look like seconds.
    pub timestamp_unit: TimestampUnit,
}

/// Unit of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimestampUnit {
    /// Seconds.
    #[serde(rename = "s")]
    Seconds,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Milliseconds,
}

/// Users and items with fewer interactions are dropped, again and again until none is left to drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KCoreConfig {
    /// Fewest interactions of a user; 1 keeps every user.
    pub min_user: u32,
    /// Fewest interactions of an item; 1 keeps every item.
    pub min_item: u32,
}

/// The catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ItemsConfig {
    /// A query over the tables that gives a row an item: its key as `item`, its `title`, and the
    /// columns that `text_template` names. Names are used as written (no folding to lower case). What
    /// writes a file or changes a table is refused.
    pub sql: String,
    /// The item's text: `{column}` is the column's value. Where it is null or empty, the words that
    /// follow it up to the next `{column}` are left out too.
    pub text_template: String,
    /// What becomes of an item of the interactions that `sql` gives no row. Left out, it is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub without_row: Option<WithoutRow>,
    /// Columns of `sql` that recommendations can be filtered by. Left out, there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attributes: Vec<AttributeConfig>,
}

/// An attribute of items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeConfig {
    /// Name in requests: letters, digits, `-` and `_`.
    pub name: String,
    /// Column of `items.sql`.
    pub column: String,
    /// What it holds.
    pub kind: AttributeKind,
    /// What stands between several texts of one item. Left out, the column is one text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub separator: Option<String>,
}

/// What an attribute holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttributeKind {
    /// Texts, one or several an item.
    Text,
    /// Numbers, one an item.
    Number,
}

/// What becomes of an item that the catalogue has no row for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WithoutRow {
    /// It is called by its key, has no text, and is counted in the manifest as `items.without_row`.
    Keep,
    /// The build ends with an error that names it.
    Refuse,
}

/// One feature matrix: a name, a type on disk, and exactly one of `text_encoder`, `image_encoder`
/// and `file`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureConfig {
    /// Name: letters, digits, `-` and `_`.
    pub name: String,
    /// Element type on disk.
    pub dtype: FeatureDtype,
    /// Encode the item's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_encoder: Option<TextEncoderConfig>,
    /// Encode the item's image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_encoder: Option<ImageEncoderConfig>,
    /// Features that are already there: `.parquet` (columns `item` and `features`), `.npy` or
    /// `.safetensors` (tensors `features` and `mask`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<PathBuf>,
    /// CSV file whose column `item` names the rows of a `.npy` or `.safetensors` file in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<PathBuf>,
}

/// A text encoder on disk in the Hugging Face layout: `model.onnx` or `onnx/model.onnx`,
/// `tokenizer.json`, `1_Pooling/config.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextEncoderConfig {
    /// The folder.
    pub dir: PathBuf,
    /// What runs it.
    pub runtime: Runtime,
    /// Tokens after which a text is cut, the special ones included.
    pub max_tokens: usize,
}

/// An image encoder on disk: `model.onnx`, `vision_model.onnx` or either in `onnx/`, and
/// `preprocessor_config.json`; without the latter the EfficientNet-Lite0 rule holds. Images are resized to the
/// given height and width; a config that asks for the shortest edge or a crop is refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageEncoderConfig {
    /// The folder.
    pub dir: PathBuf,
    /// What runs it.
    pub runtime: Runtime,
    /// Folder with one image an item, named by the item's key. A file above 64 MiB counts as unreadable.
    pub images: PathBuf,
    /// File name extension of the images, without the dot.
    pub extension: String,
}

/// Where a feature matrix comes from.
#[derive(Debug, Clone, Copy)]
pub enum FeatureSource<'a> {
    /// The item's text through an encoder.
    Text(&'a TextEncoderConfig),
    /// The item's image through an encoder.
    Image(&'a ImageEncoderConfig),
    /// A file.
    File(&'a PathBuf, Option<&'a PathBuf>),
}

impl FeatureConfig {
    /// The one source that is given.
    ///
    /// # Errors
    /// None or several are given, or `keys` without `file`.
    pub fn source(&self) -> Result<FeatureSource<'_>, BuildError> {
        let field = format!("features.{}", self.name);
        match (&self.text_encoder, &self.image_encoder, &self.file, &self.keys) {
            (Some(text), None, None, None) => Ok(FeatureSource::Text(text)),
            (None, Some(image), None, None) => Ok(FeatureSource::Image(image)),
            (None, None, Some(file), keys) => Ok(FeatureSource::File(file, keys.as_ref())),
            _ => Err(BuildError::config(
                field,
                "give exactly one of text_encoder, image_encoder and file; keys belongs to file",
            )),
        }
    }
}

impl BuildConfig {
    /// Checks what can be checked without reading a file.
    pub(crate) fn validate(&self) -> Result<(), BuildError> {
        if self.tables.is_empty() {
            return Err(BuildError::config("tables", "is empty; name at least the table of interactions"));
        }
        for (field, value) in [("k_core.min_user", self.k_core.min_user), ("k_core.min_item", self.k_core.min_item)] {
            if value == 0 {
                return Err(BuildError::config(field, "is 0; 1 keeps everything"));
            }
        }
        self.items.attributes.iter().try_for_each(validate_attribute)?;
        for (index, feature) in self.features.iter().enumerate() {
            if self.features[..index].iter().any(|other| other.name == feature.name) {
                return Err(BuildError::config("features", format!("{:?} is given twice; rename one", feature.name)));
            }
            self.validate_feature(feature)?;
        }
        Ok(())
    }

    fn validate_feature(&self, feature: &FeatureConfig) -> Result<(), BuildError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if feature.name.is_empty() || !feature.name.chars().all(plain) {
            return Err(BuildError::config(
                "features",
                format!("{:?} is no name; use letters, digits, - and _", feature.name),
            ));
        }
        let source = feature.source()?;
        if !matches!(source, FeatureSource::File(..)) && self.cache_dir.is_none() {
            return Err(BuildError::config(
                "cache_dir",
                format!("is missing; feature {:?} has an encoder, whose embeddings are kept there", feature.name),
            ));
        }
        if let FeatureSource::Text(text) = source
            && !(3..=MAX_TOKENS_LIMIT).contains(&text.max_tokens)
        {
            return Err(BuildError::config(
                format!("features.{}.text_encoder.max_tokens", feature.name),
                format!("{} is not in 3..={MAX_TOKENS_LIMIT}", text.max_tokens),
            ));
        }
        Ok(())
    }
}

fn validate_attribute(attribute: &AttributeConfig) -> Result<(), BuildError> {
    let field = || format!("items.attributes.{}.separator", attribute.name);
    match (&attribute.separator, attribute.kind) {
        (Some(separator), _) if separator.is_empty() => Err(BuildError::config(field(), "is empty; leave it out")),
        (Some(_), AttributeKind::Number) => {
            Err(BuildError::config(field(), "belongs to texts; leave it out of an attribute of numbers"))
        }
        _ => Ok(()),
    }
}

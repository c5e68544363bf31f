//! `build`: a configuration -> a Snapshot. The stages in order, each a file of this crate.

use crate::BuildError;
use crate::cache::EmbeddingCache;
use crate::catalogue::{Catalogue, catalogue};
use crate::config::{BuildConfig, FeatureConfig, FeatureSource, WithoutRow};
use crate::encoder::{ImageEncoder, TextEncoder};
use crate::features::{Notes, image_block, text_block};
use crate::interactions::{interactions, without_row_error};
use crate::provided::provided_block;
use crate::tables::Tables;
use feature_store::{
    FeatureBlock, Item, Manifest, SnapshotContents, SourceFile, check_attributes, sha256_file, write_snapshot,
};
use std::path::{Path, PathBuf};

/// How far a stage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// `tables`, `interactions`, `items`, `texts`, `images`, `features` or `snapshot`.
    pub stage: &'static str,
    /// Units done.
    pub done: u64,
    /// Units in all.
    pub total: u64,
}

/// Builds a Snapshot in `output`; relative paths of `config` start at `base_dir`.
///
/// Nothing is left behind on an error but cached embeddings, which the next build uses. The same
/// configuration and files give the same bytes.
///
/// # Errors
/// One sentence that names the file, column, row or field.
pub fn build(
    config: &BuildConfig,
    base_dir: &Path,
    output: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, BuildError> {
    config.validate()?;
    // One thread: DataFusion keeps the order of rows, and the encoders use rayon's threads.
    let runtime =
        tokio::runtime::Builder::new_current_thread().build().map_err(BuildError::io(Path::new("query engine")))?;
    runtime.block_on(run(config, base_dir, output, progress))
}

async fn run(
    config: &BuildConfig,
    base_dir: &Path,
    output: &Path,
    progress: &mut dyn FnMut(Progress),
) -> Result<Manifest, BuildError> {
    stage(progress, "tables", 0);
    let tables = Tables::read(&config.tables, base_dir).await?;
    let mut sources = Vec::new();
    for table in &config.tables {
        sources.push(source(&table.path, base_dir)?);
    }
    stage(progress, "tables", 1);

    stage(progress, "interactions", 0);
    let kept = interactions(&tables, &config.interactions, config.k_core).await?;
    stage(progress, "interactions", 1);

    stage(progress, "items", 0);
    let Catalogue { items, without_row, attributes } = catalogue(&tables, &config.items, &kept.items).await?;
    // The Snapshot's writer checks them too, after hours of encoding.
    check_attributes(&attributes, items.len())?;
    if let (Some(WithoutRow::Refuse), Some(key)) = (config.items.without_row, without_row.first()) {
        return Err(without_row_error(&tables, &config.interactions, key));
    }
    stage(progress, "items", 1);

    let mut notes = Notes::new();
    notes.insert("interactions.read".to_owned(), kept.read);
    notes.insert("items.without_row".to_owned(), without_row.len() as u64);
    let mut features = Vec::new();
    for feature in &config.features {
        features.push(block(config, feature, base_dir, &items, &mut sources, &mut notes, progress).await?);
    }

    stage(progress, "snapshot", 0);
    let contents = SnapshotContents {
        users: kept.users,
        items,
        interactions: kept.rows,
        features,
        attributes,
        sources,
        config: serde_json::to_value(config).map_err(|e| BuildError::config("as JSON", e.to_string()))?,
        notes,
    };
    let manifest = write_snapshot(output, contents)?;
    stage(progress, "snapshot", 1);
    Ok(manifest)
}

async fn block(
    config: &BuildConfig,
    feature: &FeatureConfig,
    base_dir: &Path,
    items: &[Item],
    sources: &mut Vec<SourceFile>,
    notes: &mut Notes,
    progress: &mut dyn FnMut(Progress),
) -> Result<FeatureBlock, BuildError> {
    match feature.source()? {
        FeatureSource::Text(text) => {
            let encoder = TextEncoder::from_config(text, base_dir)?;
            text_block(feature, &encoder, &cache(config, base_dir)?, items, notes, progress)
        }
        FeatureSource::Image(image) => {
            let encoder = ImageEncoder::from_config(image, base_dir)?;
            let cache = cache(config, base_dir)?;
            let (block, images) = image_block(feature, image, base_dir, &encoder, &cache, items, notes, progress)?;
            sources.push(images);
            Ok(block)
        }
        FeatureSource::File(file, keys) => {
            stage(progress, "features", 0);
            let block = provided_block(feature, file, keys.map(PathBuf::as_path), base_dir, items, notes).await?;
            for path in std::iter::once(file).chain(keys) {
                let source = source(path, base_dir)?;
                if !sources.contains(&source) {
                    sources.push(source);
                }
            }
            stage(progress, "features", 1);
            Ok(block)
        }
    }
}

fn cache(config: &BuildConfig, base_dir: &Path) -> Result<EmbeddingCache, BuildError> {
    // `validate` has seen to it that an encoder has a cache.
    let dir = config.cache_dir.as_ref().ok_or_else(|| BuildError::config("cache_dir", "is missing"))?;
    EmbeddingCache::open(&base_dir.join(dir))
}

/// The name is the configuration's, so that where relative paths start is no part of a Snapshot.
fn source(path: &Path, base_dir: &Path) -> Result<SourceFile, BuildError> {
    let (bytes, sha256) = sha256_file(&base_dir.join(path))?;
    Ok(SourceFile { name: path.display().to_string(), bytes, sha256 })
}

fn stage(progress: &mut dyn FnMut(Progress), stage: &'static str, done: u64) {
    progress(Progress { stage, done, total: 1 });
}

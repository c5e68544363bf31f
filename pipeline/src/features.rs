//! Feature matrices by encoder, aligned: row `i` is item `i`, row 0 is PAD and zero. An item without
//! content (no text, no image file, bytes that are no image, an overlong file) has a zero row and mask 0, and is
//! counted; it is never an error. A file that is there and cannot be read is one.

use crate::BuildError;
use crate::build::Progress;
use crate::cache::EmbeddingCache;
use crate::config::{FeatureConfig, ImageEncoderConfig};
use crate::encoder::{ImageEncoder, TextEncoder};
use feature_store::{EncoderInfo, FeatureBlock, Item, SourceFile, sha256_bytes};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

/// Items encoded between two reports of progress.
const CHUNK: usize = 64;

/// Largest image file that is read; a larger one counts as unreadable.
const MAX_IMAGE_BYTES: u64 = 64 << 20;

/// What an item gave.
enum Row {
    Values(Vec<f32>),
    Missing,
    Unreadable,
}

/// Counted things by name, as the manifest's notes.
pub(crate) type Notes = BTreeMap<String, u64>;

/// Encodes the text of every item.
pub(crate) fn text_block(
    feature: &FeatureConfig,
    encoder: &TextEncoder,
    cache: &EmbeddingCache,
    items: &[Item],
    notes: &mut Notes,
    progress: &mut dyn FnMut(Progress),
) -> Result<FeatureBlock, BuildError> {
    let mut rows = Vec::with_capacity(items.len());
    for chunk in items.chunks(CHUNK) {
        let encoded: Result<Vec<Row>, BuildError> =
            chunk.par_iter().map(|item| text_row(encoder, cache, item)).collect();
        rows.extend(encoded?);
        progress(Progress { stage: "texts", done: rows.len() as u64, total: items.len() as u64 });
    }
    Ok(aligned(feature, encoder.dim(), encoder.info().clone(), rows, notes))
}

/// Encodes the image of every item. Also gives one source entry for all the images: their number is
/// in its name, its checksum is over their keys and checksums in the order of items.
#[expect(clippy::too_many_arguments, reason = "one caller; grouping them would name a thing that is none")]
pub(crate) fn image_block(
    feature: &FeatureConfig,
    config: &ImageEncoderConfig,
    base_dir: &Path,
    encoder: &ImageEncoder,
    cache: &EmbeddingCache,
    items: &[Item],
    notes: &mut Notes,
    progress: &mut dyn FnMut(Progress),
) -> Result<(FeatureBlock, SourceFile), BuildError> {
    let dir = base_dir.join(&config.images);
    if !dir.is_dir() {
        return Err(BuildError::input(
            &dir,
            format!("is no folder; feature {:?} reads its images there", feature.name),
        ));
    }
    let mut rows = Vec::with_capacity(items.len());
    let mut digests = String::new();
    let mut bytes = 0;
    for chunk in items.chunks(CHUNK) {
        let encoded: Result<Vec<(Row, Option<ImageFile>)>, BuildError> =
            chunk.par_iter().map(|item| image_row(encoder, cache, &dir, &config.extension, item)).collect();
        for (item, (row, file)) in chunk.iter().zip(encoded?) {
            rows.push(row);
            if let Some(file) = file {
                digests.push_str(&format!("{} {}\n", item.key, file.sha256));
                bytes += file.bytes;
            }
        }
        progress(Progress { stage: "images", done: rows.len() as u64, total: items.len() as u64 });
    }
    let source = SourceFile {
        name: format!("{}/*.{} ({} of items)", config.images.display(), config.extension, digests.lines().count()),
        bytes,
        sha256: sha256_bytes(digests.as_bytes()),
    };
    Ok((aligned(feature, encoder.dim(), encoder.info().clone(), rows, notes), source))
}

struct ImageFile {
    bytes: u64,
    sha256: String,
}

fn text_row(encoder: &TextEncoder, cache: &EmbeddingCache, item: &Item) -> Result<Row, BuildError> {
    if item.text.is_empty() {
        return Ok(Row::Missing);
    }
    let key = EmbeddingCache::key(encoder.identity(), item.text.as_bytes());
    if let Some(values) = cache.get(&key, encoder.dim()) {
        return Ok(Row::Values(values));
    }
    let values = encoder.encode(&item.text).map_err(|error| of_item(error, item))?;
    cache.put(&key, &values)?;
    Ok(Row::Values(values))
}

fn image_row(
    encoder: &ImageEncoder,
    cache: &EmbeddingCache,
    dir: &Path,
    extension: &str,
    item: &Item,
) -> Result<(Row, Option<ImageFile>), BuildError> {
    // A key is a file name here, never a path out of the folder.
    if item.key.contains(['/', '\\']) {
        return Ok((Row::Missing, None));
    }
    let path = dir.join(format!("{}.{extension}", item.key));
    let bytes = match read_at_most(&path, MAX_IMAGE_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok((Row::Unreadable, None)),
        Err(e) if is_no_file(e.kind()) => return Ok((Row::Missing, None)),
        Err(e) => return Err(BuildError::io(&path)(e)),
    };
    let file = ImageFile { bytes: bytes.len() as u64, sha256: sha256_bytes(&bytes) };
    let key = EmbeddingCache::key(encoder.identity(), &bytes);
    if let Some(values) = cache.get(&key, encoder.dim()) {
        return Ok((Row::Values(values), Some(file)));
    }
    let Ok(pixels) = encoder.pixels(&bytes) else {
        return Ok((Row::Unreadable, Some(file)));
    };
    let values = encoder.encode_pixels(pixels).map_err(|error| of_item(error, item))?;
    cache.put(&key, &values)?;
    Ok((Row::Values(values), Some(file)))
}

/// An encoder's refusal with the item whose content it was given.
fn of_item(error: BuildError, item: &Item) -> BuildError {
    match error {
        BuildError::Input { path, reason } => BuildError::input(&path, format!("item {:?}: {reason}", item.key)),
        other => other,
    }
}

/// A file whole; none if it is larger.
fn read_at_most(path: &Path, most: u64) -> std::io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(most + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= most).then_some(bytes))
}

/// Whether it means that there is no such file, or that no file can have the name: too long, or with a byte 0.
fn is_no_file(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::NotFound | ErrorKind::InvalidFilename | ErrorKind::InvalidInput)
}

/// Puts rows of items `1..` under a PAD row and counts those without content.
fn aligned(
    feature: &FeatureConfig,
    dim: usize,
    encoder: EncoderInfo,
    rows: Vec<Row>,
    notes: &mut Notes,
) -> FeatureBlock {
    let mut values = vec![0.0; dim];
    let mut mask = vec![0];
    let (mut missing, mut unreadable) = (0, 0);
    for row in rows {
        mask.push(u8::from(matches!(row, Row::Values(_))));
        match row {
            Row::Values(row) => values.extend(row),
            Row::Missing => missing += 1,
            Row::Unreadable => unreadable += 1,
        }
        values.resize(mask.len() * dim, 0.0);
    }
    notes.insert(format!("{}.missing", feature.name), missing);
    notes.insert(format!("{}.unreadable", feature.name), unreadable);
    FeatureBlock { name: feature.name.clone(), dim, values, mask, dtype: feature.dtype, encoder }
}

//! Frozen encoders on disk: text or image in, a vector of norm 1 out.
//!
//! An encoder is an ONNX graph and the files beside it; this module knows what goes in and comes
//! out, a [`Session`] runs the graph. One content is one call, so an embedding depends on the
//! content alone: neither padding nor batch mates nor what the cache already holds can change a bit
//! of it. Calls run in parallel on as many threads as the machine has.

mod image;
#[cfg(feature = "ort")]
mod ort;
mod preprocess;
mod session;
mod text;
mod tract;

pub use image::{ImageEncoder, UnreadableImage};
pub use session::Runtime;
pub use text::TextEncoder;

use crate::BuildError;
use feature_store::{sha256_bytes, sha256_file};
use std::path::{Path, PathBuf};

/// The first of `names` that is a file in `dir`.
fn model_file(dir: &Path, names: &[&str]) -> Result<PathBuf, BuildError> {
    names.iter().map(|name| dir.join(name)).find(|path| path.is_file()).ok_or_else(|| {
        let names = names.join(", ");
        BuildError::input(
            dir,
            format!("holds no encoder: none of {names} is there; export it to ONNX into this folder"),
        )
    })
}

/// SHA-256 of an encoder's weights: of the ONNX file, or, where external data lies beside it, of its digest and
/// those of the data's files in the order of their names.
fn weights_sha256(model: &Path) -> Result<String, BuildError> {
    let (_, mut digests) = sha256_file(model)?;
    let external = external_data(model)?;
    if external.is_empty() {
        return Ok(digests);
    }
    for path in external {
        let (_, data) = sha256_file(&path)?;
        digests.push(' ');
        digests.push_str(&data);
    }
    Ok(sha256_bytes(digests.as_bytes()))
}

/// The files beside a model whose names begin with its own: exporters write external data as
/// `model.onnx_data`, `model.onnx.data` or several numbered ones.
fn external_data(model: &Path) -> Result<Vec<PathBuf>, BuildError> {
    let dir = model.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = model.file_name().unwrap_or_default().as_encoded_bytes();
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(BuildError::io(dir))? {
        let path = entry.map_err(BuildError::io(dir))?.path();
        let beside = path.file_name().unwrap_or_default().as_encoded_bytes();
        if beside != name && beside.starts_with(name) && path.is_file() {
            found.push(path);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// The folder's own name, which is what people call the encoder.
fn encoder_name(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    full.file_name().map_or_else(|| "encoder".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Scales to norm 1; a zero vector stays zero.
fn unit_norm(mut vector: Vec<f32>) -> Vec<f32> {
    let norm = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
    vector
}

/// A JSON file beside the model.
fn read_json(path: &Path) -> Result<serde_json::Value, BuildError> {
    let text = std::fs::read_to_string(path).map_err(BuildError::io(path))?;
    serde_json::from_str(&text).map_err(|e| BuildError::input(path, format!("is not JSON: {e}")))
}

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

/// SHA-256 of an encoder's weights: of the ONNX file, or of its digest and that of its external data.
fn weights_sha256(model: &Path) -> Result<String, BuildError> {
    let (_, graph) = sha256_file(model)?;
    let mut external = model.as_os_str().to_owned();
    external.push("_data");
    let external = PathBuf::from(external);
    if !external.is_file() {
        return Ok(graph);
    }
    let (_, data) = sha256_file(&external)?;
    Ok(sha256_bytes(format!("{graph} {data}").as_bytes()))
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

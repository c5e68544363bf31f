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
use std::collections::BTreeSet;
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
    let graph = std::fs::read(model).map_err(BuildError::io(model))?;
    let mut digests = sha256_bytes(&graph);
    let external = external_data(model, &graph)?;
    drop(graph);
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

/// The files beside a model that its graph names, and those whose names begin with its own: exporters write external
/// data as `model.onnx_data`, `model.onnx.data` or several numbered ones.
fn external_data(model: &Path, graph: &[u8]) -> Result<BTreeSet<PathBuf>, BuildError> {
    let dir = model.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = model.file_name().unwrap_or_default().as_encoded_bytes();
    let mut found: BTreeSet<PathBuf> =
        locations(graph).map(|name| dir.join(name)).filter(|path| path.is_file()).collect();
    for entry in std::fs::read_dir(dir).map_err(BuildError::io(dir))? {
        let path = entry.map_err(BuildError::io(dir))?.path();
        let beside = path.file_name().unwrap_or_default().as_encoded_bytes();
        if beside != name && beside.starts_with(name) && path.is_file() {
            found.insert(path);
        }
    }
    Ok(found)
}

/// Where the graph says that tensors keep their data: the values of entries with the key `location`, as protobuf writes
/// them. That bytes of weights look like one costs nothing: there must be such a file too.
fn locations(graph: &[u8]) -> impl Iterator<Item = &str> {
    const ENTRY: &[u8] = b"\x0a\x08location\x12";
    graph.windows(ENTRY.len()).enumerate().filter(|(_, bytes)| *bytes == ENTRY).filter_map(|(at, _)| {
        let value = &graph[at + ENTRY.len()..];
        // Its length takes a byte, or two with seven bits each.
        let (bytes, value) = match *value {
            [low, ref value @ ..] if low < 0x80 => (usize::from(low), value),
            [low, high, ref value @ ..] if high < 0x80 => (usize::from(low & 0x7f) | usize::from(high) << 7, value),
            _ => return None,
        };
        std::str::from_utf8(value.get(..bytes)?).ok()
    })
}

/// The folder's own name, which is what people call the encoder.
fn encoder_name(dir: &Path) -> String {
    let full = dir.canonicalize().unwrap_or_else(|_| dir.to_path_buf());
    full.file_name().map_or_else(|| "encoder".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Scales to norm 1; a zero vector stays zero. The error is a sentence: numbers that are not finite would lie in the
/// cache, and end the build at its very end.
fn unit_norm(mut vector: Vec<f32>) -> Result<Vec<f32>, String> {
    if let Some(at) = vector.iter().position(|value| !value.is_finite()) {
        return Err(format!("gives {} in column {at}, and features must be finite; export it in float32", vector[at]));
    }
    let norm = vector.iter().map(|v| f64::from(*v) * f64::from(*v)).sum::<f64>().sqrt();
    if norm > 0.0 {
        vector.iter_mut().for_each(|v| *v = (f64::from(*v) / norm) as f32);
    }
    Ok(vector)
}

/// A JSON file beside the model.
fn read_json(path: &Path) -> Result<serde_json::Value, BuildError> {
    let text = std::fs::read_to_string(path).map_err(BuildError::io(path))?;
    serde_json::from_str(&text).map_err(|e| BuildError::input(path, format!("is not JSON: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry of a tensor's external data.
    fn entry(location: &str) -> Vec<u8> {
        let mut bytes = b"\x6a\x1d\x0a\x08location\x12".to_vec();
        let len = location.len();
        bytes.extend(if len < 0x80 { vec![len as u8] } else { vec![len as u8 | 0x80, (len >> 7) as u8] });
        bytes.extend(location.as_bytes());
        bytes
    }

    #[test]
    fn the_digest_covers_the_files_that_a_graph_names() {
        let dir = tempfile::tempdir().unwrap();
        let model = dir.path().join("model.onnx");
        let long = format!("{}.bin", "w".repeat(200));
        std::fs::write(
            &model,
            [b"graph".to_vec(), entry("weights.bin"), entry(&long), b"\x0a\x08location\x12".to_vec()].concat(),
        )
        .unwrap();
        let digest = || weights_sha256(&model).unwrap();
        let alone = digest();
        assert_eq!(alone, sha256_file(&model).unwrap().1, "of a graph alone it is that of the file");
        let mut known = vec![alone];
        let mut check = |file: &str, contents: &str, counts: bool| {
            std::fs::write(dir.path().join(file), contents).unwrap();
            assert_eq!(!known.contains(&digest()), counts, "{file}");
            known.push(digest());
        };
        check("pytorch_model.bin", "others", false);
        check("weights.bin", "one", true);
        check("weights.bin", "two", true);
        check(&long, "one", true);
        check("model.onnx_data", "one", true);
    }

    #[test]
    fn a_vector_has_norm_one_and_finite_numbers() {
        assert_eq!(unit_norm(vec![3.0, -4.0]).unwrap(), [0.6, -0.8]);
        assert_eq!(unit_norm(vec![0.0; 2]).unwrap(), [0.0; 2]);
        for wrong in [f32::NAN, f32::INFINITY] {
            assert!(unit_norm(vec![1.0, wrong]).unwrap_err().contains("in column 1"));
        }
    }
}

//! Image encoders: preprocessing, ONNX graph, unit norm. One image a call, which measured fastest.
//!
//! ```text
//! bytes -> pixel_values [1, 3, h, w] -> emb [1, d] -> [d]
//! ```

use super::preprocess::Preprocess;
use super::session::{Elements, Input, InputKind, Runtime, Session};
use super::{encoder_name, model_file, session, unit_norm, weights_sha256};
use crate::BuildError;
use crate::config::ImageEncoderConfig;
use feature_store::{EncoderInfo, sha256_bytes};
use std::path::{Path, PathBuf};

/// Raised when the arithmetic between bytes and vector changes: it parts the cache from older ones.
const VERSION: u32 = 1;
const MODELS: [&str; 4] = ["vision_model.onnx", "onnx/vision_model.onnx", "model.onnx", "onnx/model.onnx"];
const OUTPUTS: [&str; 3] = ["emb", "image_embeds", "pooler_output"];

/// A loaded image encoder.
pub struct ImageEncoder {
    preprocess: Preprocess,
    session: Box<dyn Session>,
    model: PathBuf,
    dim: usize,
    info: EncoderInfo,
    identity: String,
}

/// Bytes that do not decode as an image: an empty row in a Snapshot, not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unreadable image: {0}")]
pub struct UnreadableImage(pub String);

impl ImageEncoder {
    /// Loads `dir`.
    ///
    /// # Errors
    /// A file of the layout is missing or unusable: named.
    pub fn load(dir: &Path, runtime: &Runtime) -> Result<ImageEncoder, BuildError> {
        let model = model_file(dir, &MODELS)?;
        let preprocess = Preprocess::read(dir)?;
        let weights = weights_sha256(&model)?;
        let identity = format!("image {VERSION} {} {weights} {preprocess:?}", runtime.name());
        let kind = InputKind::Pixels { height: preprocess.height, width: preprocess.width };
        let session = session::load(runtime, &model, kind, &OUTPUTS)?;
        if session.inputs().len() != 1 {
            let inputs = session.inputs().join(", ");
            return Err(BuildError::input(
                &model,
                format!(
                    "wants the inputs {inputs}; an image encoder takes pixel_values alone: export the vision tower"
                ),
            ));
        }
        let mut encoder = ImageEncoder {
            preprocess,
            session,
            model,
            dim: 0,
            info: EncoderInfo { name: encoder_name(dir), weights_sha256: Some(weights) },
            identity: sha256_bytes(identity.as_bytes()),
        };
        // One run says what the width is, and that the graph takes what it is given.
        let blank = vec![0.0; 3 * encoder.preprocess.height * encoder.preprocess.width];
        encoder.dim = encoder.encode_pixels(blank)?.len();
        Ok(encoder)
    }

    /// As [`ImageEncoder::load`], from a configuration.
    pub(crate) fn from_config(config: &ImageEncoderConfig, base_dir: &Path) -> Result<ImageEncoder, BuildError> {
        ImageEncoder::load(&base_dir.join(&config.dir), &config.runtime)
    }

    /// Width of an embedding.
    pub fn dim(&self) -> usize {
        self.dim
    }

    /// Name and checksum of the weights.
    pub fn info(&self) -> &EncoderInfo {
        &self.info
    }

    /// Digest of everything but the image that an embedding depends on.
    pub(crate) fn identity(&self) -> &str {
        &self.identity
    }

    /// Bytes of an image file -> pixels `[3, height, width]` as the graph takes them.
    ///
    /// # Errors
    /// The bytes are no JPEG, PNG or WebP image, or one that is too large.
    pub fn pixels(&self, bytes: &[u8]) -> Result<Vec<f32>, UnreadableImage> {
        self.preprocess.pixels(bytes).map_err(UnreadableImage)
    }

    /// Pixels `[3, height, width]` -> `[dim]`, norm 1.
    ///
    /// # Errors
    /// Another number of pixels, or the graph refuses or gives numbers that are not finite.
    pub fn encode_pixels(&self, pixels: Vec<f32>) -> Result<Vec<f32>, BuildError> {
        let Preprocess { height, width, .. } = self.preprocess;
        if pixels.len() != 3 * height * width {
            return Err(BuildError::input(
                &self.model,
                format!("was given {} pixels; 3 x {height} x {width} are expected", pixels.len()),
            ));
        }
        let input = Input { shape: vec![1, 3, height, width], elements: Elements::F32(pixels) };
        let output = self.session.run(vec![input]).map_err(|e| BuildError::input(&self.model, e))?;
        // Some exports keep the pooled map's two axes of size one.
        if output.values.is_empty() || output.shape.iter().filter(|size| **size > 1).count() > 1 {
            return Err(BuildError::input(
                &self.model,
                format!("gives shape {:?}; one vector an image is expected", output.shape),
            ));
        }
        unit_norm(output.values).map_err(|reason| BuildError::input(&self.model, reason))
    }
}

//! What runs an ONNX graph: tract in this program, or ONNX Runtime from a library the user has.

use crate::BuildError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// What runs an encoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runtime {
    /// tract: pure Rust, part of this program.
    Tract,
    /// ONNX Runtime, loaded from this shared library; needs the cargo feature `ort`.
    Onnxruntime(PathBuf),
}

impl Runtime {
    /// Its name, as the cache and the manifest tell embeddings apart.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Runtime::Tract => "tract",
            Runtime::Onnxruntime(_) => "onnxruntime",
        }
    }
}

/// What the graph's inputs look like.
#[derive(Debug, Clone, Copy)]
pub(crate) enum InputKind {
    /// Every input is i64 `[1, length]`.
    Tokens,
    /// The one input is f32 `[1, 3, height, width]`.
    Pixels {
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
}

/// Elements of an input, row-major.
#[derive(Debug, Clone)]
pub(crate) enum Elements {
    /// Token ids and masks.
    I64(Vec<i64>),
    /// Pixels.
    F32(Vec<f32>),
}

/// One input of a call; inputs come in the order of [`Session::inputs`].
#[derive(Debug, Clone)]
pub(crate) struct Input {
    /// Sizes.
    pub(crate) shape: Vec<usize>,
    /// Elements.
    pub(crate) elements: Elements,
}

/// The output of a call.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// Sizes.
    pub(crate) shape: Vec<usize>,
    /// Elements, row-major.
    pub(crate) values: Vec<f32>,
}

/// A loaded graph with one chosen output. Calls may come from several threads.
pub(crate) trait Session: Send + Sync {
    /// Names of the inputs, in order.
    fn inputs(&self) -> &[String];

    /// Runs the graph; the error is the runtime's own sentence.
    fn run(&self, inputs: Vec<Input>) -> Result<Output, String>;
}

/// Loads a graph. Its output is the first of `outputs` that it has, else its first one.
pub(crate) fn load(
    runtime: &Runtime,
    model: &Path,
    kind: InputKind,
    outputs: &[&str],
) -> Result<Box<dyn Session>, BuildError> {
    match runtime {
        Runtime::Tract => Ok(Box::new(super::tract::TractSession::load(model, kind, outputs)?)),
        #[cfg(feature = "ort")]
        Runtime::Onnxruntime(library) => Ok(Box::new(super::ort::OrtSession::load(library, model, outputs)?)),
        #[cfg(not(feature = "ort"))]
        Runtime::Onnxruntime(library) => Err(BuildError::config(
            "runtime",
            format!(
                "onnxruntime ({}) needs a program built with `--features recommender/ort`; or say runtime = \"tract\"",
                library.display()
            ),
        )),
    }
}

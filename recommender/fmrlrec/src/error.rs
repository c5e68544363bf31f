//! Errors of training and of Bundles: one sentence each.

use feature_store::StoreError;
use std::path::{Path, PathBuf};

/// Why training or evaluation did not happen or did not finish.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// A value of the configuration.
    #[error("training configuration: {0}")]
    Config(String),
    /// The device asked for is not there.
    #[error("{0}")]
    Device(String),
    /// Data that cannot be trained on.
    #[error("training data: {0}")]
    Data(String),
    /// A Snapshot or another file.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The Bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// A checkpoint that does not fit.
    #[error("{path}: {reason}", path = .path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// Why, and the way out.
        reason: String,
    },
    /// The observer asked to stop.
    #[error("stopped in epoch {epoch}; {path} holds everything done so far: run again with --resume", path = .checkpoint.display())]
    Interrupted {
        /// Epoch that was running, from 1.
        epoch: usize,
        /// Where to resume from.
        checkpoint: PathBuf,
    },
    /// Training left the finite numbers. Nothing was written since the last checkpoint.
    #[error("{what} in epoch {epoch}: lower optimizer.learning_rate or optimizer.clip_norm")]
    Diverged {
        /// Epoch, from 1.
        epoch: usize,
        /// What is no finite number.
        what: Divergence,
    },
}

/// What of a training step is no finite number.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Divergence {
    /// The loss.
    #[error("the loss became {0}")]
    Loss(f64),
    /// The norm over all gradients.
    #[error("the gradient norm became {0}")]
    Gradient(f64),
    /// A value of the parameter of this name.
    #[error("the parameter {0} has a value that is not finite")]
    Parameter(String),
}

/// Why a Bundle was refused.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// A file of the Bundle.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why, and the way out.
        reason: String,
    },
    /// A file that the feature store reads.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A dim that was not trained.
    #[error("dim {dim} was not trained; trained dims: {trained:?}")]
    UntrainedDim {
        /// The dim asked for.
        dim: usize,
        /// The dims there are.
        trained: Vec<usize>,
    },
    /// Block dims that are not one a block, or that leave out every block.
    #[error("block dims {given:?}: the model has {blocks} blocks; give one dim for each, at least one of them above 0")]
    BlockDims {
        /// What was given.
        given: Vec<usize>,
        /// Blocks of the model.
        blocks: usize,
    },
    /// A new item's features do not fit.
    #[error("{field} {reason}")]
    Feature {
        /// The field, such as `features.text`.
        field: String,
        /// What is wrong with it, and the way out.
        reason: String,
    },
    /// An item id past the item table.
    #[error("item id {id} is outside the Bundle's {items} items")]
    UnknownItem {
        /// The id.
        id: u32,
        /// Number of items.
        items: usize,
    },
}

impl BundleError {
    pub(crate) fn file(path: &Path, reason: impl ToString) -> BundleError {
        BundleError::File { path: path.to_path_buf(), reason: reason.to_string() }
    }
}

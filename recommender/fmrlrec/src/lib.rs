//! fMRLRec: one multimodal sequential recommender trained once at all nesting dims.
//!
//! ```text
//! Snapshot --train--> Bundle --evaluate--> Report
//!                       └── user_vector(history, dim): what the service asks for
//! ```
//! Three laws, held by property tests: the first `d` columns of the output are the output of the
//! model cut to dim `d`; a forward pass over a sequence equals folding `step` over it; padding and
//! batch mates never change a user's output.
//!
//! Nothing here knows HTTP, DataFusion or Kafka.

mod adamw;
mod baselines;
mod bundle;
mod checkpoint;
mod compatibility;
mod config;
mod cut;
mod data;
mod error;
mod evaluate;
mod features;
mod finish;
pub mod gpu;
mod learner;
mod metrics;
pub mod model;
mod model_card;
pub mod ops;
mod params;
mod report;
mod schedule;
mod train;
mod user_state;
mod whitening;

use burn::tensor::backend::AutodiffBackend;

pub use adamw::{AdamW, AdamWConfig, DecayRule};
pub use bundle::{BUNDLE_VERSION, Bundle, BundleShape, FeatureWidth};
pub use compatibility::OldTable;
pub use config::{
    CompatibilityConfig, DropoutConfig, EarlyStopping, ExitConfig, ModelConfig, ObjectiveConfig, OptimizerConfig,
    ProjectorStart, TrainConfig,
};
pub use cut::Cut;
pub use data::{Batch, LeaveOneOut, Split, pack_histories, training_batches};
pub use error::{BundleError, Divergence, TrainError};
pub use evaluate::{Part, evaluate, ranks_at_dims};
pub use learner::{Exit, Learner};
pub use metrics::{CUTOFFS, metrics_of_ranks};
pub use params::{load_params, named_params};
pub use report::{BaselineQuality, DimQuality, EpochLine, ExitQuality, Report, TrainObserver};
pub use train::{Device, train, train_compatible};
pub use user_state::UserState;

/// The CPU backend, and the one that trains on it.
pub type Cpu = burn_flex::Flex;
/// Autodiff over [`Cpu`].
pub type CpuTraining = burn::backend::Autodiff<Cpu>;

/// A backend to train on: gradients, and the model's own operations.
pub trait TrainingBackend:
    AutodiffBackend<InnerBackend: ops::NestedBackend + ops::UpdateBackend> + ops::NestedBackend
{
}

impl<B> TrainingBackend for B where
    B: AutodiffBackend<InnerBackend: ops::NestedBackend + ops::UpdateBackend> + ops::NestedBackend
{
}

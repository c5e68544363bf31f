//! From raw tables, texts and images to a Snapshot: DataFusion for everything that is a table, ONNX
//! encoders for everything that is content, and one alignment rule: row `i` is item `i`.
//!
//! ```text
//! tables --SQL--> interactions --k-core--> vocabulary, sequences --+
//!        --SQL--> items --template--> texts --encoder--> features -+--> Snapshot
//!                 images ------------------> encoder --> features -+
//!                 files of features --------> by key --> features -+
//! ```
//! Nothing here knows the model, HTTP or a clock: the same input gives the same bytes.

mod attributes;
mod build;
mod cache;
mod catalogue;
mod config;
mod encoder;
mod error;
mod features;
mod interactions;
mod k_core;
mod key_order;
mod npy;
mod provided;
mod quotes;
mod sequences;
pub mod stream;
mod tables;
mod template;
mod text_file;

pub use build::{Progress, build};
pub use config::{
    BuildConfig, FeatureConfig, FeatureSource, ImageEncoderConfig, InteractionsConfig, ItemsConfig, KCoreConfig,
    TableConfig, TableFormat, TextEncoderConfig, TimestampUnit, WithoutRow,
};
pub use encoder::{ImageEncoder, Runtime, TextEncoder, UnreadableImage};
pub use error::BuildError;

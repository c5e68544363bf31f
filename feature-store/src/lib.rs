//! What every other part of the system meets in: ids and the vocabulary, interactions and events,
//! the Snapshot on disk, and the store of user state.
//!
//! ```text
//! pipeline --writes--> Snapshot --read by--> fmrlrec
//! events   --apply---> UserStateStore --read by--> service
//! ```
//! Nothing here knows tensors, HTTP, Kafka or encoders.

mod attributes;
mod checksum;
mod content;
mod durable;
mod error;
mod event;
mod export;
mod matrix;
mod parts;
mod snapshot;
mod staging;
mod state;
mod tables;
mod vocabulary;

pub use attributes::{
    ATTRIBUTES_FILE, Attribute, AttributeValues, check_attributes, read_attributes, write_attributes,
};
pub use checksum::{sha256_bytes, sha256_file};
pub use content::{AttributeValue, ItemContent, MAX_ATTRIBUTE_VALUES, MAX_FEATURE_VALUES, MAX_NAME_BYTES, MAX_NAMES};
pub use durable::{create_dir_all_synced, sync_path};
pub use error::StoreError;
pub use event::{Event, MAX_AHEAD_MS, MAX_KEY_BYTES, MAX_TEXT_BYTES, MAX_TITLE_BYTES, StreamEvent};
pub use export::export_interactions;
pub use matrix::{FeatureDtype, FeatureMatrix, write_matrix};
pub use parts::leads_to;
pub use snapshot::{
    Counts, EncoderInfo, FeatureBlock, FeatureInfo, FileEntry, Manifest, SNAPSHOT_VERSION, Snapshot, SnapshotContents,
    SourceFile, write_snapshot,
};
pub use staging::{StagedDir, artefact_around, lies_in, write_whole};
pub use state::{
    AddedItem, Applied, BatchOutcome, HistoryEntry, ItemState, MAX_HISTORY_LIMIT, NewItem, NewestEntries, Origin,
    Revision, SourceRecord, StateLocation, StateServer, UserRecord, UserStateStore,
};
pub use tables::{read_items, write_items};
pub use vocabulary::{Item, Vocabulary};

/// Id of the padding item. Real items have ids `1..=n`; row `i` of every table and matrix is item
/// `i`, so row 0 is PAD.
pub const PAD: u32 = 0;

/// One user's use of one item at one time, in internal ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interaction {
    /// Row of the user in the Snapshot's user table, from 0.
    pub user: u32,
    /// Item id, never [`PAD`].
    pub item: u32,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
}

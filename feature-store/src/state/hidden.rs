//! Hidden state of a user: a cache of what a model made of the history, so that an event costs one
//! step. It lies in a row of its own, so that an event does not rewrite it, and it names the Bundle
//! that made it and the revision of the history it stands for: after a model swap or a late event
//! it is seen to be stale. The history is the truth; losing this row costs time only.

use super::UserStateStore;
use super::codec::{Reader, put_text, put_u64};
use super::users::Revision;
use crate::StoreError;

/// Largest hidden state accepted, in bytes.
pub const MAX_HIDDEN_BYTES: usize = 1 << 20;
const VERSION: u8 = 1;

/// A model's hidden state after a history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HiddenState {
    /// Id of the Bundle that made it.
    pub bundle_id: String,
    /// The history it stands for.
    pub revision: Revision,
    /// The state, in a layout that the Bundle's program knows.
    pub bytes: Vec<u8>,
}

impl HiddenState {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_text(&mut out, &self.bundle_id);
        put_u64(&mut out, self.revision.created);
        put_u64(&mut out, self.revision.events);
        out.extend_from_slice(&self.bytes);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<HiddenState> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return None;
        }
        let bundle_id = reader.text()?.to_owned();
        let revision = Revision { created: reader.u64()?, events: reader.u64()? };
        Some(HiddenState { bundle_id, revision, bytes: reader.rest().to_vec() })
    }
}

impl UserStateStore {
    /// Keeps a hidden state if the user's history is still at its revision; false if it is not, or
    /// the user is gone. Not synced to disk: a crash may lose it.
    ///
    /// # Errors
    /// The state is larger than [`MAX_HIDDEN_BYTES`], or the database's failure.
    pub fn put_hidden(&self, user_id: &str, state: &HiddenState) -> Result<bool, StoreError> {
        if state.bytes.len() > MAX_HIDDEN_BYTES {
            return Err(StoreError::invalid(
                "hidden state",
                format!("has {} bytes; at most {MAX_HIDDEN_BYTES} are kept", state.bytes.len()),
            ));
        }
        let (kept, _) = self.inner.transact(|writer| writer.hidden(user_id, state))?;
        Ok(kept)
    }
}

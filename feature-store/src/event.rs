//! An event: an interaction with external string keys, as producers send it.

use crate::StoreError;

/// Longest user, item or event key accepted, in bytes.
pub const MAX_KEY_BYTES: usize = 256;

/// One thing a user did with one item.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// External user key.
    pub user_id: String,
    /// External item key. It need not be in the vocabulary of any Bundle: the history is the truth.
    pub item_id: String,
    /// Milliseconds since the Unix epoch.
    pub timestamp_ms: i64,
    /// Producer's id of this event; a second event of the same user with the same id is dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
}

impl Event {
    /// Checks the limits that the store relies on.
    ///
    /// # Errors
    /// An empty or overlong key, or a negative time; the message names the field.
    pub fn validate(&self) -> Result<(), StoreError> {
        check_key("user_id", &self.user_id)?;
        check_key("item_id", &self.item_id)?;
        if let Some(id) = &self.event_id {
            check_key("event_id", id)?;
        }
        if self.timestamp_ms < 0 {
            return Err(StoreError::invalid(
                "timestamp_ms",
                format!("{} is before 1970; give milliseconds since the Unix epoch", self.timestamp_ms),
            ));
        }
        Ok(())
    }
}

fn check_key(field: &'static str, key: &str) -> Result<(), StoreError> {
    if key.is_empty() {
        return Err(StoreError::invalid(field, "is empty; give a key of 1 to 256 bytes"));
    }
    if key.len() > MAX_KEY_BYTES {
        return Err(StoreError::invalid(
            field,
            format!("has {} bytes; at most {MAX_KEY_BYTES} are accepted", key.len()),
        ));
    }
    Ok(())
}

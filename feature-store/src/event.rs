//! Events as producers send them: an interaction with external string keys, and the few other things
//! that a stream may say. Batch files, topics and HTTP bodies all carry these.

use crate::{ItemContent, StoreError};

/// Longest user, item or event key accepted, in bytes.
pub const MAX_KEY_BYTES: usize = 256;
/// Longest title accepted, in bytes.
pub const MAX_TITLE_BYTES: usize = 1024;
/// Longest item text accepted, in bytes.
pub const MAX_TEXT_BYTES: usize = 16 * 1024;

/// Furthest that an event's time may lie after the time at which it was taken, in milliseconds: a day.
/// One from further in the future comes of a clock that is wrong, and would stay a user's newest event for
/// as long as that clock is ahead.
pub const MAX_AHEAD_MS: i64 = 24 * 60 * 60 * 1000;

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
    /// Producer's id of this event: a second event of the same user with the same id is dropped if
    /// at most 64 other ids of that user came between. The events of one message of a stream may share it: they
    /// count together. In a batch over HTTP each needs its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_id: Option<String>,
}

/// Anything a stream may say. In JSON it is an object whose `type` is the variant's name; without a
/// `type` it is an interaction.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum StreamEvent {
    /// A user did something with an item.
    Interaction(Event),
    /// An item is new, or has a new title or text. It is shown from then on, also if it was hidden.
    ItemUpsert {
        /// External item key.
        item_id: String,
        /// Milliseconds since the Unix epoch.
        timestamp_ms: i64,
        /// What the item is called.
        title: String,
        /// Its text, for the next build.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        text: Option<String>,
        /// Its feature vectors and attributes, with which a service can recommend it before the next
        /// build; those of an earlier upsert stay if it brings none. Fields `features` and `attributes`.
        #[serde(flatten)]
        content: Option<Box<ItemContent>>,
    },
    /// An item must not be recommended from now on.
    ItemHide {
        /// External item key.
        item_id: String,
        /// Milliseconds since the Unix epoch.
        timestamp_ms: i64,
    },
    /// An item must not be recommended from a given time on.
    ItemExpire {
        /// External item key.
        item_id: String,
        /// Milliseconds since the Unix epoch.
        timestamp_ms: i64,
        /// From when on it is hidden, in milliseconds since the Unix epoch.
        expires_at_ms: i64,
    },
    /// A user's history and everything derived from it must go. What arrives later starts anew.
    UserDelete {
        /// External user key.
        user_id: String,
        /// Milliseconds since the Unix epoch.
        timestamp_ms: i64,
    },
}

impl StreamEvent {
    /// What a topic is keyed by, so that all that happens to one user, or one item, stays in order.
    pub fn key(&self) -> &str {
        match self {
            StreamEvent::Interaction(event) => &event.user_id,
            StreamEvent::UserDelete { user_id, .. } => user_id,
            StreamEvent::ItemUpsert { item_id, .. }
            | StreamEvent::ItemHide { item_id, .. }
            | StreamEvent::ItemExpire { item_id, .. } => item_id,
        }
    }

    /// The user it is about, if it is about one.
    pub fn user(&self) -> Option<&str> {
        match self {
            StreamEvent::Interaction(event) => Some(&event.user_id),
            StreamEvent::UserDelete { user_id, .. } => Some(user_id),
            _ => None,
        }
    }

    /// When it happened, in milliseconds since the Unix epoch.
    pub fn timestamp_ms(&self) -> i64 {
        match self {
            StreamEvent::Interaction(event) => event.timestamp_ms,
            StreamEvent::ItemUpsert { timestamp_ms, .. }
            | StreamEvent::ItemHide { timestamp_ms, .. }
            | StreamEvent::ItemExpire { timestamp_ms, .. }
            | StreamEvent::UserDelete { timestamp_ms, .. } => *timestamp_ms,
        }
    }

    /// Checks that it is not from the future, seen from when the broker, the log or the service took it
    /// (milliseconds since the Unix epoch). Any time before is fine: a late event takes its place.
    ///
    /// # Errors
    /// A time more than [`MAX_AHEAD_MS`] ahead.
    pub fn check_ahead(&self, taken_ms: i64) -> Result<(), StoreError> {
        let ahead_ms = self.timestamp_ms().saturating_sub(taken_ms);
        if ahead_ms <= MAX_AHEAD_MS {
            return Ok(());
        }
        let reason = format!(
            "{} is {} s after the time it was taken; at most {} s are accepted: set the producer's clock",
            self.timestamp_ms(),
            ahead_ms / 1000,
            MAX_AHEAD_MS / 1000
        );
        Err(StoreError::invalid("timestamp_ms", reason))
    }

    /// Checks the limits that the store relies on.
    ///
    /// # Errors
    /// An empty or overlong value, or a negative time; the message names the field.
    pub fn validate(&self) -> Result<(), StoreError> {
        match self {
            StreamEvent::Interaction(event) => return event.validate(),
            StreamEvent::UserDelete { user_id, .. } => check_key("user_id", user_id)?,
            StreamEvent::ItemHide { item_id, .. } => check_key("item_id", item_id)?,
            StreamEvent::ItemExpire { item_id, expires_at_ms, .. } => {
                check_key("item_id", item_id)?;
                check_time("expires_at_ms", *expires_at_ms)?;
            }
            StreamEvent::ItemUpsert { item_id, title, text, content, .. } => {
                check_key("item_id", item_id)?;
                check_text("title", title, MAX_TITLE_BYTES)?;
                check_text("text", text.as_deref().unwrap_or_default(), MAX_TEXT_BYTES)?;
                if content.as_ref().is_some_and(|content| content.features().is_empty()) {
                    return Err(StoreError::invalid("features", "is empty; send at least one vector, or leave it out"));
                }
            }
        }
        check_time("timestamp_ms", self.timestamp_ms())
    }
}

impl From<Event> for StreamEvent {
    fn from(event: Event) -> StreamEvent {
        StreamEvent::Interaction(event)
    }
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
        check_time("timestamp_ms", self.timestamp_ms)
    }
}

fn check_time(field: &'static str, time_ms: i64) -> Result<(), StoreError> {
    if time_ms < 0 {
        return Err(StoreError::invalid(
            field,
            format!("{time_ms} is before 1970; give milliseconds since the Unix epoch"),
        ));
    }
    Ok(())
}

fn check_key(field: &'static str, key: &str) -> Result<(), StoreError> {
    if key.is_empty() {
        return Err(StoreError::invalid(field, "is empty; give a key of 1 to 256 bytes"));
    }
    check_text(field, key, MAX_KEY_BYTES)
}

fn check_text(field: &'static str, text: &str, most: usize) -> Result<(), StoreError> {
    if text.len() > most {
        return Err(StoreError::invalid(field, format!("has {} bytes; at most {most} are accepted", text.len())));
    }
    Ok(())
}

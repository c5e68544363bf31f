//! From bytes to events: one decoder a format, all of them JSON.
//!
//! | format | a message is |
//! |---|---|
//! | `native` | one event of this project, bare or in a CloudEvents envelope |
//! | `segment` | a Segment `track` call |
//! | `snowplow` | a Snowplow enriched event as JSON (the analytics SDK's form) |
//! | `ga4` | a Google Analytics 4 Measurement Protocol body |
//! | `gorse` | one feedback of gorse, or a list of them |
//! | `metarank` | one metarank event: an interaction, or an item with a title |
//!
//! A decoder refuses a message whole, or gives all its events. A refusal names field, value and way
//! out, and travels with the message to the dead letters.

mod fields;
mod ga4;
mod gorse;
mod metarank;
mod native;
mod segment;
mod snowplow;
mod time;

use super::message::MAX_PAYLOAD_BYTES;
use feature_store::StreamEvent;
use serde::{Deserialize, Serialize};

/// Most events one message may hold.
pub const MAX_EVENTS_PER_MESSAGE: usize = 1_000;

/// Why a message was refused: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Reject(pub(crate) String);

/// Longest reason told, in characters: it quotes the message, which may be a mebibyte.
const MAX_REASON: usize = 500;

impl Reject {
    /// One line of bounded length: a reason goes into headers, logs and terminals, and what it quotes is
    /// anybody's.
    fn tidied(self) -> Reject {
        let mut chars = self.0.chars().map(|c| if c.is_control() { ' ' } else { c });
        let mut line: String = chars.by_ref().take(MAX_REASON).collect();
        if chars.next().is_some() {
            line.push_str("...");
        }
        Reject(line)
    }
}

/// From one message to its events.
pub trait Decoder: Send + Sync {
    /// The events of a message, all of them valid; none if it says nothing about items and users,
    /// as a page view does.
    ///
    /// # Errors
    /// Field, value and way out.
    fn decode(&self, payload: &[u8]) -> Result<Vec<StreamEvent>, Reject>;
}

/// The formats that can be named in a configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// This project's events.
    Native,
    /// Segment `track`.
    Segment,
    /// Snowplow enriched events as JSON.
    Snowplow,
    /// Google Analytics 4.
    Ga4,
    /// gorse feedback.
    Gorse,
    /// metarank interactions.
    Metarank,
}

/// The decoder of a format.
pub fn decoder(format: Format) -> Box<dyn Decoder> {
    match format {
        Format::Native => Box::new(Checked(native::Native)),
        Format::Segment => Box::new(Checked(segment::Segment)),
        Format::Snowplow => Box::new(Checked(snowplow::Snowplow)),
        Format::Ga4 => Box::new(Checked(ga4::Ga4)),
        Format::Gorse => Box::new(Checked(gorse::Gorse)),
        Format::Metarank => Box::new(Checked(metarank::Metarank)),
    }
}

/// Adds what holds for every format: sizes before, the store's limits after.
struct Checked<D>(D);

impl<D: Decoder> Decoder for Checked<D> {
    fn decode(&self, payload: &[u8]) -> Result<Vec<StreamEvent>, Reject> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(Reject(format!(
                "the message has {} bytes; at most {MAX_PAYLOAD_BYTES} are accepted",
                payload.len()
            )));
        }
        let events = self.0.decode(payload).map_err(Reject::tidied)?;
        if events.len() > MAX_EVENTS_PER_MESSAGE {
            return Err(Reject(format!(
                "the message holds {} events; at most {MAX_EVENTS_PER_MESSAGE} are accepted",
                events.len()
            )));
        }
        for event in &events {
            event.validate().map_err(|error| Reject(error.to_string()))?;
        }
        Ok(events)
    }
}

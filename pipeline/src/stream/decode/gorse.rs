//! gorse feedback: one object, or the list that its HTTP interface takes. Every type of feedback is
//! an interaction; keys are those of gorse (`FeedbackType`, `UserId`, `ItemId`, `Timestamp`).

use super::fields::{json, key};
use super::time::{Unit, time_ms};
use super::{Decoder, Reject};
use feature_store::{Event, StreamEvent};
use serde_json::Value;

pub(super) struct Gorse;

impl Decoder for Gorse {
    fn decode(&self, payload: &[u8]) -> Result<Vec<StreamEvent>, Reject> {
        match json(payload)? {
            Value::Array(list) => {
                let made = list.iter().enumerate().map(|(place, one)| {
                    feedback(one).map_err(|reject| Reject(format!("feedback [{place}]: {reject}")))
                });
                made.collect()
            }
            one => Ok(vec![feedback(&one)?]),
        }
    }
}

fn feedback(value: &Value) -> Result<StreamEvent, Reject> {
    Ok(StreamEvent::Interaction(Event {
        user_id: key(value, &["UserId"])?,
        item_id: key(value, &["ItemId"])?,
        timestamp_ms: time_ms(value, &["Timestamp"], Unit::Seconds)?,
        event_id: None,
    }))
}

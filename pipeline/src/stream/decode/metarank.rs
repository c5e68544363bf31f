//! metarank events: `interaction` as an interaction, `item` with a text field `title` as an upsert;
//! `ranking`, `user` and items without a title hold no event.

use super::fields::{find, json, key, optional_key, shown};
use super::time::{Unit, time_ms};
use super::{Decoder, Reject};
use feature_store::{Event, StreamEvent};
use serde_json::Value;

pub(super) struct Metarank;

impl Decoder for Metarank {
    fn decode(&self, payload: &[u8]) -> Result<Vec<StreamEvent>, Reject> {
        let event = json(payload)?;
        match find(&event, "event").and_then(Value::as_str) {
            Some("interaction") => Ok(vec![StreamEvent::Interaction(Event {
                // A visitor who is not logged in has a session only.
                user_id: key(&event, &["user", "session"])?,
                item_id: key(&event, &["item"])?,
                timestamp_ms: time_ms(&event, &["timestamp"], Unit::Milliseconds)?,
                event_id: optional_key(&event, &["id"])?,
            })]),
            Some("item") => upsert(&event).map(Vec::from_iter),
            Some("ranking" | "user") => Ok(Vec::new()),
            _ => {
                let found = find(&event, "event").map_or("missing".to_owned(), shown);
                Err(Reject(format!("event is {found}; metarank knows interaction, item, ranking and user")))
            }
        }
    }
}

fn upsert(event: &Value) -> Result<Option<StreamEvent>, Reject> {
    let field = |name: &str| {
        let fields = find(event, "fields").and_then(Value::as_array)?;
        let field = fields.iter().find(|field| find(field, "name").and_then(Value::as_str) == Some(name))?;
        find(field, "value").and_then(Value::as_str).map(str::to_owned)
    };
    let Some(title) = field("title") else { return Ok(None) };
    Ok(Some(StreamEvent::ItemUpsert {
        item_id: key(event, &["item"])?,
        timestamp_ms: time_ms(event, &["timestamp"], Unit::Milliseconds)?,
        title,
        text: field("description"),
        content: None,
    }))
}

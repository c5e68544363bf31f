//! Segment `track` calls: the user, the time, and the products of the call's properties.
//!
//! The item is `properties.product_id`, or that of each of `properties.products` (an order). Other
//! calls (`identify`, `page`), and tracks without a product, hold no event. `userId` wins over
//! `anonymousId`; `messageId` makes the event id.

use super::fields::{find, json, key, optional_key, shown};
use super::time::{Unit, time_ms};
use super::{Decoder, Reject};
use feature_store::{Event, StreamEvent};
use serde_json::Value;

pub(super) struct Segment;

impl Decoder for Segment {
    fn decode(&self, payload: &[u8]) -> Result<Vec<StreamEvent>, Reject> {
        let call = json(payload)?;
        match find(&call, "type") {
            Some(Value::String(kind)) if kind == "track" => (),
            Some(Value::String(_)) => return Ok(Vec::new()),
            other => {
                let found = other.map_or("missing".to_owned(), shown);
                return Err(Reject(format!("type is {found}; a Segment call names one, such as \"track\"")));
            }
        }
        let items = match find(&call, "properties.products") {
            Some(Value::Array(products)) => {
                products.iter().map(|product| key(product, &["product_id", "sku"])).collect::<Result<Vec<_>, _>>()?
            }
            Some(other) => return Err(Reject(format!("properties.products is {}; give a list", shown(other)))),
            None => optional_key(&call, &["properties.product_id", "properties.sku"])?.into_iter().collect(),
        };
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let user_id = key(&call, &["userId", "anonymousId"])?;
        let timestamp_ms = time_ms(&call, &["timestamp", "originalTimestamp", "receivedAt"], Unit::Milliseconds)?;
        let id = optional_key(&call, &["messageId"])?;
        Ok(interactions(&user_id, items, timestamp_ms, id.as_deref()))
    }
}

/// One interaction an item. Of a message with several items, the event id gets the item's place, so
/// that one id never stands for two events.
pub(super) fn interactions(user_id: &str, items: Vec<String>, timestamp_ms: i64, id: Option<&str>) -> Vec<StreamEvent> {
    let several = items.len() > 1;
    let made = items.into_iter().enumerate().map(|(place, item_id)| {
        let event_id = id.map(|id| if several { format!("{id}#{place}") } else { id.to_owned() });
        StreamEvent::Interaction(Event { user_id: user_id.to_owned(), item_id, timestamp_ms, event_id })
    });
    made.collect()
}

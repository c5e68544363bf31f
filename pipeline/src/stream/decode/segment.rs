//! Segment `track` calls: the user, the time, and the products of the call's properties.
//!
//! The item is `properties.product_id`, or that of each of `properties.products` (an order). Other
//! calls (`identify`, `page`), and tracks without a product, hold no event. `userId` wins over
//! `anonymousId`; `messageId` is the event id.

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

/// One interaction an item, all with the id of the message: the store takes the events of one message together, and
/// remembers one id for them, so that an order of any size that comes again is known.
pub(super) fn interactions(user_id: &str, items: Vec<String>, timestamp_ms: i64, id: Option<&str>) -> Vec<StreamEvent> {
    let made = items.into_iter().map(|item_id| {
        let (user_id, event_id) = (user_id.to_owned(), id.map(str::to_owned));
        StreamEvent::Interaction(Event { user_id, item_id, timestamp_ms, event_id })
    });
    made.collect()
}

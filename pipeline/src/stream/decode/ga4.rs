//! Google Analytics 4: a Measurement Protocol body, which holds several events of one user.
//!
//! Items are those of `events[].params.items[]`, by `item_id`; an event without items holds none.
//! `user_id` wins over `client_id`. The time is an event's `timestamp_micros`, else the body's. There
//! is no event id in this protocol, so a message sent twice counts twice.

use super::fields::{find, json, key, shown};
use super::segment::interactions;
use super::time::{Unit, time_ms};
use super::{Decoder, Reject};
use feature_store::StreamEvent;
use serde_json::Value;

pub(super) struct Ga4;

impl Decoder for Ga4 {
    fn decode(&self, payload: &[u8]) -> Result<Vec<StreamEvent>, Reject> {
        let body = json(payload)?;
        let Some(Value::Array(events)) = find(&body, "events") else {
            return Err(Reject("events is missing or no list; give a Measurement Protocol body".to_owned()));
        };
        let mut made = Vec::new();
        for (place, event) in events.iter().enumerate() {
            let within = |reject: Reject| Reject(format!("events[{place}]: {reject}"));
            let items = match find(event, "params.items") {
                None => continue,
                Some(Value::Array(items)) => items.iter().map(|item| key(item, &["item_id", "item_name"])),
                Some(other) => return Err(within(Reject(format!("params.items is {}; give a list", shown(other))))),
            };
            let items = items.collect::<Result<Vec<_>, _>>().map_err(within)?;
            let user_id = key(&body, &["user_id", "client_id"])?;
            let timed = if find(event, "timestamp_micros").is_some() { event } else { &body };
            let timestamp_ms = time_ms(timed, &["timestamp_micros"], Unit::Microseconds).map_err(within)?;
            made.extend(interactions(&user_id, items, timestamp_ms, None));
        }
        Ok(made)
    }
}

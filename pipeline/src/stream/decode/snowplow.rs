//! Snowplow enriched events as flat JSON, the form that its analytics SDKs make of the TSV.
//!
//! Items are the products of the e-commerce contexts (`..._ecommerce_product_1[].id`), those of the
//! older product context (`..._product_1[].productId`), or the `ti_sku` of a transaction item; an
//! event without any holds none. `user_id` wins over `domain_userid`; the time is `derived_tstamp`,
//! else `collector_tstamp`.

use super::fields::{find, json, key, optional_key, shown};
use super::segment::interactions;
use super::time::{Unit, time_ms};
use super::{Decoder, Reject};
use feature_store::StreamEvent;
use serde_json::Value;

/// Context, and the field of it that is the item's key.
const CONTEXTS: [(&str, &str); 2] = [
    ("contexts_com_snowplowanalytics_snowplow_ecommerce_product_1", "id"),
    ("contexts_com_snowplowanalytics_snowplow_product_1", "productId"),
];

pub(super) struct Snowplow;

impl Decoder for Snowplow {
    fn decode(&self, payload: &[u8]) -> Result<Vec<StreamEvent>, Reject> {
        let event = json(payload)?;
        if find(&event, "event_id").is_none() {
            return Err(Reject("event_id is missing; give an enriched event as JSON".to_owned()));
        }
        let mut items = Vec::new();
        for (context, field) in CONTEXTS {
            match find(&event, context) {
                None => (),
                Some(Value::Array(products)) => {
                    for product in products {
                        items.push(key(product, &[field]).map_err(|reject| Reject(format!("{context}: {reject}")))?);
                    }
                }
                Some(other) => return Err(Reject(format!("{context} is {}; give a list", shown(other)))),
            }
        }
        if items.is_empty() {
            items.extend(optional_key(&event, &["ti_sku"])?);
        }
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let user_id = key(&event, &["user_id", "domain_userid", "network_userid"])?;
        let timestamp_ms = time_ms(&event, &["derived_tstamp", "collector_tstamp"], Unit::Milliseconds)?;
        let id = optional_key(&event, &["event_id"])?;
        Ok(interactions(&user_id, items, timestamp_ms, id.as_deref()))
    }
}

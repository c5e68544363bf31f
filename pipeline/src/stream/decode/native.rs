//! This project's events as JSON, bare or in a CloudEvents 1.0 envelope (structured mode).
//!
//! ```json
//! {"user_id":"u1","item_id":"260","timestamp_ms":1700000000000,"event_id":"e1"}
//! {"type":"item_upsert","item_id":"260","timestamp_ms":1700000000000,"title":"Star Wars","text":"...",
//!  "features":{"text":[0.1,-0.2]},"attributes":{"genre":["Sci-Fi","War"],"year":1977}}
//! {"type":"item_hide","item_id":"260","timestamp_ms":1700000000000}
//! {"type":"item_expire","item_id":"260","timestamp_ms":1700000000000,"expires_at_ms":1800000000000}
//! {"type":"user_delete","user_id":"u1","timestamp_ms":1700000000000}
//! {"specversion":"1.0","id":"e1","source":"/shop","type":"interaction","time":"2023-11-14T22:13:20Z",
//!  "data":{"user_id":"u1","item_id":"260"}}
//! ```
//! Without a `type` it is an interaction. Of an item, `text`, `features` (vectors under the names that the
//! Bundle was trained with) and `attributes` may be left out; with features a running service recommends
//! the item without a new training. Of an envelope, `data` holds the event; where it states no
//! `type`, `timestamp_ms` or `event_id`, the envelope's `type`, `time` and `source` with `id` do: a
//! CloudEvents id is unique only together with its source. Unknown fields are refused in events and
//! ignored in envelopes, which may carry extensions.

use super::fields::position;
use super::time::rfc3339_ms;
use super::{Decoder, Reject};
use feature_store::{AttributeValue, Event, ItemContent, StreamEvent};
use serde::Deserialize;
use std::collections::BTreeMap;

/// The decoder.
pub(super) struct Native;

impl Decoder for Native {
    fn decode(&self, payload: &[u8]) -> Result<Vec<StreamEvent>, Reject> {
        match serde_json::from_slice::<Wire>(payload) {
            Ok(wire) => wire.event().map(|event| vec![event]),
            // An envelope has fields that an event has not.
            Err(refusal) => match serde_json::from_slice::<Envelope>(payload) {
                Ok(envelope) => envelope.event().map(|event| vec![event]),
                Err(error) => {
                    let enveloped = serde_json::from_slice::<Marker>(payload).is_ok();
                    Err(Reject(position(if enveloped { &error } else { &refusal })))
                }
            },
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    Interaction,
    ItemUpsert,
    ItemHide,
    ItemExpire,
    UserDelete,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Interaction => "interaction",
            Kind::ItemUpsert => "item_upsert",
            Kind::ItemHide => "item_hide",
            Kind::ItemExpire => "item_expire",
            Kind::UserDelete => "user_delete",
        }
    }
}

/// Every field of every kind; which of them must be there depends on the kind.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    r#type: Option<Kind>,
    user_id: Option<String>,
    item_id: Option<String>,
    timestamp_ms: Option<i64>,
    event_id: Option<String>,
    title: Option<String>,
    text: Option<String>,
    features: Option<BTreeMap<String, Vec<f32>>>,
    attributes: Option<BTreeMap<String, AttributeValue>>,
    expires_at_ms: Option<i64>,
}

impl Wire {
    fn event(self) -> Result<StreamEvent, Reject> {
        let kind = self.r#type.unwrap_or(Kind::Interaction);
        self.refuse_extra(kind)?;
        let need = |field: &str| Reject(format!("missing field `{field}` of type {:?}", kind.name()));
        let timestamp_ms = self.timestamp_ms.ok_or_else(|| need("timestamp_ms"));
        let item_id = self.item_id.ok_or_else(|| need("item_id"));
        let user_id = self.user_id.ok_or_else(|| need("user_id"));
        Ok(match kind {
            Kind::Interaction => StreamEvent::Interaction(Event {
                user_id: user_id?,
                item_id: item_id?,
                timestamp_ms: timestamp_ms?,
                event_id: self.event_id,
            }),
            Kind::UserDelete => StreamEvent::UserDelete { user_id: user_id?, timestamp_ms: timestamp_ms? },
            Kind::ItemHide => StreamEvent::ItemHide { item_id: item_id?, timestamp_ms: timestamp_ms? },
            Kind::ItemExpire => StreamEvent::ItemExpire {
                item_id: item_id?,
                timestamp_ms: timestamp_ms?,
                expires_at_ms: self.expires_at_ms.ok_or_else(|| need("expires_at_ms"))?,
            },
            Kind::ItemUpsert => StreamEvent::ItemUpsert {
                item_id: item_id?,
                timestamp_ms: timestamp_ms?,
                title: self.title.ok_or_else(|| need("title"))?,
                text: self.text,
                content: content(self.features, self.attributes)?,
            },
        })
    }

    /// A field that the kind has no use for is a mistake of the producer, not something to drop. An
    /// event id is fine everywhere: what is not an interaction may come twice anyway.
    fn refuse_extra(&self, kind: Kind) -> Result<(), Reject> {
        use Kind::{Interaction, ItemExpire, ItemUpsert, UserDelete};
        let fields = [
            ("user_id", self.user_id.is_some(), matches!(kind, Interaction | UserDelete)),
            ("item_id", self.item_id.is_some(), kind != UserDelete),
            ("title", self.title.is_some(), kind == ItemUpsert),
            ("text", self.text.is_some(), kind == ItemUpsert),
            ("features", self.features.is_some(), kind == ItemUpsert),
            ("attributes", self.attributes.is_some(), kind == ItemUpsert),
            ("expires_at_ms", self.expires_at_ms.is_some(), kind == ItemExpire),
        ];
        match fields.iter().find(|(_, given, known)| *given && !known) {
            Some((field, ..)) => {
                Err(Reject(format!("unknown field `{field}` of type {:?}; leave it out", kind.name())))
            }
            None => Ok(()),
        }
    }
}

/// Vectors and attributes, if there are any.
fn content(
    features: Option<BTreeMap<String, Vec<f32>>>,
    attributes: Option<BTreeMap<String, AttributeValue>>,
) -> Result<Option<Box<ItemContent>>, Reject> {
    if features.is_none() && attributes.is_none() {
        return Ok(None);
    }
    let content = ItemContent::new(features.unwrap_or_default(), attributes.unwrap_or_default());
    content.map(|content| Some(Box::new(content))).map_err(|error| Reject(error.to_string()))
}

#[derive(Deserialize)]
struct Marker {
    #[serde(rename = "specversion")]
    _specversion: serde::de::IgnoredAny,
}

#[derive(Deserialize)]
struct Envelope {
    specversion: String,
    id: String,
    source: String,
    r#type: String,
    time: Option<String>,
    data: Wire,
}

impl Envelope {
    fn event(self) -> Result<StreamEvent, Reject> {
        if self.specversion != "1.0" {
            return Err(Reject(format!("specversion is {:?}; CloudEvents 1.0 is accepted", self.specversion)));
        }
        let mut wire = self.data;
        if wire.r#type.is_none() {
            // An envelope's type often has a prefix, such as "com.example.interaction".
            let name = self.r#type.rsplit('.').next().unwrap_or_default();
            let kind = serde_json::from_value(serde_json::Value::String(name.to_owned()));
            wire.r#type = Some(kind.map_err(|_| {
                Reject(format!(
                    "type is {:?}; it must end in interaction, item_upsert, item_hide, item_expire or user_delete",
                    self.r#type
                ))
            })?);
        }
        if let (None, Some(time)) = (wire.timestamp_ms, &self.time) {
            let time_ms = rfc3339_ms(time);
            wire.timestamp_ms = Some(time_ms.ok_or_else(|| Reject(format!("time is {time:?}; give RFC 3339 text")))?);
        }
        if wire.event_id.is_none() {
            wire.event_id = Some(format!("{}#{}", self.source, self.id));
        }
        wire.event()
    }
}

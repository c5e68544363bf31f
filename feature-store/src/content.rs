//! What a new item brings along, so that it can be recommended before the next training: feature
//! vectors and attributes, by name.

use crate::StoreError;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Most features, and most attributes, of one item.
pub const MAX_NAMES: usize = 16;
/// Most numbers of one item's feature vectors together.
pub const MAX_FEATURE_VALUES: usize = 16_384;
/// Most values of one attribute of one item.
pub const MAX_ATTRIBUTE_VALUES: usize = 64;
/// Longest name of a feature or an attribute, and longest value of an attribute, in bytes.
pub const MAX_NAME_BYTES: usize = 256;

/// Feature vectors and attributes of one item. Every number is finite and every list within its limit.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct ItemContent {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    features: BTreeMap<String, Vec<f32>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: BTreeMap<String, AttributeValue>,
}

/// No number of it is NaN, so equality is an equivalence.
impl Eq for ItemContent {}

/// What an item has under an attribute's name. In JSON a number, a text, or a list of texts.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttributeValue {
    /// A number, such as a year.
    Number(f64),
    /// A text, such as a language.
    Text(String),
    /// Several texts, such as genres.
    Texts(Vec<String>),
}

impl ItemContent {
    /// Checks and keeps them.
    ///
    /// # Errors
    /// A name or value that is empty or too long, too many of them, or a number that is not finite; the
    /// message names it.
    pub fn new(
        features: BTreeMap<String, Vec<f32>>,
        attributes: BTreeMap<String, AttributeValue>,
    ) -> Result<ItemContent, StoreError> {
        check_names("features", features.keys())?;
        check_names("attributes", attributes.keys())?;
        let values: usize = features.values().map(Vec::len).sum();
        if values > MAX_FEATURE_VALUES {
            return Err(invalid(
                "features",
                format!("hold {values} numbers; at most {MAX_FEATURE_VALUES} are accepted"),
            ));
        }
        for (name, vector) in &features {
            if let Some(at) = vector.iter().position(|value| !value.is_finite()) {
                return Err(invalid("features", format!("{name}[{at}] is {}; send finite numbers", vector[at])));
            }
        }
        attributes.iter().try_for_each(|(name, value)| check_attribute(name, value))?;
        Ok(ItemContent { features, attributes })
    }

    /// Vectors by feature name.
    pub fn features(&self) -> &BTreeMap<String, Vec<f32>> {
        &self.features
    }

    /// Values by attribute name.
    pub fn attributes(&self) -> &BTreeMap<String, AttributeValue> {
        &self.attributes
    }
}

impl AttributeValue {
    /// The texts, one or several; none of a number.
    pub fn texts(&self) -> &[String] {
        match self {
            AttributeValue::Number(_) => &[],
            AttributeValue::Text(text) => std::slice::from_ref(text),
            AttributeValue::Texts(texts) => texts,
        }
    }
}

fn check_names<'a>(field: &'static str, names: impl ExactSizeIterator<Item = &'a String>) -> Result<(), StoreError> {
    let count = names.len();
    if count > MAX_NAMES {
        return Err(invalid(field, format!("has {count} names; at most {MAX_NAMES} are accepted")));
    }
    for name in names {
        check_text(field, "a name", name)?;
    }
    Ok(())
}

fn check_attribute(name: &str, value: &AttributeValue) -> Result<(), StoreError> {
    if let AttributeValue::Number(number) = value
        && !number.is_finite()
    {
        return Err(invalid("attributes", format!("{name} is {number}; send a finite number")));
    }
    let texts = value.texts();
    if texts.len() > MAX_ATTRIBUTE_VALUES {
        let count = texts.len();
        return Err(invalid("attributes", format!("{name} has {count} values; at most {MAX_ATTRIBUTE_VALUES}")));
    }
    texts.iter().try_for_each(|text| check_text("attributes", name, text))
}

fn check_text(field: &'static str, what: &str, text: &str) -> Result<(), StoreError> {
    match text.len() {
        0 => Err(invalid(field, format!("{what} is empty; send 1 to {MAX_NAME_BYTES} bytes"))),
        bytes if bytes > MAX_NAME_BYTES => {
            Err(invalid(field, format!("{what} has {bytes} bytes; at most {MAX_NAME_BYTES} are accepted")))
        }
        _ => Ok(()),
    }
}

fn invalid(field: &'static str, reason: String) -> StoreError {
    StoreError::invalid(field, reason)
}

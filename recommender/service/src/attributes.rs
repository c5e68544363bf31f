//! Attributes of items as columns that predicates are asked of: those of a Bundle's items once, those of
//! added items whenever these change.

use crate::problem::Problem;
use actix_web::http::StatusCode;
use feature_store::{Attribute, AttributeValue, AttributeValues};
use retrieval::{Metadata, RetrievalError};
use std::collections::BTreeMap;

/// The columns of a Bundle's own items.
///
/// # Errors
/// Never for attributes that a Bundle was opened with.
pub(crate) fn of_bundle(attributes: &[Attribute], items: usize) -> Result<Metadata, RetrievalError> {
    let mut metadata = Metadata::new(items);
    for Attribute { name, values } in attributes {
        match values {
            AttributeValues::Texts(texts) => {
                let of_item = |(id, texts): (u32, &Vec<String>)| {
                    texts.iter().map(move |text| (id, text.clone())).collect::<Vec<_>>()
                };
                metadata.text(name, (1..).zip(texts).flat_map(of_item))?;
            }
            AttributeValues::Numbers(numbers) => {
                metadata.number(name, (1..).zip(numbers).filter_map(|(id, number)| Some((id, (*number)?))))?;
            }
        }
    }
    Ok(metadata)
}

/// The same columns for added items, each with what came with it. What a Bundle has no attribute for, or
/// one of the other type, is passed over.
///
/// # Errors
/// Never for values that were stored.
pub(crate) fn of_added<'a>(
    attributes: &[Attribute],
    items: impl ExactSizeIterator<Item = &'a BTreeMap<String, AttributeValue>> + Clone,
) -> Result<Metadata, RetrievalError> {
    let mut metadata = Metadata::new(items.len());
    for Attribute { name, values } in attributes {
        let given = || (1..).zip(items.clone()).filter_map(|(id, given)| Some((id, given.get(name)?)));
        match values {
            AttributeValues::Texts(_) => {
                let texts = given().flat_map(|(id, value)| value.texts().iter().map(move |text| (id, text.clone())));
                metadata.text(name, texts)?;
            }
            AttributeValues::Numbers(_) => {
                let number = |(id, value): (u32, &AttributeValue)| match value {
                    AttributeValue::Number(number) => Some((id, *number)),
                    _ => None,
                };
                metadata.number(name, given().filter_map(number))?;
            }
        }
    }
    Ok(metadata)
}

/// Whether a Bundle has the attributes of a new item, and of these types.
///
/// # Errors
/// 422 that names the first that it has not.
pub(crate) fn check(attributes: &[Attribute], given: &BTreeMap<String, AttributeValue>) -> Result<(), Problem> {
    for (name, value) in given {
        let known = attributes.iter().find(|attribute| attribute.name == *name);
        let wrong = match (known.map(|attribute| &attribute.values), value) {
            (None, _) => {
                let known: Vec<&str> = attributes.iter().map(|attribute| attribute.name.as_str()).collect();
                format!("is no attribute of this bundle; its attributes are {known:?}")
            }
            (Some(AttributeValues::Numbers(_)), AttributeValue::Number(_)) => continue,
            (Some(AttributeValues::Numbers(_)), _) => "is text; send a number".to_owned(),
            (Some(AttributeValues::Texts(_)), AttributeValue::Number(_)) => "is a number; send text".to_owned(),
            (Some(AttributeValues::Texts(_)), _) => continue,
        };
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("attributes.{name} {wrong}")));
    }
    Ok(())
}

/// What an attribute holds, as said to clients.
pub(crate) fn kind(attribute: &Attribute) -> &'static str {
    match attribute.values {
        AttributeValues::Texts(_) => "text",
        AttributeValues::Numbers(_) => "number",
    }
}

//! Attributes: what is known of every item besides features, such as genres or a year, for filters.
//!
//! On disk `attributes.parquet`, a column an attribute: row `i` is item `i` (row 0, PAD, has no value),
//! lists of text or numbers that may be absent. Where there is no attribute there is no such file.

use crate::StoreError;
use crate::content::{MAX_ATTRIBUTE_VALUES, MAX_NAME_BYTES, MAX_NAMES};
use crate::tables::{parts, read, write};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, ListBuilder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Float64Type};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// File name in a Snapshot and in a Bundle.
pub const ATTRIBUTES_FILE: &str = "attributes.parquet";

/// An attribute of every item.
#[derive(Debug, Clone, PartialEq)]
pub struct Attribute {
    /// Name in requests: letters, digits, `-` and `_`.
    pub name: String,
    /// What each item has.
    pub values: AttributeValues,
}

/// The values of an attribute; element `i` is item `i + 1`'s.
#[derive(Debug, Clone, PartialEq)]
pub enum AttributeValues {
    /// Any number of texts an item.
    Texts(Vec<Vec<String>>),
    /// One number an item, or none.
    Numbers(Vec<Option<f64>>),
}

impl AttributeValues {
    /// Number of items.
    pub fn len(&self) -> usize {
        match self {
            AttributeValues::Texts(values) => values.len(),
            AttributeValues::Numbers(values) => values.len(),
        }
    }

    /// Whether there is no item.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Checks attributes of `items` items: names, lengths and limits.
///
/// # Errors
/// The first attribute that breaks a rule, and its item, named.
pub fn check_attributes(attributes: &[Attribute], items: usize) -> Result<(), StoreError> {
    let invalid = |reason: String| Err(StoreError::invalid("attributes", reason));
    if attributes.len() > MAX_NAMES {
        return invalid(format!("has {} names; at most {MAX_NAMES} are kept", attributes.len()));
    }
    for (at, Attribute { name, values }) in attributes.iter().enumerate() {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.chars().all(plain) {
            return invalid(format!("{name:?} is no name; use letters, digits, - and _"));
        }
        if attributes[..at].iter().any(|other| other.name == *name) {
            return invalid(format!("{name:?} is given twice; rename one"));
        }
        if values.len() != items {
            return invalid(format!("{name} has values of {} items, and there are {items}", values.len()));
        }
        if let Some((item, wrong)) = first_wrong(values) {
            return invalid(format!("{name} of item {} {wrong}", item + 1));
        }
    }
    Ok(())
}

/// The first item whose values break a limit, from 0, and how.
fn first_wrong(values: &AttributeValues) -> Option<(usize, String)> {
    match values {
        AttributeValues::Numbers(numbers) => {
            let at = numbers.iter().position(|number| number.is_some_and(|number| !number.is_finite()))?;
            Some((at, "is not finite; leave it out".to_owned()))
        }
        AttributeValues::Texts(items) => items.iter().enumerate().find_map(|(at, texts)| {
            if texts.len() > MAX_ATTRIBUTE_VALUES {
                return Some((at, format!("has {} values; at most {MAX_ATTRIBUTE_VALUES} are kept", texts.len())));
            }
            let bad = texts.iter().find(|text| text.is_empty() || text.len() > MAX_NAME_BYTES)?;
            Some((at, format!("holds a text of {} bytes; 1 to {MAX_NAME_BYTES} are kept", bad.len())))
        }),
    }
}

/// Writes attributes that [`check_attributes`] accepted, PAD row first.
///
/// # Errors
/// The file cannot be written.
pub fn write_attributes(path: &Path, attributes: &[Attribute]) -> Result<(), StoreError> {
    let columns = |part: Range<usize>| {
        attributes.iter().map(|attribute| (attribute.name.as_str(), column(&attribute.values, part.clone()))).collect()
    };
    let rows = attributes.first().map_or(0, |attribute| attribute.values.len() + 1);
    let bytes = |row: usize| attributes.iter().map(|attribute| text_bytes(&attribute.values, row)).sum();
    write(path, parts(rows, bytes).into_iter().map(columns))
}

/// Bytes of text that a row of an attribute holds.
fn text_bytes(values: &AttributeValues, row: usize) -> usize {
    match (values, row.checked_sub(1)) {
        (AttributeValues::Texts(items), Some(at)) => items[at].iter().map(String::len).sum(),
        _ => 0,
    }
}

/// Reads what [`write_attributes`] wrote, for a table of `items` items.
///
/// # Errors
/// A file of another kind, with other columns, or with another number of rows.
pub fn read_attributes(path: &Path, items: usize) -> Result<Vec<Attribute>, StoreError> {
    let mut attributes: Vec<Attribute> = Vec::new();
    for batch in read(path)? {
        for (at, field) in batch.schema().fields().iter().enumerate() {
            let values = values(&batch, at).ok_or_else(|| {
                StoreError::corrupt(
                    path,
                    format!("column `{}` is neither texts nor numbers; build it again", field.name()),
                )
            })?;
            match attributes.get_mut(at) {
                Some(attribute) => extend(&mut attribute.values, values),
                None => attributes.push(Attribute { name: field.name().clone(), values }),
            }
        }
    }
    for attribute in &mut attributes {
        // The row of PAD.
        match &mut attribute.values {
            AttributeValues::Texts(values) if !values.is_empty() => drop(values.remove(0)),
            AttributeValues::Numbers(values) if !values.is_empty() => drop(values.remove(0)),
            _ => {}
        }
    }
    check_attributes(&attributes, items)
        .map_err(|error| StoreError::corrupt(path, format!("{error}; build it again")))?;
    Ok(attributes)
}

/// Some rows of an attribute; row 0 is PAD, which has no value.
fn column(values: &AttributeValues, rows: Range<usize>) -> ArrayRef {
    let places = rows.map(|row| row.checked_sub(1));
    match values {
        AttributeValues::Numbers(values) => {
            Arc::new(Float64Array::from_iter(places.map(|at| at.and_then(|at| values[at]))))
        }
        AttributeValues::Texts(items) => {
            let mut lists = ListBuilder::new(StringBuilder::new());
            for at in places {
                let texts = at.map_or(&[][..], |at| &items[at]);
                texts.iter().for_each(|text| lists.values().append_value(text));
                lists.append(true);
            }
            Arc::new(lists.finish())
        }
    }
}

fn values(batch: &RecordBatch, at: usize) -> Option<AttributeValues> {
    let column = batch.column(at);
    match column.data_type() {
        DataType::Float64 => Some(AttributeValues::Numbers(column.as_primitive::<Float64Type>().iter().collect())),
        DataType::List(_) => {
            let texts = |list: Option<ArrayRef>| -> Option<Vec<String>> {
                let Some(list) = list else { return Some(Vec::new()) };
                Some(list.as_string_opt::<i32>()?.iter().flatten().map(str::to_owned).collect())
            };
            column.as_list_opt::<i32>()?.iter().map(texts).collect::<Option<Vec<_>>>().map(AttributeValues::Texts)
        }
        _ => None,
    }
}

fn extend(values: &mut AttributeValues, more: AttributeValues) {
    match (values, more) {
        (AttributeValues::Texts(values), AttributeValues::Texts(more)) => values.extend(more),
        (AttributeValues::Numbers(values), AttributeValues::Numbers(more)) => values.extend(more),
        // All batches of a file have one schema.
        _ => {}
    }
}

//! Attributes of items from columns of the `items` query: texts, one or several an item, and numbers.

use crate::BuildError;
use crate::catalogue::QUERY;
use crate::config::{AttributeConfig, AttributeKind};
use arrow::array::{Array, StringArray};
use feature_store::{Attribute, AttributeValues};

/// The values of an attribute in the order of a vocabulary; `rows` has the row of each item, none where
/// the query gave the item none.
///
/// # Errors
/// A value of a number attribute that is no number; the message names the item.
pub(crate) fn attribute(
    config: &AttributeConfig,
    column: &StringArray,
    keys: &[String],
    rows: &[Option<usize>],
) -> Result<Attribute, BuildError> {
    let text = |row: &Option<usize>| row.filter(|row| !column.is_null(*row)).map(|row| column.value(row).trim());
    let texts = rows.iter().map(|row| text(row).unwrap_or_default());
    let values = match config.kind {
        AttributeKind::Text => {
            AttributeValues::Texts(texts.map(|text| parts(text, config.separator.as_deref())).collect())
        }
        AttributeKind::Number => {
            let number = |(text, key): (&str, &String)| match text {
                "" => Ok(None),
                text => text.parse().map(Some).map_err(|_| {
                    let (name, column) = (&config.name, &config.column);
                    let reason =
                        format!("column `{column}` of item {key:?} is {text:?}, and attribute {name:?} is of numbers");
                    BuildError::query(QUERY, reason)
                }),
            };
            AttributeValues::Numbers(texts.zip(keys).map(number).collect::<Result<_, _>>()?)
        }
    };
    Ok(Attribute { name: config.name.clone(), values })
}

/// The texts of a value, each once, in order.
fn parts(text: &str, separator: Option<&str>) -> Vec<String> {
    let all: Vec<&str> = match separator {
        Some(separator) => text.split(separator).collect(),
        None => vec![text],
    };
    let mut parts: Vec<String> = Vec::with_capacity(all.len());
    for part in all.into_iter().map(str::trim).filter(|part| !part.is_empty()) {
        if !parts.iter().any(|known| known == part) {
            parts.push(part.to_owned());
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::parts;

    #[test]
    fn a_value_is_split_trimmed_and_kept_once() {
        let check = |text, separator, expect: &[&str]| assert_eq!(parts(text, separator), expect, "{text:?}");
        check("Drama|War|Drama", Some("|"), &["Drama", "War"]);
        check(" Drama | | War ", Some("|"), &["Drama", "War"]);
        check("Drama|War", None, &["Drama|War"]);
        check("", Some("|"), &[]);
    }
}

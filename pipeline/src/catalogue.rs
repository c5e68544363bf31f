//! The catalogue: one row an item from the `items` query, the item's text from the template, and its
//! attributes.

use crate::BuildError;
use crate::attributes::attribute;
use crate::config::ItemsConfig;
use crate::tables::{Tables, column_names, text_column};
use crate::template::Template;
use arrow::array::{Array, RecordBatch, StringArray};
use feature_store::{Attribute, Item};
use std::collections::HashMap;

/// What the `items` query is called in errors.
pub(crate) const QUERY: &str = "items.sql";

/// What is known of the items of a vocabulary.
pub(crate) struct Catalogue {
    /// In the vocabulary's order.
    pub(crate) items: Vec<Item>,
    /// Keys that the query had no row for: those items are called by their key, and have no text.
    pub(crate) without_row: Vec<String>,
    /// In the config's order.
    pub(crate) attributes: Vec<Attribute>,
}

/// The items of a vocabulary in its order.
///
/// # Errors
/// The query fails, gives no row or no item of the vocabulary, an item twice, or not the columns that are asked for.
pub(crate) async fn catalogue(tables: &Tables, config: &ItemsConfig, keys: &[String]) -> Result<Catalogue, BuildError> {
    let template = Template::parse(&config.text_template)?;
    let rows = tables.query(QUERY, &config.sql).await?;
    if rows.num_rows() == 0 {
        return Err(BuildError::query(
            QUERY,
            "gives no row; correct its FROM, JOIN or WHERE: it must give an item a row",
        ));
    }
    let item = column(&rows, "item", QUERY)?;
    let title = column(&rows, "title", QUERY)?;
    let parts = template
        .columns()
        .map(|name| column(&rows, name, "items.text_template"))
        .collect::<Result<Vec<StringArray>, _>>()?;
    let row_of = row_of_key(&item)?;
    let row_of: Vec<Option<usize>> = keys.iter().map(|key| row_of.get(key.as_str()).copied()).collect();
    if let (true, Some(key)) = (row_of.iter().all(Option::is_none), keys.first()) {
        let (given, shown) = (item.len(), item.value(0));
        return Err(BuildError::query(
            QUERY,
            format!(
                "gives {given} rows, none of an item of the interactions: its keys are such as {shown:?}, theirs such \
                 as {key:?}; make them the same"
            ),
        ));
    }
    let attributes = config.attributes.iter().map(|wanted| {
        let asked_by = format!("items.attributes.{}", wanted.name);
        attribute(wanted, &column(&rows, &wanted.column, &asked_by)?, keys, &row_of)
    });
    let attributes = attributes.collect::<Result<Vec<_>, _>>()?;
    let mut without_row = Vec::new();
    let items = keys.iter().zip(&row_of).map(|(key, row)| match *row {
        None => {
            without_row.push(key.clone());
            Item { key: key.clone(), title: key.clone(), text: String::new() }
        }
        Some(row) => {
            let values: Vec<&str> = parts.iter().map(|part| value(part, row)).collect();
            let title = Some(value(&title, row).trim()).filter(|title| !title.is_empty()).unwrap_or(key);
            Item { key: key.clone(), title: title.to_owned(), text: template.fill(&values) }
        }
    });
    let items = items.collect();
    Ok(Catalogue { items, without_row, attributes })
}

fn row_of_key(item: &StringArray) -> Result<HashMap<&str, usize>, BuildError> {
    let mut row_of = HashMap::with_capacity(item.len());
    for (row, key) in item.iter().enumerate() {
        let Some(key) = key else {
            return Err(BuildError::query(QUERY, format!("row {} has no `item`; leave such rows out", row + 1)));
        };
        if let Some(first) = row_of.insert(key, row) {
            return Err(BuildError::query(
                QUERY,
                format!("gives item {key:?} in rows {} and {}; give one row an item (GROUP BY)", first + 1, row + 1),
            ));
        }
    }
    Ok(row_of)
}

fn column(rows: &RecordBatch, name: &str, asked_by: &str) -> Result<StringArray, BuildError> {
    let found = rows.column_by_name(name).ok_or_else(|| {
        let columns = column_names(rows);
        BuildError::query(asked_by, format!("needs column `{name}`, which {QUERY} does not give; it gives {columns}"))
    })?;
    text_column(found)
        .ok_or_else(|| BuildError::query(asked_by, format!("column `{name}` is {}, not text", found.data_type())))
}

fn value(column: &StringArray, row: usize) -> &str {
    if column.is_null(row) { "" } else { column.value(row) }
}

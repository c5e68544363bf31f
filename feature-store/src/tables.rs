//! The Parquet tables of a Snapshot: users, items, interactions.
//! Row `i` of `items.parquet` is item `i`, so its first row is PAD with empty strings.

use crate::{Interaction, Item, StoreError};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, UInt32Array};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::path::Path;
use std::sync::Arc;

pub(crate) fn write_users(path: &Path, users: &[String]) -> Result<(), StoreError> {
    write(path, vec![("user", Arc::new(StringArray::from_iter_values(users)) as ArrayRef)])
}

pub(crate) fn read_users(path: &Path) -> Result<Vec<String>, StoreError> {
    let mut users = Vec::new();
    for batch in read(path)? {
        users.extend(strings(&batch, "user", path)?);
    }
    Ok(users)
}

/// Writes the item table, PAD row first.
pub fn write_items(path: &Path, items: &[Item]) -> Result<(), StoreError> {
    let column = |field: fn(&Item) -> &str| -> ArrayRef {
        Arc::new(StringArray::from_iter_values(std::iter::once("").chain(items.iter().map(field))))
    };
    let ids = UInt32Array::from_iter_values(0..=items.len() as u32);
    write(
        path,
        vec![
            ("item_id", Arc::new(ids)),
            ("key", column(|item| &item.key)),
            ("title", column(|item| &item.title)),
            ("text", column(|item| &item.text)),
        ],
    )
}

/// Reads an item table; element `i` is item `i + 1` (the PAD row is checked and dropped).
pub fn read_items(path: &Path) -> Result<Vec<Item>, StoreError> {
    let mut items = Vec::new();
    let mut expected = 0u32;
    for batch in read(path)? {
        let ids = column::<UInt32Array>(&batch, "item_id", path)?.values().to_vec();
        let (keys, titles, texts) =
            (strings(&batch, "key", path)?, strings(&batch, "title", path)?, strings(&batch, "text", path)?);
        for (((id, key), title), text) in ids.into_iter().zip(keys).zip(titles).zip(texts) {
            if id != expected {
                return Err(StoreError::corrupt(
                    path,
                    format!("row {expected} has item_id {id}; row i must be item i"),
                ));
            }
            expected += 1;
            items.push(Item { key, title, text });
        }
    }
    if items.is_empty() || !items[0].key.is_empty() {
        return Err(StoreError::corrupt(path, "its first row must be PAD with an empty key; build it again"));
    }
    items.remove(0);
    Ok(items)
}

pub(crate) fn write_interactions(path: &Path, rows: &[Interaction]) -> Result<(), StoreError> {
    write(
        path,
        vec![
            ("user", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.user)))),
            ("item_id", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.item)))),
            ("timestamp_ms", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.timestamp_ms)))),
        ],
    )
}

pub(crate) fn read_interactions(path: &Path) -> Result<Vec<Interaction>, StoreError> {
    let mut rows = Vec::new();
    for batch in read(path)? {
        let users = column::<UInt32Array>(&batch, "user", path)?;
        let items = column::<UInt32Array>(&batch, "item_id", path)?;
        let times = column::<Int64Array>(&batch, "timestamp_ms", path)?;
        rows.extend((0..batch.num_rows()).map(|i| Interaction {
            user: users.value(i),
            item: items.value(i),
            timestamp_ms: times.value(i),
        }));
    }
    Ok(rows)
}

pub(crate) fn write(path: &Path, columns: Vec<(&str, ArrayRef)>) -> Result<(), StoreError> {
    let batch = RecordBatch::try_from_iter(columns).map_err(|e| StoreError::corrupt(path, e))?;
    let file = std::fs::File::create(path).map_err(StoreError::io(path))?;
    // A fixed writer name: the bytes must not change with the library's version string alone.
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by("feature-store".to_owned())
        .build();
    let failure = |error| StoreError::unwritten(path, error);
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).map_err(failure)?;
    writer.write(&batch).map_err(failure)?;
    writer.close().map_err(failure)?;
    Ok(())
}

pub(crate) fn read(path: &Path) -> Result<Vec<RecordBatch>, StoreError> {
    let unreadable = |e: &dyn std::fmt::Display| {
        StoreError::corrupt(path, format!("is not a whole Parquet file ({e}); build it again"))
    };
    let file = std::fs::File::open(path).map_err(StoreError::io(path))?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(|builder| builder.build())
        .map_err(|e| unreadable(&e))?;
    reader.collect::<Result<_, _>>().map_err(|e| unreadable(&e))
}

fn column<'a, A: 'static>(batch: &'a RecordBatch, name: &str, path: &Path) -> Result<&'a A, StoreError> {
    batch
        .column_by_name(name)
        .ok_or_else(|| StoreError::corrupt(path, format!("has no column `{name}`; build it again")))?
        .as_any()
        .downcast_ref::<A>()
        .ok_or_else(|| StoreError::corrupt(path, format!("column `{name}` has another type than this version writes")))
}

fn strings(batch: &RecordBatch, name: &str, path: &Path) -> Result<Vec<String>, StoreError> {
    let values = column::<StringArray>(batch, name, path)?;
    Ok((0..values.len()).map(|i| values.value(i).to_owned()).collect())
}

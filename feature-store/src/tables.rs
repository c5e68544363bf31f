//! The Parquet tables of a Snapshot: users, items, interactions.
//! Row `i` of `items.parquet` is item `i`, so its first row is PAD with empty strings.

use crate::{Interaction, Item, StoreError};
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray, UInt32Array};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Bytes of text after which an array ends: its offsets are 32 bits wide, and making a longer one panics. Tests of a table
/// in parts need not be so large.
const PART_BYTES: usize = if cfg!(test) { 1 << 10 } else { 1 << 30 };

pub(crate) fn write_users(path: &Path, users: &[String]) -> Result<(), StoreError> {
    let columns =
        |part: Range<usize>| vec![("user", Arc::new(StringArray::from_iter_values(&users[part])) as ArrayRef)];
    write(path, parts(users.len(), |at| users[at].len()).into_iter().map(columns))
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
    let item = |row: usize| row.checked_sub(1).map(|at| &items[at]);
    let columns = |part: Range<usize>| {
        let column = |field: fn(&Item) -> &str| -> ArrayRef {
            Arc::new(StringArray::from_iter_values(part.clone().map(|row| item(row).map_or("", field))))
        };
        let ids: ArrayRef = Arc::new(UInt32Array::from_iter_values(part.start as u32..part.end as u32));
        vec![
            ("item_id", ids),
            ("key", column(|item| &item.key)),
            ("title", column(|item| &item.title)),
            ("text", column(|item| &item.text)),
        ]
    };
    let bytes = |row: usize| item(row).map_or(0, |item| item.key.len() + item.title.len() + item.text.len());
    write(path, parts(items.len() + 1, bytes).into_iter().map(columns))
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
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.user)))),
        ("item_id", Arc::new(UInt32Array::from_iter_values(rows.iter().map(|r| r.item)))),
        ("timestamp_ms", Arc::new(Int64Array::from_iter_values(rows.iter().map(|r| r.timestamp_ms)))),
    ];
    write(path, [columns])
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

/// Cuts rows into parts that arrays can hold; `bytes` says how much text a row has. One part at least.
pub(crate) fn parts(rows: usize, bytes: impl Fn(usize) -> usize) -> Vec<Range<usize>> {
    cut(rows, PART_BYTES, bytes)
}

fn cut(rows: usize, most_bytes: usize, bytes: impl Fn(usize) -> usize) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut held) = (Vec::new(), 0, 0);
    for row in 0..rows {
        let more = bytes(row);
        if row > start && held + more > most_bytes {
            parts.push(start..row);
            (start, held) = (row, 0);
        }
        held += more;
    }
    parts.push(start..rows);
    parts
}

/// Writes the columns of one part after another; the first says what the columns are.
pub(crate) fn write<'a>(
    path: &Path,
    parts: impl IntoIterator<Item = Vec<(&'a str, ArrayRef)>>,
) -> Result<(), StoreError> {
    let mut parts = parts.into_iter();
    let first = parts.next().unwrap_or_default();
    let batch = RecordBatch::try_from_iter(first).map_err(|e| StoreError::corrupt(path, e))?;
    let file = File::create(path).map_err(StoreError::io(path))?;
    // A fixed writer name: the bytes must not change with the library's version string alone.
    let properties = WriterProperties::builder()
        .set_compression(Compression::SNAPPY)
        .set_created_by("feature-store".to_owned())
        .build();
    let failure = |error| StoreError::unwritten(path, error);
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).map_err(failure)?;
    writer.write(&batch).map_err(failure)?;
    for part in parts {
        let columns = part.into_iter().map(|(_, column)| column).collect();
        let batch = RecordBatch::try_new(batch.schema(), columns).map_err(|e| StoreError::corrupt(path, e))?;
        writer.write(&batch).map_err(failure)?;
    }
    writer.close().map_err(failure)?;
    Ok(())
}

pub(crate) fn read(path: &Path) -> Result<Vec<RecordBatch>, StoreError> {
    let reader = open(path)?.build().map_err(|e| unreadable(path, &e))?;
    reader.collect::<Result<_, _>>().map_err(|e| unreadable(path, &e))
}

/// How many rows a table says that it has.
pub(crate) fn row_count(path: &Path) -> Result<u64, StoreError> {
    Ok(u64::try_from(open(path)?.metadata().file_metadata().num_rows()).unwrap_or(0))
}

fn open(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>, StoreError> {
    let file = File::open(path).map_err(StoreError::io(path))?;
    ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| unreadable(path, &e))
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> StoreError {
    StoreError::corrupt(path, format!("is not a whole Parquet file ({error}); build it again"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_cut_by_their_bytes_and_none_is_left_out() {
        let check = |bytes: &[usize], expect: &[(usize, usize)]| {
            let cut = cut(bytes.len(), 10, |row| bytes[row]);
            let cut: Vec<(usize, usize)> = cut.into_iter().map(|rows| (rows.start, rows.end)).collect();
            assert_eq!(cut, expect, "{bytes:?}");
        };
        check(&[], &[(0, 0)]);
        check(&[1, 1, 1], &[(0, 3)]);
        check(&[5, 5, 5], &[(0, 2), (2, 3)]);
        check(&[99, 1, 99], &[(0, 1), (1, 2), (2, 3)]);
    }

    /// Parts of a table are read back as one, whatever their columns hold.
    #[test]
    fn a_table_in_parts_is_one_table() {
        let dir = tempfile::tempdir().unwrap();
        let users: Vec<String> = (0..3 * PART_BYTES).map(|user| user.to_string()).collect();
        let path = dir.path().join("users.parquet");
        write_users(&path, &users).unwrap();
        assert_eq!((row_count(&path).unwrap(), read_users(&path).unwrap()), (users.len() as u64, users.clone()));
        let items: Vec<Item> =
            users.iter().map(|key| Item { key: key.clone(), title: String::new(), text: "t".to_owned() }).collect();
        let path = dir.path().join("items.parquet");
        write_items(&path, &items).unwrap();
        assert_eq!((row_count(&path).unwrap(), read_items(&path).unwrap()), (items.len() as u64 + 1, items));
    }
}

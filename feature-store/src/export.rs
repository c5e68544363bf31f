//! Histories back to a table, so that the next build sees what the stream brought.

use crate::durable::rename_whole;
use crate::parts::create_part;
use crate::{StoreError, UserStateStore};
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Rows held in memory before they are written.
const ROWS: usize = 65_536;

/// Writes every history as one Parquet table: `user`, `item`, `timestamp_ms`, by user and then in
/// the history's order, so that a build reads equal times in the order they came. The file appears
/// whole or not at all, replacing an older one. Returns the number of rows.
///
/// # Errors
/// The store's or the system's failure.
pub fn export_interactions(store: &UserStateStore, path: &Path) -> Result<u64, StoreError> {
    let (part, file) = create_part(path)?;
    // Open, and so locked, until it has its name.
    let (rows, _lock) = write(store, file, &part).inspect_err(|_| {
        // Best effort: the error that is returned is the one that matters.
        let _ = std::fs::remove_file(&part);
    })?;
    rename_whole(&part, path)?;
    Ok(rows)
}

fn write(store: &UserStateStore, file: File, path: &Path) -> Result<(u64, File), StoreError> {
    let fields = [("user", DataType::Utf8), ("item", DataType::Utf8), ("timestamp_ms", DataType::Int64)];
    let schema = Arc::new(Schema::new(fields.map(|(name, kind)| Field::new(name, kind, false)).to_vec()));
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let failure = |error| StoreError::unwritten(path, error);
    let mut writer = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).map_err(failure)?;
    let mut rows = Rows::default();
    let mut total = 0_u64;
    store.for_each_user(|user, history| {
        total += history.len() as u64;
        for entry in history {
            rows.users.push(user.to_owned());
            rows.items.push(entry.item_id);
            rows.times_ms.push(entry.timestamp_ms);
        }
        if rows.users.len() >= ROWS {
            writer.write(&rows.take(&schema)).map_err(failure)?;
        }
        Ok::<(), StoreError>(())
    })?;
    writer.write(&rows.take(&schema)).map_err(failure)?;
    let file = writer.into_inner().map_err(failure)?;
    file.sync_all().map_err(StoreError::io(path))?;
    Ok((total, file))
}

#[derive(Default)]
struct Rows {
    users: Vec<String>,
    items: Vec<String>,
    times_ms: Vec<i64>,
}

impl Rows {
    fn take(&mut self, schema: &Arc<Schema>) -> RecordBatch {
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from(std::mem::take(&mut self.users))),
            Arc::new(StringArray::from(std::mem::take(&mut self.items))),
            Arc::new(Int64Array::from(std::mem::take(&mut self.times_ms))),
        ];
        RecordBatch::try_new(Arc::clone(schema), columns).expect("three columns of one length, typed as the schema")
    }
}

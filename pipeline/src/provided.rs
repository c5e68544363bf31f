//! Features that are already there, in place of an encoder: read, then aligned by item key.
//!
//! | file | rows |
//! |---|---|
//! | `.parquet` | column `item` is the key, column `features` a list of numbers or null |
//! | `.npy` | f16, f32 or f64 `[rows, dim]` in C order; row `r` belongs to row `r` of the keys file |
//! | `.safetensors` | `features` `[rows, dim]` F16 or F32 and, if rows are absent, `mask` `[rows]` U8; rows as for npy |
//!
//! A keys file is CSV with a column `item`. Values are taken as they are. An item without a row (or
//! with null, or mask 0) has a zero row and mask 0; rows of items that were dropped are ignored. A file without a row
//! of any item is of other items, and refused.

use crate::BuildError;
use crate::config::{FeatureConfig, TableFormat};
use crate::features::Notes;
use crate::tables::{Table, context, read_table, text_column};
use arrow::array::{Array, AsArray, FixedSizeListArray, Float32Array};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use feature_store::{EncoderInfo, FeatureBlock, FeatureMatrix, Item};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Rows by key as a file gives them.
struct Provided {
    keys: Vec<String>,
    dim: usize,
    /// Row-major `[keys, dim]`.
    values: Vec<f32>,
    mask: Vec<u8>,
}

/// Reads a file of features and aligns it.
pub(crate) async fn provided_block(
    feature: &FeatureConfig,
    file: &Path,
    keys: Option<&Path>,
    base_dir: &Path,
    items: &[Item],
    notes: &mut Notes,
) -> Result<FeatureBlock, BuildError> {
    let path = base_dir.join(file);
    std::fs::metadata(&path).map_err(BuildError::io(&path))?;
    let keys = keys.map(|keys| base_dir.join(keys));
    let provided = match path.extension().and_then(|e| e.to_str()) {
        Some("parquet") => parquet(&path, feature, keys).await?,
        Some("npy") => npy(&path, read_keys(feature, keys).await?)?,
        Some("safetensors") => safetensors(&path, read_keys(feature, keys).await?)?,
        _ => return Err(BuildError::input(&path, "is no .parquet, .npy or .safetensors file; those are read")),
    };
    if provided.dim == 0 {
        return Err(BuildError::input(&path, "has rows of width 0; features need at least one column"));
    }
    let encoder = EncoderInfo { name: file.display().to_string(), weights_sha256: None };
    aligned(&path, feature, encoder, &provided, items, notes)
}

fn aligned(
    path: &Path,
    feature: &FeatureConfig,
    encoder: EncoderInfo,
    provided: &Provided,
    items: &[Item],
    notes: &mut Notes,
) -> Result<FeatureBlock, BuildError> {
    let dim = provided.dim;
    let mut row_of = HashMap::with_capacity(provided.keys.len());
    for (row, key) in provided.keys.iter().enumerate() {
        if let Some(first) = row_of.insert(key.as_str(), row) {
            let rows = format!("rows {} and {}", first + 1, row + 1);
            return Err(BuildError::input(path, format!("has two rows of item {key:?}, {rows}; keep one")));
        }
    }
    if let (false, Some(item), Some(given)) =
        (items.iter().any(|item| row_of.contains_key(item.key.as_str())), items.first(), provided.keys.first())
    {
        let key = &item.key;
        return Err(BuildError::input(
            path,
            format!(
                "has no row of any item: its keys are such as {given:?}, items such as {key:?}; make them the same"
            ),
        ));
    }
    let mut values = vec![0.0; (items.len() + 1) * dim];
    let mut mask = vec![0; items.len() + 1];
    for (id, item) in (1..).zip(items) {
        if let Some(&row) = row_of.get(item.key.as_str())
            && provided.mask[row] != 0
        {
            let given = &provided.values[row * dim..(row + 1) * dim];
            if let Some(at) = given.iter().position(|value| !value.is_finite()) {
                let (key, value) = (&item.key, given[at]);
                return Err(BuildError::input(
                    path,
                    format!(
                        "has {value} at column {at} of item {key:?}; features must be finite, mend or mask the row"
                    ),
                ));
            }
            values[id * dim..(id + 1) * dim].copy_from_slice(given);
            mask[id] = 1;
        }
    }
    let missing = mask[1..].iter().filter(|bit| **bit == 0).count();
    notes.insert(format!("{}.missing", feature.name), missing as u64);
    Ok(FeatureBlock { name: feature.name.clone(), dim, values, mask, dtype: feature.dtype, encoder })
}

async fn read_keys(feature: &FeatureConfig, keys: Option<PathBuf>) -> Result<Vec<String>, BuildError> {
    let path = keys.ok_or_else(|| {
        BuildError::config(
            format!("features.{}.keys", feature.name),
            "is missing; name the CSV file whose column `item` gives the key of each row",
        )
    })?;
    let rows = read_table(&context(), &path, TableFormat::Csv).await?;
    keys_of(&Table { path, format: TableFormat::Csv, rows })
}

fn keys_of(table: &Table) -> Result<Vec<String>, BuildError> {
    let text = text_column(table.column("item")?)
        .ok_or_else(|| BuildError::input(&table.path, "column `item` does not read as text"))?;
    text.iter()
        .enumerate()
        .map(|(row, key)| {
            key.map(str::to_owned)
                .ok_or_else(|| BuildError::input(&table.path, format!("column `item` row {} is empty", row + 1)))
        })
        .collect()
}

fn check_rows(path: &Path, rows: usize, keys: usize) -> Result<(), BuildError> {
    if rows == keys {
        return Ok(());
    }
    Err(BuildError::input(path, format!("has {rows} rows and its keys file {keys}; give one key a row")))
}

fn safetensors(path: &Path, keys: Vec<String>) -> Result<Provided, BuildError> {
    let matrix = FeatureMatrix::open_given(path)?;
    check_rows(path, matrix.rows(), keys.len())?;
    Ok(Provided { keys, dim: matrix.dim(), values: matrix.to_f32(), mask: matrix.mask().to_vec() })
}

async fn parquet(path: &Path, feature: &FeatureConfig, keys: Option<PathBuf>) -> Result<Provided, BuildError> {
    if keys.is_some() {
        return Err(BuildError::config(
            format!("features.{}.keys", feature.name),
            "is given, but a Parquet file has its own column `item`; leave keys out",
        ));
    }
    let rows = read_table(&context(), path, TableFormat::Parquet).await?;
    let table = Table { path: path.to_path_buf(), format: TableFormat::Parquet, rows };
    let keys = keys_of(&table)?;
    let column = table.column("features")?;
    let refuse = |reason: String| BuildError::input(path, reason);
    let dim = width(column).map_err(|reason| refuse(format!("column `features` {reason}")))?;
    let size = i32::try_from(dim).map_err(|_| refuse(format!("column `features` has rows of {dim} numbers")))?;
    let field = arrow::datatypes::Field::new_list_field(DataType::Float32, true);
    let lists = cast(column, &DataType::FixedSizeList(std::sync::Arc::new(field), size))
        .map_err(|e| refuse(format!("column `features` is not lists of {dim} numbers: {e}")))?;
    let lists: &FixedSizeListArray = lists.as_fixed_size_list();
    let mut values = Vec::with_capacity(keys.len() * dim);
    let mut mask = Vec::with_capacity(keys.len());
    for row in 0..lists.len() {
        mask.push(u8::from(!lists.is_null(row)));
        if lists.is_null(row) {
            values.resize(values.len() + dim, 0.0);
            continue;
        }
        let list = lists.value(row);
        let list: &Float32Array = list.as_primitive::<Float32Type>();
        if list.null_count() > 0 {
            return Err(refuse(format!("column `features` row {} holds null; give every number", row + 1)));
        }
        values.extend(list.values());
    }
    Ok(Provided { keys, dim, values, mask })
}

/// The common length of all lists that are not null.
fn width(column: &arrow::array::ArrayRef) -> Result<usize, String> {
    let lengths: Vec<Option<usize>> = match column.data_type() {
        DataType::List(_) => column.as_list::<i32>().iter().map(|list| list.map(|l| l.len())).collect(),
        DataType::LargeList(_) => column.as_list::<i64>().iter().map(|list| list.map(|l| l.len())).collect(),
        DataType::FixedSizeList(_, size) => vec![Some(*size as usize)],
        other => return Err(format!("is {other}; lists of numbers are expected")),
    };
    let first = lengths.iter().flatten().next().copied().ok_or("has no row with features")?;
    match lengths.iter().position(|length| length.is_some_and(|length| length != first)) {
        None => Ok(first),
        Some(row) => Err(format!("row {} has {} numbers, others {first}", row + 1, lengths[row].unwrap_or(0))),
    }
}

fn npy(path: &Path, keys: Vec<String>) -> Result<Provided, BuildError> {
    let bytes = std::fs::read(path).map_err(BuildError::io(path))?;
    let array = crate::npy::parse(&bytes).map_err(|reason| BuildError::input(path, reason))?;
    check_rows(path, array.rows, keys.len())?;
    Ok(Provided { mask: vec![1; keys.len()], keys, dim: array.dim, values: array.values })
}

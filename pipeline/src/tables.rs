//! Source tables: read by DataFusion as they are, checked, typed, and registered under their names.
//!
//! Files are read in one partition, so that rows keep the order of the file; each table gets the
//! column `source_row`. CSV and TSV columns are read as text and become numbers only where every value prints
//! back as it is written, so that a key such as `007` or a price such as `19.90` stays what it is.

use crate::config::{TableConfig, TableFormat};
use crate::quotes::check_quotes;
use crate::sequences::read_sequences;
use crate::text_file::read_text;
use crate::{BuildError, key_order};
use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use datafusion::datasource::MemTable;
use datafusion::prelude::{CsvReadOptions, DataFrame, ParquetReadOptions, SQLOptions, SessionConfig, SessionContext};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Column that counts the rows of a source file from 0.
pub(crate) const SOURCE_ROW: &str = "source_row";

/// A quote character that quotes nothing: no UTF-8 text holds this byte. The engine cannot be told
/// that there is no quoting.
const NO_QUOTE: u8 = 0xff;

/// The registered tables.
pub(crate) struct Tables {
    context: SessionContext,
    tables: BTreeMap<String, Table>,
}

/// One table in memory and the file it came from.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its format.
    pub(crate) format: TableFormat,
    /// All its rows in order, `source_row` last.
    pub(crate) rows: RecordBatch,
}

impl Tables {
    /// Reads and registers every table.
    pub(crate) async fn read(configs: &[TableConfig], base_dir: &Path) -> Result<Tables, BuildError> {
        let context = context();
        let mut tables = BTreeMap::new();
        for config in configs {
            let path = base_dir.join(&config.path);
            let rows = read_table(&context, &path, config.format).await?;
            if tables.contains_key(&config.name) {
                return Err(BuildError::config("tables", format!("{:?} is given twice; rename one", config.name)));
            }
            register(&context, &config.name, rows.clone())?;
            tables.insert(config.name.clone(), Table { path, format: config.format, rows });
        }
        Ok(Tables { context, tables })
    }

    /// A table by name.
    pub(crate) fn get(&self, name: &str) -> Result<&Table, BuildError> {
        self.tables.get(name).ok_or_else(|| {
            let known = self.tables.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            BuildError::config("interactions.table", format!("{name:?} is no table; the tables are: {known}"))
        })
    }

    /// All rows of a query as one batch; `what` names the query in errors. What writes a file or changes a table is
    /// refused.
    pub(crate) async fn query(&self, what: &str, sql: &str) -> Result<RecordBatch, BuildError> {
        let queries = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let frame = self.context.sql_with_options(sql, queries).await;
        let frame = frame.map_err(|e| BuildError::query(what, e.strip_backtrace()))?;
        collect(frame).await.map_err(|e| BuildError::query(what, e.strip_backtrace()))
    }
}

impl Table {
    /// Where a row stands in the file, for errors: `row 3`, or the line of a sequence file.
    pub(crate) fn place(&self, row: usize) -> String {
        let line = self.rows.column_by_name("line").filter(|_| self.format == TableFormat::Sequences);
        match line.and_then(|line| line.as_primitive_opt::<Int64Type>()) {
            Some(line) => format!("line {}", line.value(row)),
            None => format!("row {}", row + 1),
        }
    }

    /// A column by name; the error lists the columns that are there.
    pub(crate) fn column(&self, name: &str) -> Result<&ArrayRef, BuildError> {
        self.rows.column_by_name(name).ok_or_else(|| {
            BuildError::input(&self.path, format!("has no column `{name}`; it has {}", column_names(&self.rows)))
        })
    }
}

/// A session that keeps the order of rows and the spelling of names.
pub(crate) fn context() -> SessionContext {
    let config = SessionConfig::new()
        .with_target_partitions(1)
        .with_repartition_file_scans(false)
        .set_bool("datafusion.sql_parser.enable_ident_normalization", false);
    SessionContext::new_with_config(config)
}

/// Registers one batch as a table, replacing one of the same name.
pub(crate) fn register(context: &SessionContext, name: &str, rows: RecordBatch) -> Result<(), BuildError> {
    let fail = |e: datafusion::error::DataFusionError| BuildError::query(format!("table {name}"), e.strip_backtrace());
    let table = MemTable::try_new(rows.schema(), vec![vec![rows]]).map_err(fail)?;
    let reference = datafusion::common::TableReference::bare(name);
    context.deregister_table(reference.clone()).map_err(fail)?;
    context.register_table(reference, Arc::new(table)).map_err(fail)?;
    Ok(())
}

/// Runs a query and joins its batches.
pub(crate) async fn collect(frame: DataFrame) -> Result<RecordBatch, datafusion::error::DataFusionError> {
    let schema: Arc<Schema> = Arc::new(frame.schema().as_arrow().clone());
    let batches = frame.collect().await?;
    // The schema of what came out may differ from the planned one in nullability only.
    let schema = batches.first().map_or(schema, RecordBatch::schema);
    Ok(concat_batches(&schema, &batches)?)
}

/// The user-visible columns of a batch, joined by commas.
pub(crate) fn column_names(rows: &RecordBatch) -> String {
    let schema = rows.schema();
    let names: Vec<&str> = schema.fields().iter().map(|f| f.name().as_str()).filter(|n| *n != SOURCE_ROW).collect();
    names.join(", ")
}

/// A column as text; null stays null.
pub(crate) fn text_column(column: &ArrayRef) -> Option<StringArray> {
    let text = cast(column, &DataType::Utf8).ok()?;
    text.as_string_opt::<i32>().cloned()
}

/// Reads one file: in order, typed, with `source_row`.
///
/// # Errors
/// The file is missing, empty, has a header and no row, is not of its format, or has a quote without its partner.
pub(crate) async fn read_table(
    context: &SessionContext,
    path: &Path,
    format: TableFormat,
) -> Result<RecordBatch, BuildError> {
    let metadata = std::fs::metadata(path).map_err(BuildError::io(path))?;
    if !metadata.is_file() {
        return Err(BuildError::input(path, "is no file; name a table's file"));
    }
    if metadata.len() == 0 {
        return Err(BuildError::input(path, "is empty; a table needs a header and at least one row"));
    }
    let rows = match format {
        TableFormat::Sequences => read_sequences(path)?,
        TableFormat::Csv => {
            check_quotes(path)?;
            let options = CsvReadOptions::new().newlines_in_values(true);
            read_delimited(context, path, options).await.map_err(|e| unreadable(path, "CSV", &e))?
        }
        TableFormat::Tsv => {
            // Refused here where it is not UTF-8: such a file could hold the quote character.
            read_text(path)?;
            let options = CsvReadOptions::new().delimiter(b'\t').quote(NO_QUOTE);
            read_delimited(context, path, options).await.map_err(|e| unreadable(path, "TSV", &e))?
        }
        TableFormat::Parquet => read_parquet(context, path).await.map_err(|e| unreadable(path, "Parquet", &e))?,
    };
    if rows.num_rows() == 0 {
        return Err(BuildError::input(path, "has columns and no row; a table needs at least one row"));
    }
    if rows.column_by_name(SOURCE_ROW).is_some() {
        return Err(BuildError::input(path, format!("has a column `{SOURCE_ROW}`, a name that is taken; rename it")));
    }
    typed(path, &rows, format)
}

async fn read_delimited(
    context: &SessionContext,
    path: &Path,
    options: CsvReadOptions<'_>,
) -> datafusion::error::Result<RecordBatch> {
    let (name, extension) = engine_name(path)?;
    // Zero records to infer from: every column is text.
    let options = options.schema_infer_max_records(0).file_extension(&extension);
    collect(context.read_csv(name, options).await?).await
}

async fn read_parquet(context: &SessionContext, path: &Path) -> datafusion::error::Result<RecordBatch> {
    let (name, extension) = engine_name(path)?;
    let options = ParquetReadOptions::new().file_extension(&extension);
    collect(context.read_parquet(name, options).await?).await
}

/// A file as the engine wants it named: an absolute path, and the extension it must have.
fn engine_name(path: &Path) -> datafusion::error::Result<(String, String)> {
    let absolute = std::path::absolute(path)?;
    let name = absolute.to_string_lossy().into_owned();
    if name.contains(['*', '?', '[']) {
        // Such a path would be taken for a pattern of many names. A URL never is; any extension fits it.
        return Ok((file_url(&name), String::new()));
    }
    let extension = absolute.extension().map_or(String::new(), |e| format!(".{}", e.to_string_lossy()));
    Ok((name, extension))
}

fn file_url(path: &str) -> String {
    let mut url = String::from("file://");
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

fn unreadable(path: &Path, format: &str, error: &datafusion::error::DataFusionError) -> BuildError {
    BuildError::input(path, format!("is not readable as {format}: {}", error.strip_backtrace()))
}

fn typed(path: &Path, rows: &RecordBatch, format: TableFormat) -> Result<RecordBatch, BuildError> {
    let mut fields = Vec::new();
    let mut columns: Vec<ArrayRef> = Vec::new();
    for (field, column) in rows.schema().fields().iter().zip(rows.columns()) {
        let column = match (format, column.data_type()) {
            (TableFormat::Csv | TableFormat::Tsv, _) => narrowed(
                &text_column(column)
                    .ok_or_else(|| BuildError::input(path, format!("column `{}` is not text", field.name())))?,
            ),
            (_, kind) if is_text(kind) => cast(column, &DataType::Utf8).map_err(|e| BuildError::input(path, e))?,
            (TableFormat::Parquet | TableFormat::Sequences, _) => column.clone(),
        };
        fields.push(Field::new(field.name(), column.data_type().clone(), true));
        columns.push(column);
    }
    fields.push(Field::new(SOURCE_ROW, DataType::Int64, false));
    columns.push(Arc::new(Int64Array::from_iter_values(0..rows.num_rows() as i64)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| BuildError::input(path, e))
}

/// Whether a column holds text, however it is kept; many writers keep each distinct text once.
fn is_text(kind: &DataType) -> bool {
    match kind {
        DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8 => true,
        DataType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// The narrowest type that gives every value back as it is written, also where it is made text again.
fn narrowed(column: &StringArray) -> ArrayRef {
    if column.null_count() == column.len() {
        return Arc::new(column.clone());
    }
    if column.iter().flatten().all(|text| key_order::integer(text).is_some()) {
        return Arc::new(column.iter().map(|text| text.and_then(key_order::integer)).collect::<Int64Array>());
    }
    if column.iter().flatten().all(|text| decimal(text).is_some()) {
        let numbers: ArrayRef = Arc::new(column.iter().map(|text| text.and_then(decimal)).collect::<Float64Array>());
        if text_column(&numbers).is_some_and(|printed| printed.iter().eq(column.iter())) {
            return numbers;
        }
    }
    Arc::new(column.clone())
}

/// A finite number with a point or an exponent; `007`, `inf` and `nan` are text.
fn decimal(text: &str) -> Option<f64> {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let zero_padded = digits.len() > 1 && digits.starts_with('0') && !digits.starts_with("0.");
    let plain =
        digits.starts_with(|c: char| c.is_ascii_digit()) && digits.bytes().all(|b| b"0123456789.eE+-".contains(&b));
    if plain && !zero_padded { text.parse().ok().filter(|value: &f64| value.is_finite()) } else { None }
}

//! Interactions: the columns checked and typed, the k-core kept, ids given, sequences ordered.
//!
//! Rules: every row is an interaction; ids follow the order of keys (integers by value, then text by
//! bytes); a user's interactions are in order of time, and equal times keep the order of the file.

use crate::config::{InteractionsConfig, KCoreConfig, TableFormat, TimestampUnit};
use crate::k_core::k_core;
use crate::tables::{SOURCE_ROW, Table, Tables, text_column};
use crate::{BuildError, key_order};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type};
use feature_store::{Interaction, MAX_KEY_BYTES};
use std::collections::HashMap;
use std::sync::Arc;

/// What is left of the interactions after the k-core.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    /// User keys; user `u` is element `u`.
    pub(crate) users: Vec<String>,
    /// Item keys; item `i` is element `i - 1`.
    pub(crate) items: Vec<String>,
    /// By user, then time, then row of the source.
    pub(crate) rows: Vec<Interaction>,
    /// Rows of the source.
    pub(crate) read: u64,
}

/// Reads, filters and orders.
pub(crate) async fn interactions(
    tables: &Tables,
    config: &InteractionsConfig,
    core: KCoreConfig,
) -> Result<Kept, BuildError> {
    let table = tables.get(&config.table)?;
    let users = keys(table, &config.user)?;
    let items = keys(table, &config.item)?;
    let times = times(table, &config.timestamp, config.timestamp_unit)?;
    let read = users.len() as u64;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user", Arc::new(users)),
        ("item", Arc::new(items)),
        ("timestamp_ms", Arc::new(times)),
        (SOURCE_ROW, table.column(SOURCE_ROW)?.clone()),
    ];
    let rows = RecordBatch::try_from_iter(columns).map_err(|e| BuildError::input(&table.path, e))?;
    Ok(ordered(&k_core(rows, core).await?, read))
}

/// Why an item that the catalogue has no row for ends the build, and where it is first met.
pub(crate) fn without_row_error(tables: &Tables, config: &InteractionsConfig, key: &str) -> BuildError {
    let first = tables.get(&config.table).and_then(|table| {
        let row = keys(table, &config.item)?.iter().position(|found| found == Some(key));
        Ok((&table.path, row.map_or("some row".to_owned(), |row| table.place(row))))
    });
    match first {
        Ok((path, place)) => BuildError::input(
            path,
            format!(
                "{place} has item {key:?}, which items.sql gives no row; add it to the catalogue, \
                 or set items.without_row to \"keep\""
            ),
        ),
        Err(error) => error,
    }
}

/// A column of keys as text: none null, empty or overlong.
fn keys(table: &Table, name: &str) -> Result<StringArray, BuildError> {
    let column = table.column(name)?;
    let kind = column.data_type();
    let text = text_column(column)
        .ok_or_else(|| BuildError::input(&table.path, format!("column `{name}` does not read as text")))?;
    // Of a text file every value prints back as it is written, so a decimal there is the text of a key.
    let written = matches!(table.format, TableFormat::Csv | TableFormat::Tsv);
    if !(kind.is_integer() || matches!(kind, DataType::Utf8) || written) {
        let shown = text.iter().flatten().next().unwrap_or_default();
        let reason =
            format!("column `{name}` is {kind}, such as {shown:?}; keys must be text or integers: store it as text");
        return Err(BuildError::input(&table.path, reason));
    }
    for (row, key) in text.iter().enumerate() {
        let reason = match key {
            None | Some("") => "is empty; give every row a key".to_owned(),
            Some(key) if key.len() > MAX_KEY_BYTES => {
                format!("has {} bytes; at most {MAX_KEY_BYTES} are accepted", key.len())
            }
            Some(_) => continue,
        };
        return Err(BuildError::input(&table.path, format!("column `{name}` row {} {reason}", row + 1)));
    }
    Ok(text)
}

/// The last millisecond of the year 9999. A time past it is in a finer unit than the config says.
const LATEST_MS: i64 = 253_402_300_799_999;

/// The first millisecond of 1980, before which no shop or site wrote times. In seconds it is more than anybody numbers
/// orders up to.
const EARLIEST_MS: i64 = 315_532_800_000;

/// Refuses seconds that the config takes for milliseconds: every time is within some days of 1970 then. Small numbers
/// that only give an order stay what they are.
fn check_unit(table: &Table, name: &str, times_ms: &[i64]) -> Result<(), BuildError> {
    let (Some(first), Some(last)) = (times_ms.iter().min(), times_ms.iter().max()) else { return Ok(()) };
    if *first < EARLIEST_MS / 1000 || *last >= EARLIEST_MS {
        return Ok(());
    }
    let reason = format!(
        "column `{name}` has times from {first} to {last}, all of them before 1980 in milliseconds; they look like \
         seconds: set interactions.timestamp_unit to \"s\""
    );
    Err(BuildError::input(&table.path, reason))
}

/// A column of times in milliseconds.
fn times(table: &Table, name: &str, unit: TimestampUnit) -> Result<Int64Array, BuildError> {
    let column = table.column(name)?;
    let refuse = |row: usize, value: &str| {
        let reason = format!(
            "column `{name}` row {} is {value:?}; whole seconds or milliseconds since the Unix epoch are expected",
            row + 1
        );
        BuildError::input(&table.path, reason)
    };
    if !column.data_type().is_integer() {
        // The first value that is no integer tells more than the type does.
        let text = text_column(column);
        let odd = text
            .iter()
            .flat_map(|t| t.iter().enumerate())
            .find(|(_, v)| v.is_none_or(|v| key_order::integer(v).is_none()));
        let Some((row, value)) = odd else {
            let kind = column.data_type();
            let reason = format!("column `{name}` is {kind} though it holds integers; store it as integers");
            return Err(BuildError::input(&table.path, reason));
        };
        return Err(refuse(row, value.unwrap_or("")));
    }
    let times = cast(column, &DataType::Int64).map_err(|e| BuildError::input(&table.path, e))?;
    let times = times.as_primitive::<Int64Type>();
    let factor = match unit {
        TimestampUnit::Seconds => 1000,
        TimestampUnit::Milliseconds => 1,
    };
    let times_ms = times
        .iter()
        .enumerate()
        .map(|(row, time)| match time {
            None => Err(refuse(row, "")),
            Some(time) => match time.checked_mul(factor).filter(|ms| *ms >= 0) {
                None => Err(refuse(row, &time.to_string())),
                Some(ms) if ms > LATEST_MS => Err(BuildError::input(
                    &table.path,
                    format!(
                        "column `{name}` row {} is {time}, past the year 9999 in the interactions.timestamp_unit of the \
                         config; the unit is \"s\" or \"ms\"",
                        row + 1
                    ),
                )),
                Some(ms) => Ok(ms),
            },
        })
        .collect::<Result<Vec<i64>, _>>()?;
    if unit == TimestampUnit::Milliseconds && table.format != TableFormat::Sequences {
        check_unit(table, name, &times_ms)?;
    }
    Ok(Int64Array::from(times_ms))
}

fn ordered(rows: &RecordBatch, read: u64) -> Kept {
    let text = |name: &str| rows[name].as_string::<i32>();
    let number = |name: &str| rows[name].as_primitive::<Int64Type>().values();
    let (users, user_ids) = ids(text("user"));
    let (items, item_ids) = ids(text("item"));
    let (times, source) = (number("timestamp_ms"), number(SOURCE_ROW));
    let mut order: Vec<usize> = (0..rows.num_rows()).collect();
    order.sort_unstable_by_key(|&at| (user_ids[at], times[at], source[at]));
    let rows = order
        .into_iter()
        .map(|at| Interaction { user: user_ids[at], item: item_ids[at] + 1, timestamp_ms: times[at] })
        .collect();
    Kept { users, items, rows, read }
}

/// The distinct keys in order, and the position of every row's key among them.
fn ids(column: &StringArray) -> (Vec<String>, Vec<u32>) {
    let mut keys: Vec<&str> = column.iter().flatten().collect();
    keys.sort_unstable_by(|l, r| key_order::compare(l, r));
    keys.dedup();
    let position: HashMap<&str, u32> = keys.iter().enumerate().map(|(at, key)| (*key, at as u32)).collect();
    let ids = column.iter().flatten().map(|key| position[key]).collect();
    (keys.into_iter().map(str::to_owned).collect(), ids)
}

//! Sequence files: one line a user, the user's key and then item keys, oldest first, single spaces
//! between them. The form in which benchmarks of sequential recommendation come.
//!
//! ```text
//! alice lipstick mascara lipstick
//! bob soap
//! ```
//! A file becomes a table with one row an interaction: `user` and `item` (text), `position` (counted
//! from 1 within the line, the only time there is) and `line` (counted from 1 in the file).
//! There is no quoting, so a key holds no white space; nor a comma or a semicolon, which are signs
//! of a file with another separator.

use crate::BuildError;
use crate::text_file::read_text;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use feature_store::MAX_KEY_BYTES;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Most characters of a value that an error repeats.
const SHOWN_CHARS: usize = 40;

/// Reads a file into the columns `user`, `item`, `position` and `line`, in the order of the file.
///
/// # Errors
/// The first line that is blank, has no items, repeats a user, or has a key that is none.
pub(crate) fn read_sequences(path: &Path) -> Result<RecordBatch, BuildError> {
    let text = read_text(path)?;
    let refuse = |reason| BuildError::input(path, reason);
    let rows = Rows::parse(&text).map_err(refuse)?;
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("user", Arc::new(keys("users", &rows.users).map_err(refuse)?)),
        ("item", Arc::new(keys("items", &rows.items).map_err(refuse)?)),
        ("position", Arc::new(Int64Array::from(rows.positions))),
        ("line", Arc::new(Int64Array::from(rows.lines))),
    ];
    RecordBatch::try_from_iter(columns).map_err(|e| BuildError::input(path, e))
}

/// The columns; all have one length.
#[derive(Debug, Default, PartialEq, Eq)]
struct Rows<'a> {
    users: Vec<&'a str>,
    items: Vec<&'a str>,
    positions: Vec<i64>,
    lines: Vec<i64>,
}

impl<'a> Rows<'a> {
    fn parse(text: &'a str) -> Result<Rows<'a>, String> {
        let mut rows = Rows::default();
        let mut line_of_user = HashMap::new();
        for (line, text) in (1..).zip(text.lines()) {
            let user = rows.push_line(line, text).map_err(|reason| format!("line {line} {reason}"))?;
            if let Some(first) = line_of_user.insert(user, line) {
                return Err(format!("line {line} repeats user {user:?} of line {first}; give a user one line"));
            }
        }
        Ok(rows)
    }

    /// Adds the items of a line and gives its user.
    fn push_line(&mut self, line: i64, text: &'a str) -> Result<&'a str, String> {
        if text.trim().is_empty() {
            return Err("is blank; remove it, or give it a user and items".to_owned());
        }
        let mut keys = text.split(' ');
        let user = keys.next().unwrap_or_default();
        check_key(user)?;
        let before = self.items.len();
        for (position, item) in (1..).zip(keys) {
            check_key(item)?;
            self.users.push(user);
            self.items.push(item);
            self.positions.push(position);
            self.lines.push(line);
        }
        if self.items.len() == before {
            return Err(format!("has user {user:?} and no items; remove it, or give the user an item"));
        }
        Ok(user)
    }
}

fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("has an empty key; put one space between keys and none at the ends of a line".to_owned());
    }
    if key.contains(|c: char| c.is_whitespace() || c == ',' || c == ';') {
        return Err(format!(
            "has the key {:?}; single spaces separate a user and its items, and a key holds no tab, comma or semicolon",
            shown(key)
        ));
    }
    if key.len() > MAX_KEY_BYTES {
        let bytes = key.len();
        return Err(format!("has the key {:?} of {bytes} bytes; at most {MAX_KEY_BYTES} are accepted", shown(key)));
    }
    Ok(())
}

/// The start of a value that may be a whole line.
fn shown(value: &str) -> String {
    match value.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}...", &value[..end]),
        None => value.to_owned(),
    }
}

/// A column of keys. The array's offsets are 32 bits wide, and building one that is too long panics.
fn keys(what: &str, keys: &[&str]) -> Result<StringArray, String> {
    let bytes: usize = keys.iter().map(|key| key.len()).sum();
    if i32::try_from(bytes).is_err() {
        return Err(format!("has {bytes} bytes of {what}, a user's key counted for each item; at most {}", i32::MAX));
    }
    Ok(StringArray::from_iter_values(keys))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_places_are_those_of_the_file() {
        let rows = Rows::parse("u2 b a b\r\n007 c\n").unwrap();
        let expect = Rows {
            users: vec!["u2", "u2", "u2", "007"],
            items: vec!["b", "a", "b", "c"],
            positions: vec![1, 2, 3, 1],
            lines: vec![1, 1, 1, 2],
        };
        assert_eq!(rows, expect);
        assert_eq!(Rows::parse("u2 b a b\n007 c").unwrap(), expect, "no line end at the end");
    }

    #[test]
    fn long_values_are_cut_between_characters() {
        assert_eq!(shown(&"ä".repeat(40)), "ä".repeat(40));
        assert_eq!(shown(&"ä".repeat(41)), format!("{}...", "ä".repeat(40)));
    }
}

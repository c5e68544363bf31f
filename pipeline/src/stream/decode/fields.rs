//! Reading fields of JSON whose shape is another product's: a path, a type, and a refusal that names
//! both.

use super::Reject;
use serde_json::Value;

/// Longest part of a value that a refusal repeats, in characters.
const SHOWN: usize = 60;

/// Parses a payload; the refusal says where it stops being JSON.
pub(super) fn json(payload: &[u8]) -> Result<Value, Reject> {
    serde_json::from_slice(payload).map_err(|error| Reject(position(&error)))
}

/// A JSON error as "column 3: ...": a message is one line.
pub(super) fn position(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    format!("line {} column {}: {text}", error.line(), error.column())
}

/// The value at a path of object keys; `null` counts as absent.
pub(super) fn find<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(value, |value, key| value.get(key)).filter(|value| !value.is_null())
}

/// The first of several paths that is there, as a key: text, or a number as it is written.
pub(super) fn key(value: &Value, paths: &[&str]) -> Result<String, Reject> {
    match optional_key(value, paths)? {
        Some(key) => Ok(key),
        None => Err(Reject(format!("{} is missing; give it as text", paths.join(" or ")))),
    }
}

/// As [`key`], where absence is fine.
pub(super) fn optional_key(value: &Value, paths: &[&str]) -> Result<Option<String>, Reject> {
    let Some((path, found)) = paths.iter().find_map(|path| find(value, path).map(|found| (path, found))) else {
        return Ok(None);
    };
    match found {
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        other => Err(Reject(format!("{path} is {}; give text or a number", shown(other)))),
    }
}

/// A value as a refusal repeats it.
pub(super) fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(SHOWN) {
        None => text,
        Some((cut, _)) => format!("{}...", &text[..cut]),
    }
}

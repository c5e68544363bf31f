//! Reading a config: TOML in, a typed value out, and one sentence with file and line when it is wrong.

use crate::failure::bad_input;
use serde::de::DeserializeOwned;
use std::path::Path;

/// Largest config accepted, in bytes: a config is written by hand.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// Reads `path` as TOML.
///
/// # Errors
/// The file is absent, too large, no UTF-8, no TOML, or a field is missing, unknown or of a wrong type.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let shown = path.display();
    let bytes = std::fs::metadata(path).map_err(|error| bad_input(format!("config {shown}: {error}")))?.len();
    if bytes > MAX_CONFIG_BYTES {
        return Err(bad_input(format!("config {shown} has {bytes} bytes; at most {MAX_CONFIG_BYTES} are accepted")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| bad_input(format!("config {shown}: {error}")))?;
    parse(&text, &shown.to_string())
}

/// Parses TOML text that came from `name`.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, name: &str) -> anyhow::Result<T> {
    toml::from_str(text).map_err(|error| {
        let at = error.span().map_or(String::new(), |span| {
            let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
            format!(" line {line}")
        });
        bad_input(format!("config {name}{at}: {}", error.message()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Small {
        #[allow(dead_code)]
        seed: u64,
    }

    #[test]
    fn an_error_names_the_file_and_the_line() {
        let check = |text: &str, parts: &[&str]| {
            let error = parse::<Small>(text, "a.toml").unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{error:?} lacks {part:?}");
            }
        };
        check("", &["a.toml", "missing field `seed`"]);
        check("seed = 1\nsede = 2\n", &["a.toml line 2", "unknown field `sede`"]);
        check("seed = \"x\"\n", &["a.toml line 1", "invalid type"]);
        check("seed = \n", &["a.toml line 1"]);
        check("seed = -1\n", &["a.toml line 1", "-1"]);
    }
}

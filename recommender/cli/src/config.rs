//! Reading a config: TOML in, a typed value out, and one sentence with file, line and field when it is wrong.

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
    let refused = |error: std::io::Error| bad_input(format!("config {shown}: {error}"));
    let found = std::fs::metadata(path).map_err(refused)?;
    if !found.is_file() {
        return Err(bad_input(format!("config {shown}: is no regular file; name one")));
    }
    let bytes = found.len();
    if bytes > MAX_CONFIG_BYTES {
        return Err(bad_input(format!("config {shown} has {bytes} bytes; at most {MAX_CONFIG_BYTES} are accepted")));
    }
    let text = String::from_utf8(std::fs::read(path).map_err(refused)?)
        .map_err(|error| bad_input(format!("config {shown}: is no UTF-8 text ({error}); save it as UTF-8")))?;
    // A byte order mark is what some editors write before UTF-8.
    parse(text.strip_prefix('\u{feff}').unwrap_or(&text), &shown.to_string())
}

/// Parses TOML text that came from `name`.
pub(crate) fn parse<T: DeserializeOwned>(text: &str, name: &str) -> anyhow::Result<T> {
    let refuse = |field: &str, error: &toml::de::Error| {
        let at = error.span().map_or(String::new(), |span| {
            let line = text[..span.start.min(text.len())].matches('\n').count() + 1;
            format!(" line {line}")
        });
        bad_input(format!("config {name}{at}: {}", with_field(field, &in_words(error.message()))))
    };
    let document = toml::Deserializer::parse(text).map_err(|error| refuse("", &error))?;
    serde_path_to_error::deserialize(document).map_err(|error| refuse(&error.path().to_string(), error.inner()))
}

/// The message with what was expected in words, where serde names a type of Rust.
fn in_words(message: &str) -> String {
    let Some((found, kind)) = message.rsplit_once(", expected ") else { return message.to_owned() };
    let expected = match kind {
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0",
        "i64" => "a whole number",
        "f32" | "f64" => "a number",
        other => other,
    };
    format!("{found}, expected {expected}")
}

/// The message behind the field that it is about, such as `model.blocks`, unless it is about the whole config (`.`) or
/// names the field itself.
fn with_field(field: &str, message: &str) -> String {
    match field {
        "" | "." => message.to_owned(),
        field if message.contains(&format!("`{field}`")) => message.to_owned(),
        field => format!("{field}: {message}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Small {
        seed: u64,
        model: Option<Model>,
        #[serde(default)]
        tiers: Vec<Tier>,
        #[serde(default)]
        rate: u32,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Model {
        blocks: usize,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Tier {
        search: Search,
    }

    #[derive(Debug, serde::Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Search {
        Exact,
    }

    #[test]
    fn an_error_names_the_file_the_line_and_the_field() {
        let check = |text: &str, parts: &[&str]| {
            let error = parse::<Small>(text, "a.toml").unwrap_err().to_string();
            for part in parts {
                assert!(error.contains(part), "{error:?} lacks {part:?}");
            }
        };
        check("", &["a.toml", "missing field `seed`"]);
        check("seed = 1\nsede = 2\n", &["a.toml line 2", "unknown field `sede`"]);
        check("seed = \"x\"\n", &["a.toml line 1: seed: invalid type"]);
        check("seed = \n", &["a.toml line 1"]);
        check("seed = -1\n", &["a.toml line 1: seed: ", "-1", "expected a whole number from 0"]);
        check(
            "seed = 1\nrate = 5000000000\n",
            &["a.toml line 2: rate: ", "expected a whole number from 0 to 4294967295"],
        );
        check("seed = 1.5\n", &["a.toml line 1: seed: ", "`1.5`, expected a whole number from 0"]);
        check("seed = 1\n[model]\nblocks = \"2\"\n", &["a.toml line 3: model.blocks: invalid type: string \"2\""]);
        check("seed = 1\n[model]\n", &["a.toml", "model: missing field `blocks`"]);
        check("seed = 1\n[model]\nblocs = 2\n", &["a.toml line 3: model.blocs: unknown field `blocs`"]);
        let tiers = "[[tiers]]\nsearch = \"exact\"\n[[tiers]]\nsearch = \"fast\"\n";
        check(&format!("seed = 1\n{tiers}"), &["a.toml line 5: tiers[1].search: unknown variant `fast`"]);
    }
}

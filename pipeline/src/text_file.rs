//! Text files as a whole: read, and refused by line where they are not UTF-8.

use crate::BuildError;
use std::path::Path;

/// The text of a file, without a byte order mark.
///
/// # Errors
/// The file cannot be read, or a line is not UTF-8: named.
pub(crate) fn read_text(path: &Path) -> Result<String, BuildError> {
    let bytes = std::fs::read(path).map_err(BuildError::io(path))?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = 1 + valid.iter().filter(|byte| **byte == b'\n').count();
        BuildError::input(path, format!("line {line} is not UTF-8; save the file as UTF-8"))
    })?;
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_goes_and_a_broken_line_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "\u{feff}1 2\n\u{feff}").unwrap();
        assert_eq!(read_text(file.path()).unwrap(), "1 2\n\u{feff}");
        std::fs::write(file.path(), b"1 2\n2 \xff\n").unwrap();
        assert!(read_text(file.path()).unwrap_err().to_string().contains("line 2 is not UTF-8"));
    }
}

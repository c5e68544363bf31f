//! The quotes of a CSV file, looked at before the engine reads it. The engine takes all that follows an opening quote
//! for one value, up to the next quote or the end of the file: so a quote without its partner swallows rows, and in
//! the last column nobody hears of it.
//!
//! A value in quotes may hold commas, line ends, and quotes written twice (RFC 4180). A value that begins without a
//! quote may hold quotes as they are.

use crate::BuildError;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

/// Bytes read at once.
const READ_BYTES: usize = 1 << 16;
/// What some programs write before the first value of a file in UTF-8.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Reads a CSV file in a stream and refuses it if a quote has no partner, or a value goes on behind its closing quote.
///
/// # Errors
/// The file cannot be read, or the line of the first such quote.
pub(crate) fn check_quotes(path: &Path) -> Result<(), BuildError> {
    let file = File::open(path).map_err(BuildError::io(path))?;
    let mut file = BufReader::with_capacity(READ_BYTES, file);
    let mut quotes = Quotes { place: Place::Start, line: 1, opened: 1, last: 0 };
    if file.fill_buf().map_err(BuildError::io(path))?.starts_with(BYTE_ORDER_MARK) {
        file.consume(BYTE_ORDER_MARK.len());
    }
    loop {
        let bytes = file.fill_buf().map_err(BuildError::io(path))?;
        if bytes.is_empty() {
            return quotes.end().map_err(|reason| BuildError::input(path, reason));
        }
        bytes.iter().try_for_each(|byte| quotes.take(*byte)).map_err(|reason| BuildError::input(path, reason))?;
        let read = bytes.len();
        file.consume(read);
    }
}

/// Where in a record a byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before a value.
    Start,
    /// In a value that began without a quote.
    Plain,
    /// In a value in quotes.
    Quoted,
    /// Behind a quote in such a value: it closes the value, or is the first of two.
    Closed,
    /// Behind blanks that follow a closed value: they become part of it, and nothing else is swallowed.
    Padded,
}

/// How far a file was read.
struct Quotes {
    place: Place,
    /// The line that is read, from 1.
    line: u64,
    /// The line on which the last value in quotes began.
    opened: u64,
    /// The byte before.
    last: u8,
}

impl Quotes {
    /// Takes the next byte of the file.
    fn take(&mut self, byte: u8) -> Result<(), String> {
        self.place = match (self.place, byte) {
            (Place::Quoted, b'"') => Place::Closed,
            (Place::Quoted, _) | (Place::Closed, b'"') => Place::Quoted,
            (_, b',' | b'\r' | b'\n') => Place::Start,
            (Place::Closed | Place::Padded, b' ' | b'\t') => Place::Padded,
            (Place::Closed | Place::Padded, _) => return Err(self.goes_on()),
            (Place::Start, b'"') => {
                self.opened = self.line;
                Place::Quoted
            }
            (Place::Start | Place::Plain, _) => Place::Plain,
        };
        // A carriage return and the line feed behind it end one line.
        if byte == b'\r' || (byte == b'\n' && self.last != b'\r') {
            self.line += 1;
        }
        self.last = byte;
        Ok(())
    }

    /// Says that the file ends here.
    fn end(&self) -> Result<(), String> {
        match self.place {
            Place::Quoted => Err(format!(
                "line {} opens a quote that is never closed, so all that follows would be one value; close it, or write \
                 the value without it",
                self.opened
            )),
            Place::Start | Place::Plain | Place::Closed | Place::Padded => Ok(()),
        }
    }

    fn goes_on(&self) -> String {
        format!(
            "line {} opens a quote that is closed on line {} in the midst of a value; close it where the value ends, and \
             write a quote inside of it twice",
            self.opened, self.line
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(bytes: &[u8]) -> Result<(), String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        check_quotes(file.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn values_in_quotes_may_hold_commas_line_ends_and_quotes() {
        for good in [
            "",
            "a,b\n1,2\n",
            "a,b\n1,\"two, or\nthree\"\n4,\"five\"",
            "a,b\r\n\"\",\"\"\"quoted\"\"\"\r\n",
            "a,b\n1,5\" disk\n2,\"\"\n",
            "\u{feff}\"a\",b\n1,2\n",
            "a,b\n\"First\" ,Drama\n\"Second\"\t ,\"Crime\" \n\"Third\",\"\" ",
        ] {
            assert_eq!(look(good.as_bytes()), Ok(()), "{good:?}");
        }
        // Longer than what is read at once.
        let long = format!("a,b\n1,\"{}\"\n", "x\n".repeat(READ_BYTES));
        assert_eq!(look(long.as_bytes()), Ok(()));
    }

    #[test]
    fn a_quote_without_its_partner_is_named_with_its_line() {
        let check = |text: &str, parts: &[&str]| {
            let error = look(text.as_bytes()).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{error:?} lacks {part:?}");
            }
        };
        check("a,b\n1,\"two\n3,four\n", &["line 2 opens", "never closed"]);
        check("a,b\r\n1,2\r\n3,\"four\r\n", &["line 3 opens", "never closed"]);
        check("a,b\r1,\"2", &["line 2 opens", "never closed"]);
        check("a,b\n1,\"two\n3,\"four\"\n", &["line 2 opens", "closed on line 3"]);
        check("a,b\n1,\"two\"x\n", &["line 2 opens", "closed on line 2"]);
        check("a,b\n1,\"two\n3,\" four\"\n", &["line 2 opens", "closed on line 3"]);
        check("a,b\n1,\"two\n3,\" \"\n", &["line 2 opens", "closed on line 3"]);
        check("\"", &["line 1 opens", "never closed"]);
        let long = format!("a,b\n{}9,\"nine\n", "1,\"2\"\n".repeat(READ_BYTES));
        check(&long, &[&format!("line {} opens", READ_BYTES + 2), "never closed"]);
    }
}

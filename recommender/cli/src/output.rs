//! Text for people: results on stdout, notes on stderr. Neither stream panics when its reader is
//! gone, which `println!` would. Where the log is JSON, notes are lines of it: all of stderr has one format.

use crate::failure::StdoutClosed;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};

/// Target of notes in the log. The program lets it pass whatever `RECOMMENDER_LOG` asks for.
pub(crate) const NOTES: &str = "notes";

/// Whether notes are lines of the log. One a process, as the log itself is.
static IN_LOG: AtomicBool = AtomicBool::new(false);

/// From now on notes go to the log, which is there.
pub(crate) fn notes_to_log() {
    IN_LOG.store(true, Ordering::Release);
}

/// Writes one line to stdout.
///
/// # Errors
/// [`StdoutClosed`] when the reader has gone away, so that the program ends quietly.
pub(crate) fn say(line: &str) -> anyhow::Result<()> {
    write_stdout(format!("{line}\n").as_bytes())
}

/// Writes bytes to stdout and flushes them.
pub(crate) fn write_stdout(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(StdoutClosed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("writing to stdout")),
    }
}

/// Writes one line to stderr; a closed stderr loses the note and nothing else.
pub(crate) fn note(line: &str) {
    if IN_LOG.load(Ordering::Acquire) {
        return tracing::info!(target: NOTES, "{line}");
    }
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// A note of what ended the program.
pub(crate) fn note_failure(line: &str) {
    if IN_LOG.load(Ordering::Acquire) {
        return tracing::error!(target: NOTES, "{line}");
    }
    note(line);
}

/// 12345678 as "12,345,678".
pub(crate) fn thousands(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::thousands;

    #[test]
    fn thousands_are_grouped_from_the_right() {
        let check = |value, expect: &str| assert_eq!(thousands(value), expect);
        check(0, "0");
        check(999, "999");
        check(1000, "1,000");
        check(90_274, "90,274");
        check(12_345_678, "12,345,678");
    }
}

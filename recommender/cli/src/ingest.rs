//! `ingest`: a file of events -> user state store. The whole file is checked before the first event
//! is applied, so a bad line leaves the store as it was.

use crate::arguments::IngestArgs;
use crate::failure::bad_input;
use crate::output::{say, thousands};
use crate::progress::Progress;
use feature_store::{Applied, Event, UserStateStore};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

/// Longest line accepted, in bytes: an event's keys have at most 256 each.
const MAX_LINE_BYTES: u64 = 16 * 1024;
/// Events in one durable transaction: bounds memory, and one sync serves many events.
const BATCH_EVENTS: usize = 4096;

/// Checks every line, then applies the events unless only a check was asked for.
pub(crate) fn run(args: &IngestArgs) -> anyhow::Result<()> {
    let mut progress = Progress::new();
    let shown = args.events.display();
    let events = for_each_event(&args.events, |number, _| {
        tick(&mut progress, "check events", number);
        Ok(())
    })?;
    progress.update("check events", events, events);
    progress.finish();
    if args.validate {
        return say(&format!("{shown}: {} events, every line is valid; nothing was written", thousands(events)));
    }
    let store = UserStateStore::open(&args.store, args.max_history)?;
    let done = apply(&args.events, &store, &mut progress)?;
    say(&format!(
        "{shown}: {} events applied, {} dropped as already there; {} holds {} users",
        thousands(done.applied as u64),
        thousands(done.duplicates as u64),
        args.store.display(),
        thousands(store.users()?),
    ))
}

fn apply(path: &Path, store: &UserStateStore, progress: &mut Progress) -> anyhow::Result<Applied> {
    let mut total = Applied { applied: 0, duplicates: 0 };
    let mut batch: Vec<Event> = Vec::with_capacity(BATCH_EVENTS);
    let mut flush = |batch: &mut Vec<Event>| -> anyhow::Result<()> {
        let done = store.append(batch)?;
        total.applied += done.applied;
        total.duplicates += done.duplicates;
        batch.clear();
        Ok(())
    };
    for_each_event(path, |number, event| {
        batch.push(event);
        tick(progress, "apply events", number);
        if batch.len() == BATCH_EVENTS { flush(&mut batch) } else { Ok(()) }
    })?;
    flush(&mut batch)?;
    progress.finish();
    Ok(total)
}

/// Calls `each` with the number of every event and the event; blank lines are skipped.
/// Returns how many events there were.
fn for_each_event(path: &Path, mut each: impl FnMut(u64, Event) -> anyhow::Result<()>) -> anyhow::Result<u64> {
    let shown = path.display();
    let refuse = |error: std::io::Error| bad_input(format!("events file {shown}: {error}"));
    let mut reader = BufReader::new(File::open(path).map_err(refuse)?);
    let mut line = Vec::new();
    let (mut number, mut events) = (0_u64, 0_u64);
    loop {
        line.clear();
        let read = (&mut reader).take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line).map_err(refuse)?;
        if read == 0 {
            break;
        }
        number += 1;
        if line.len() as u64 > MAX_LINE_BYTES {
            return Err(bad_input(format!(
                "{shown} line {number} is longer than {MAX_LINE_BYTES} bytes; give one event a line"
            )));
        }
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let event = parse(&line).map_err(|reason| bad_input(format!("{shown} line {number}: {reason}")))?;
        events += 1;
        each(events, event)?;
    }
    if events == 0 {
        return Err(bad_input(format!("{shown} holds no event; give one JSON object a line")));
    }
    Ok(events)
}

/// One line as an event, or the reason why not with the field's name.
fn parse(line: &[u8]) -> Result<Event, String> {
    let event: Event = serde_json::from_slice(line).map_err(|error| {
        // serde_json counts lines inside what it was given, which is always 1 here.
        let text = error.to_string();
        let text = text.split(" at line 1 column").next().unwrap_or_default();
        format!("column {}: {text}", error.column())
    })?;
    event.validate().map_err(|error| error.to_string())?;
    Ok(event)
}

/// A bar moves every thousand events: drawing costs more than parsing.
fn tick(progress: &mut Progress, stage: &str, events: u64) {
    if events % 1000 == 1 {
        progress.update(stage, events, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn a_bad_line_names_the_field() {
        let check = |line: &str, part: &str| {
            let reason = parse(line.as_bytes()).unwrap_err();
            assert!(reason.contains(part), "{reason:?} lacks {part:?}");
            assert!(!reason.contains("at line"), "{reason:?}");
        };
        check(r#"{"item_id":"1","timestamp_ms":5}"#, "user_id");
        check(r#"{"user_id":"u","item_id":1,"timestamp_ms":5}"#, "integer `1`, expected a string");
        check(r#"{"user_id":"u","item_id":"1","timestamp_ms":5,"x":1}"#, "unknown field `x`");
        check(r#"{"user_id":"u","item_id":"1","timestamp_ms":-5}"#, "timestamp_ms");
        check(r#"{"user_id":"","item_id":"1","timestamp_ms":5}"#, "user_id");
        check(r#"{"user_id":"u""#, "column 14");
        check("[1]", "column");
        parse(br#"{"user_id":"u","item_id":"1","timestamp_ms":5}"#).unwrap();
    }
}

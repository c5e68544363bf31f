//! `ingest`: a file of events -> user state store. The whole file is checked before the first event
//! is applied, so a bad line leaves the store as it was. With a config the events come from a stream:
//! see `ingest_stream.rs`.

use crate::arguments::IngestArgs;
use crate::failure::bad_input;
use crate::output::{say, thousands};
use crate::progress::Progress;
use feature_store::{BatchOutcome, StateLocation, StreamEvent, UserStateStore};
use pipeline::stream::{Decoder, decoder};
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

/// Longest line accepted, in bytes: an item's text may have 16 KiB, escaped more.
const MAX_LINE_BYTES: u64 = 128 * 1024;
/// Events in one durable transaction: bounds memory, and one sync serves many events.
const BATCH_EVENTS: usize = 4096;
/// The same on a server, which does nothing else meanwhile.
const SHARED_BATCH_EVENTS: usize = 512;

/// Checks every line, then applies the events unless only a check was asked for.
pub(crate) fn run(args: &IngestArgs) -> anyhow::Result<()> {
    match (&args.config, &args.events, &args.store) {
        (Some(config), None, None) => crate::ingest_stream::run(config, args),
        (None, ..) if args.until_end || args.redrive => {
            Err(bad_input("--until-end and --redrive are about a stream; name its config with --config FILE"))
        }
        (None, Some(events), Some(store)) => run_file(args, events, &store.parse()?),
        _ => Err(bad_input(
            "ingest takes either --config FILE, or --events FILE and --store DIR or URL; name one of the two",
        )),
    }
}

fn run_file(args: &IngestArgs, path: &Path, place: &StateLocation) -> anyhow::Result<()> {
    let mut progress = Progress::new();
    let shown = path.display();
    let decoder = decoder(args.format.into());
    let lines = for_each_line(path, &*decoder, |number, _| {
        tick(&mut progress, "check events", number);
        Ok(())
    })?;
    progress.update("check events", lines, lines);
    progress.finish();
    if args.validate {
        return say(&format!("{shown}: {} events, every line is valid; nothing was written", thousands(lines)));
    }
    let store = crate::state::open(place, args.max_history)?;
    let done = apply(path, &*decoder, &store, &mut progress)?;
    say(&format!(
        "{shown}: {} events applied, {} dropped as already there; {place} holds {} users",
        thousands(done.applied as u64),
        thousands(done.duplicates as u64),
        thousands(store.users()?),
    ))
}

fn apply(
    path: &Path,
    decoder: &dyn Decoder,
    store: &UserStateStore,
    progress: &mut Progress,
) -> anyhow::Result<BatchOutcome> {
    let most = if store.shared() { SHARED_BATCH_EVENTS } else { BATCH_EVENTS };
    let mut total = BatchOutcome::default();
    let mut batch: Vec<StreamEvent> = Vec::with_capacity(BATCH_EVENTS);
    let mut flush = |batch: &mut Vec<StreamEvent>| -> anyhow::Result<()> {
        let done = store.record(batch)?;
        total.applied += done.applied + done.users_deleted + done.items_changed;
        total.duplicates += done.duplicates;
        batch.clear();
        Ok(())
    };
    for_each_line(path, decoder, |number, events| {
        batch.extend(events);
        tick(progress, "apply events", number);
        if batch.len() >= most { flush(&mut batch) } else { Ok(()) }
    })?;
    flush(&mut batch)?;
    progress.finish();
    Ok(total)
}

/// Calls `each` with every line's place among those that are not blank, and its events. Returns how
/// many such lines there were.
fn for_each_line(
    path: &Path,
    decoder: &dyn Decoder,
    mut each: impl FnMut(u64, Vec<StreamEvent>) -> anyhow::Result<()>,
) -> anyhow::Result<u64> {
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
        let found = parse(decoder, &line).map_err(|reason| bad_input(format!("{shown} line {number}: {reason}")))?;
        events += 1;
        each(events, found)?;
    }
    if events == 0 {
        return Err(bad_input(format!("{shown} holds no event; give one JSON object a line")));
    }
    Ok(events)
}

/// The events of one line, or the reason why not with the field's name.
fn parse(decoder: &dyn Decoder, line: &[u8]) -> Result<Vec<StreamEvent>, String> {
    // JSON counts lines inside what it was given, which is always 1 here.
    decoder.decode(line).map_err(|reject| reject.to_string().replace("line 1 column", "column"))
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
    use pipeline::stream::{Format, decoder};

    #[test]
    fn a_bad_line_names_the_field() {
        let native = decoder(Format::Native);
        let check = |line: &str, part: &str| {
            let reason = parse(&*native, line.as_bytes()).unwrap_err();
            assert!(reason.contains(part), "{reason:?} lacks {part:?}");
            assert!(!reason.contains("line"), "{reason:?}");
        };
        check(r#"{"item_id":"1","timestamp_ms":5}"#, "user_id");
        check(r#"{"user_id":"u","item_id":1,"timestamp_ms":5}"#, "integer `1`, expected a string");
        check(r#"{"user_id":"u","item_id":"1","timestamp_ms":5,"x":1}"#, "unknown field `x`");
        check(r#"{"user_id":"u","item_id":"1","timestamp_ms":-5}"#, "timestamp_ms");
        check(r#"{"user_id":"","item_id":"1","timestamp_ms":5}"#, "user_id");
        check(r#"{"user_id":"u""#, "column 14");
        check("[1]", "column");
        parse(&*native, br#"{"user_id":"u","item_id":"1","timestamp_ms":5}"#).unwrap();
    }
}

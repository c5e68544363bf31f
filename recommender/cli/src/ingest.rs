//! `ingest`: a file of events -> user state store. The whole file is checked before the first event
//! is applied, so a bad line leaves the store as it was. Events are applied with their places in the file, which its
//! checksum names: a second run of the same file changes nothing, and one after a failure goes on where that
//! stopped. With a config the events come from a stream: see `ingest_stream.rs`.

use crate::arguments::{FormatName, IngestArgs};
use crate::failure::bad_input;
use crate::output::{say, thousands};
use crate::progress::Progress;
use feature_store::{BatchOutcome, SourceRecord, StateLocation, StreamEvent, UserStateStore, sha256_file};
use pipeline::stream::{Decoder, MAX_PAYLOAD_BYTES, decoder};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;

/// Longest line accepted, in bytes, its end not counted: as much as a stream takes as one message.
const MAX_LINE_BYTES: u64 = MAX_PAYLOAD_BYTES as u64;
/// Events in one durable transaction: bounds memory, and one sync serves many events. The store itself cuts
/// it into smaller ones on a server, which does nothing else meanwhile.
const BATCH_EVENTS: usize = 4096;
/// Bad lines that a refusal shows; it counts the others.
const MOST_SHOWN: usize = 5;
/// A file has one partition; an event's offset is the number of its line.
const PARTITION: u32 = 0;

/// A file of events as it is read, twice.
struct EventFile<'a> {
    path: &'a Path,
    decoder: Box<dyn Decoder>,
    /// How much is read: what another program adds meanwhile has no part in the checksum.
    bytes: u64,
    /// When it is taken, in milliseconds since the Unix epoch.
    taken_ms: i64,
}

/// A line that is not blank.
struct Line {
    /// How many there were with it.
    count: u64,
    /// Its number, from 1 and with the blank ones.
    number: u64,
    /// Its events, or why it has none, with the field's name.
    events: Result<Vec<StreamEvent>, String>,
}

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
    // A check alone reads once, so that it takes what cannot be read again, such as a pipe.
    if !args.validate && std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        return Err(bad_input(format!(
            "{shown} is no regular file, and it is read twice (checked whole, then applied); write it to a file first"
        )));
    }
    let (bytes, sha256) = if args.validate { (u64::MAX, String::new()) } else { sha256_file(path)? };
    let taken_ms = service::system_clock()();
    let file = EventFile { path, decoder: decoder(args.format.into()), bytes, taken_ms };
    let lines = file.check(&mut progress)?;
    if args.validate {
        return say(&format!("{shown}: {} events, every line is valid; nothing was written", thousands(lines)));
    }
    let store = match args.max_history {
        Some(max_history) => crate::state::open(place, max_history)?,
        None => crate::state::open_as_kept(place)?,
    };
    // Another format reads other events from the same lines.
    let source = match args.format {
        FormatName::Native => format!("file:{sha256}"),
        other => format!("file:{sha256}:{other:?}"),
    };
    let done = apply(&file, &source, &store, &mut progress)?;
    say(&format!(
        "{shown}: {} events applied, {} dropped as already there, {} lines applied by an earlier run; {place} holds {} \
         users",
        thousands(done.applied as u64),
        thousands(done.duplicates as u64),
        thousands(done.replayed as u64),
        thousands(store.users()?),
    ))
}

/// Applies the lines that no earlier run has applied. `applied` of what it gives counts events of every kind.
fn apply(
    file: &EventFile<'_>,
    source: &str,
    store: &UserStateStore,
    progress: &mut Progress,
) -> anyhow::Result<BatchOutcome> {
    let mut total = BatchOutcome::default();
    // A server that loses what it was given a moment ago is noticed, rather than a gap left.
    let mut known = BTreeMap::new();
    let (mut batch, mut held) = (Vec::new(), 0_usize);
    let mut flush = |batch: &mut Vec<SourceRecord>| -> anyhow::Result<()> {
        let done = store.apply_after(source, batch, &known)?;
        known.extend(batch.last().map(|last| (PARTITION, last.offset)));
        total.applied += done.applied + done.users_deleted + done.items_changed;
        total.duplicates += done.duplicates;
        total.replayed += done.replayed;
        batch.clear();
        Ok(())
    };
    file.for_each_line(|line| {
        let events = line.events.map_err(|reason| bad_input(file.at(line.number, &reason)))?;
        // A line may have several events, or none, which moves the position only.
        held += events.len().max(1);
        batch.push(SourceRecord { partition: PARTITION, offset: line.number, events });
        tick(progress, "apply events", line.count);
        if held < BATCH_EVENTS {
            return Ok(());
        }
        held = 0;
        flush(&mut batch)
    })?;
    flush(&mut batch)?;
    progress.finish();
    Ok(total)
}

impl EventFile<'_> {
    /// Reads every line; gives how many there are that are not blank.
    ///
    /// # Errors
    /// The first bad lines with what is wrong with each, and how many there are.
    fn check(&self, progress: &mut Progress) -> anyhow::Result<u64> {
        let (mut bad, mut shown) = (0_u64, Vec::new());
        let lines = self.for_each_line(|line| {
            tick(progress, "check events", line.count);
            if let Err(reason) = line.events {
                bad += 1;
                match shown.len() {
                    0 => shown.push(self.at(line.number, &reason)),
                    1..MOST_SHOWN => shown.push(format!("line {}: {reason}", line.number)),
                    _ => {}
                }
            }
            Ok(())
        })?;
        progress.update("check events", lines, lines);
        progress.finish();
        if bad == 0 {
            return Ok(lines);
        }
        if bad > 1 {
            let (bad, lines) = (thousands(bad), thousands(lines));
            shown.push(format!("{bad} of {lines} lines are bad; nothing was applied"));
        }
        Err(bad_input(shown.join("; ")))
    }

    fn at(&self, line: u64, reason: &str) -> String {
        format!("{} line {line}: {reason}", self.path.display())
    }

    /// Calls `each` with every line that is not blank. Returns how many there were.
    fn for_each_line(&self, mut each: impl FnMut(Line) -> anyhow::Result<()>) -> anyhow::Result<u64> {
        let shown = self.path.display();
        let refuse = |error: std::io::Error| bad_input(format!("events file {shown}: {error}"));
        let mut reader = BufReader::new(File::open(self.path).map_err(refuse)?.take(self.bytes));
        let mut line = Vec::new();
        let (mut number, mut count) = (0_u64, 0_u64);
        loop {
            line.clear();
            let read = (&mut reader).take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut line).map_err(refuse)?;
            if read == 0 {
                break;
            }
            number += 1;
            let too_long = line.len() as u64 > MAX_LINE_BYTES && line.last() != Some(&b'\n');
            let events = if too_long {
                Err(format!("is longer than {MAX_LINE_BYTES} bytes; give one event a line. Nothing after it was read"))
            } else if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            } else {
                parse(&*self.decoder, line.strip_suffix(b"\n").unwrap_or(&line), self.taken_ms)
            };
            count += 1;
            each(Line { count, number, events })?;
            // Its end may be far away, or nowhere.
            if too_long {
                break;
            }
        }
        if count == 0 {
            return Err(bad_input(format!("{shown} holds no event; give one JSON object a line")));
        }
        Ok(count)
    }
}

/// The events of one line, or the reason why not with the field's name.
fn parse(decoder: &dyn Decoder, line: &[u8], taken_ms: i64) -> Result<Vec<StreamEvent>, String> {
    // JSON counts lines inside what it was given, which is always 1 here.
    let events = decoder.decode(line).map_err(|reject| reject.to_string().replace("line 1 column", "column"))?;
    events.iter().try_for_each(|event| event.check_ahead(taken_ms)).map_err(|error| error.to_string())?;
    Ok(events)
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
        let (native, taken_ms) = (decoder(Format::Native), 1_000);
        let check = |line: &str, part: &str| {
            let reason = parse(&*native, line.as_bytes(), taken_ms).unwrap_err();
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
        // A day ahead of the clock is the last moment that is taken.
        check(r#"{"user_id":"u","item_id":"1","timestamp_ms":86401001}"#, "set the producer's clock");
        for good in [
            r#"{"user_id":"u","item_id":"1","timestamp_ms":5}"#,
            r#"{"user_id":"u","item_id":"1","timestamp_ms":86401000}"#,
        ] {
            parse(&*native, good.as_bytes(), taken_ms).unwrap();
        }
    }
}

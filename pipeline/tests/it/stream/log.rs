//! The event log: what was acknowledged is read, what a crash left is dropped, damage is refused.

use super::world::{clock, events, messages, poison, segments};
use pipeline::stream::{LogLimits, LogReader, LogWriter, Outgoing, Sink as _, StreamError};
use proptest::prelude::*;
use std::path::Path;

const LIMITS: LogLimits = LogLimits { segment_bytes: 4096, max_segments: 1000 };

fn writer(dir: &Path) -> Result<LogWriter, StreamError> {
    LogWriter::open(dir, LIMITS, clock())
}

fn read(dir: &Path, from: u64) -> Result<Vec<(u64, Vec<u8>)>, StreamError> {
    let mut reader = LogReader::open(dir, from)?;
    let mut found = Vec::new();
    while let Some(message) = reader.next_message()? {
        found.push((message.offset, message.payload));
    }
    Ok(found)
}

fn numbered(sent: &[Outgoing]) -> Vec<(u64, Vec<u8>)> {
    (0..).zip(sent.iter().map(|message| message.payload.clone())).collect()
}

#[test]
fn what_is_written_is_read_from_any_offset_over_many_segments() {
    let dir = tempfile::tempdir().unwrap();
    let sent = messages(&events(500, 10));
    for part in sent.chunks(7) {
        writer(dir.path()).unwrap().put(part).unwrap();
    }
    assert!(segments(dir.path()).len() > 5);
    for from in [0, 1, 6, 7, 250, 499, 500] {
        assert_eq!(read(dir.path(), from).unwrap(), numbered(&sent)[from as usize..], "from {from}");
    }
}

#[test]
fn a_reader_follows_a_writer() {
    let dir = tempfile::tempdir().unwrap();
    let mut reader = LogReader::open(&dir.path().join("log"), 0).unwrap();
    assert_eq!(reader.next_message().unwrap(), None, "a log that is not there yet is empty");
    let mut writer = writer(&dir.path().join("log")).unwrap();
    assert_eq!(reader.next_message().unwrap(), None);
    for (offset, message) in (0..).zip(messages(&events(300, 10))) {
        writer.put(std::slice::from_ref(&message)).unwrap();
        let found = reader.next_message().unwrap().unwrap();
        assert_eq!((found.offset, found.payload, found.key), (offset, message.payload, message.key));
        assert_eq!(reader.next_message().unwrap(), None);
    }
}

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let held = writer(dir.path()).unwrap();
    assert!(writer(dir.path()).unwrap_err().to_string().contains("another process"));
    read(dir.path(), 0).unwrap();
    drop(held);
    writer(dir.path()).unwrap();
}

#[test]
fn the_oldest_segments_go_and_a_reader_begins_with_what_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { max_segments: 3, ..LIMITS };
    let mut writer = LogWriter::open(dir.path(), limits, clock()).unwrap();
    for message in messages(&events(500, 10)) {
        writer.put(&[message]).unwrap();
    }
    let left = segments(dir.path());
    assert_eq!(left.len(), 3);
    let mut reader = LogReader::open(dir.path(), 0).unwrap();
    let first = reader.next_message().unwrap().unwrap();
    let name = format!("{:020}.log", first.offset);
    assert!(first.offset > 300 && left[0].ends_with(&name), "{name} of {left:?}");
}

/// Something was in the way of the next segment: what is written once it is gone has the offsets it should.
#[test]
fn a_segment_that_cannot_be_begun_is_begun_by_a_later_write() {
    let dir = tempfile::tempdir().unwrap();
    let limits = LogLimits { segment_bytes: 1, ..LIMITS };
    let mut writer = LogWriter::open(dir.path(), limits, clock()).unwrap();
    let sent = messages(&events(3, 3));
    writer.put(&sent[..1]).unwrap();
    let in_the_way = dir.path().join(format!("{:020}.log", 1));
    std::fs::create_dir(&in_the_way).unwrap();
    assert!(writer.put(&sent[1..2]).is_err() && writer.put(&sent[1..2]).is_err());
    std::fs::remove_dir(&in_the_way).unwrap();
    writer.put(&sent[1..2]).unwrap();
    writer.put(&sent[2..]).unwrap();
    assert_eq!(segments(dir.path()).len(), 3);
    assert_eq!(read(dir.path(), 0).unwrap(), numbered(&sent));
}

#[test]
fn damage_before_the_end_is_refused_by_writer_and_reader() {
    let dir = tempfile::tempdir().unwrap();
    let sent = messages(&events(20, 10));
    let mut held = writer(dir.path()).unwrap();
    for message in &sent {
        held.put(std::slice::from_ref(message)).unwrap();
    }
    drop(held);
    let path = segments(dir.path()).remove(0);
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    std::fs::write(&path, &bytes).unwrap();
    for message in [writer(dir.path()).unwrap_err().to_string(), read(dir.path(), 0).unwrap_err().to_string()] {
        assert!(message.contains(".log") && message.contains("damaged"), "{message}");
    }
}

/// Segments whose id is gone, or is another log's, are nobody's write cut short: not a byte of them is dropped. In the
/// last segment of the second log is one frame, which only an earlier segment tells from such a write.
#[test]
fn segments_without_their_id_are_refused_and_stay() {
    for segment_bytes in [4096, 1] {
        let dir = tempfile::tempdir().unwrap();
        let mut held = LogWriter::open(dir.path(), LogLimits { segment_bytes, ..LIMITS }, clock()).unwrap();
        for message in messages(&events(3, 3)) {
            held.put(&[message]).unwrap();
        }
        drop(held);
        let (id, segment) = (dir.path().join("id"), segments(dir.path()).pop().unwrap());
        let (kept, bytes) = (std::fs::read(&id).unwrap(), std::fs::read(&segment).unwrap());
        let refused = |part: &str| {
            let error = writer(dir.path()).unwrap_err().to_string();
            assert!(error.contains(part), "{error:?} lacks {part:?}");
            assert_eq!(std::fs::read(&segment).unwrap(), bytes);
            error
        };
        std::fs::remove_file(&id).unwrap();
        let error = refused("no file `id`");
        assert_eq!(read(dir.path(), 0).unwrap_err().to_string(), error);
        std::fs::write(&id, "0123456789abcdef0123456789abcdef").unwrap();
        assert!(refused("is damaged at byte 0").contains("the log's `id`"));
        std::fs::write(&id, kept).unwrap();
        writer(dir.path()).unwrap();
        assert_eq!(read(dir.path(), 0).unwrap().len(), 3);
    }
}

/// A crash in the first write to a segment: those before it are this log's, so nothing is damaged.
#[test]
fn a_first_write_to_a_segment_that_was_cut_short_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let sent = messages(&events(2, 2));
    let mut held = LogWriter::open(dir.path(), LogLimits { segment_bytes: 1, ..LIMITS }, clock()).unwrap();
    held.put(&sent[..1]).unwrap();
    held.put(&sent[1..]).unwrap();
    drop(held);
    let last = segments(dir.path()).pop().unwrap();
    let bytes = std::fs::read(&last).unwrap();
    // The second time a segment lies between them to which no write succeeded.
    for (next, empty) in [(1, None), (2, Some(&last))] {
        if let Some(empty) = empty {
            std::fs::write(empty, "").unwrap();
        }
        let cut = dir.path().join(format!("{next:020}.log"));
        std::fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
        let mut writer = writer(dir.path()).unwrap();
        assert_eq!(std::fs::metadata(&cut).unwrap().len(), 0, "dropped");
        let places = writer.put(&sent[1..]).unwrap();
        assert_eq!(places[0].offset, Some(next));
        drop(writer);
        std::fs::remove_file(&cut).unwrap();
    }
}

#[test]
fn a_folder_that_is_no_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("id"), "somebody's file").unwrap();
    let error = writer(dir.path()).unwrap_err().to_string();
    assert!(error.contains("no id of a log; restore the file, or name another folder"), "{error}");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(writer(&file).is_err());
}

#[test]
fn a_message_that_is_too_long_is_refused_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = writer(dir.path()).unwrap();
    assert!(writer.put(&[poison(&vec![0; 5 << 20])]).unwrap_err().to_string().contains("at most"));
    writer.put(&[poison(b"short")]).unwrap();
    assert_eq!(read(dir.path(), 0).unwrap(), [(0, b"short".to_vec())]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A crash may cut the last write anywhere, and may leave anything where its bytes should be.
    #[test]
    fn a_write_cut_short_is_dropped_and_nothing_else(count in 1_usize..30, cut in 0.0_f64..1.0, zeros in any::<bool>()) {
        let dir = tempfile::tempdir().unwrap();
        let sent = messages(&events(count, 5));
        let mut held = writer(dir.path()).unwrap();
        held.put(&sent).unwrap();
        drop(held);
        let path = segments(dir.path()).pop().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let mut torn = bytes.clone();
        let kept = (torn.len() as f64 * cut) as usize;
        if zeros { torn[kept..].fill(0) } else { torn.truncate(kept) }
        bytes.extend_from_slice(&torn);
        std::fs::write(&path, &bytes).unwrap();

        prop_assert_eq!(read(dir.path(), 0).unwrap(), numbered(&sent), "a reader stops before it");
        let mut again = writer(dir.path()).unwrap();
        prop_assert_eq!(std::fs::metadata(&path).unwrap().len() as usize, bytes.len() - torn.len());
        let places = again.put(&sent).unwrap();
        prop_assert_eq!(places[0].offset, Some(count as u64));
        let twice: Vec<Outgoing> = sent.iter().chain(&sent).cloned().collect();
        prop_assert_eq!(read(dir.path(), 0).unwrap(), numbered(&twice));
    }
}

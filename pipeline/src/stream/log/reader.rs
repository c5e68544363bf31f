//! Reading the log, from any offset on and while it is being written.

use super::frame::{Found, Seal, any_frame, decode};
use super::tail::Tail;
use super::{MAX_FRAME_BYTES, read_id, segments};
use crate::stream::StreamError;
use crate::stream::message::{MAX_BATCH_BYTES, Message, Source};
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Bytes asked from the file at once.
const READ_BYTES: usize = 1 << 20;
/// How often a reader at the end looks for more.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How often a source looks how much is left to read.
const LAG_EVERY: Duration = Duration::from_secs(1);

/// A place in a log that moves forward.
pub struct LogReader {
    dir: PathBuf,
    /// None as long as there is no log.
    seal: Option<Seal>,
    /// Current segment; none before the log's first message.
    file: Option<(File, PathBuf)>,
    /// Offset of its first message.
    first: u64,
    /// Bytes read from it; those from `at` on are not yet decoded.
    buffer: Vec<u8>,
    at: usize,
    /// Offset of the next message to decode.
    next: u64,
    /// Messages before this one are passed over.
    from: u64,
    ready: VecDeque<Message>,
    /// Whether all that was read has been synced: a writer syncs after it writes, and what a reader gives
    /// out must not be lost by a crash in between.
    synced: bool,
}

impl LogReader {
    /// A reader that gives the message at `from` first, or the oldest one after it. A log that does
    /// not exist yet is an empty one.
    ///
    /// # Errors
    /// The folder is no log, or its id is missing.
    pub fn open(dir: &Path, from: u64) -> Result<LogReader, StreamError> {
        Ok(LogReader {
            dir: dir.to_path_buf(),
            seal: seal_of(dir)?,
            file: None,
            first: 0,
            buffer: Vec::new(),
            at: 0,
            next: 0,
            from,
            ready: VecDeque::new(),
            synced: true,
        })
    }

    /// The next message; `None` at the end, where more may come.
    ///
    /// # Errors
    /// The log is damaged, or the system refuses to read it.
    pub fn next_message(&mut self) -> Result<Option<Message>, StreamError> {
        loop {
            if !self.ready.is_empty() {
                self.sync()?;
                return Ok(self.ready.pop_front());
            }
            if !self.advance()? {
                return Ok(None);
            }
        }
    }

    /// Makes sure that what was read is on the disk, before any of it is given out.
    fn sync(&mut self) -> Result<(), StreamError> {
        if !self.synced {
            let (file, path) = self.file.as_ref().expect("a frame came from a segment");
            file.sync_data().map_err(StreamError::io(path))?;
            self.synced = true;
        }
        Ok(())
    }

    /// Decodes one frame more, or moves on to the next segment; false at the end.
    fn advance(&mut self) -> Result<bool, StreamError> {
        if self.file.is_none() && !self.enter_first()? {
            return Ok(false);
        }
        loop {
            let seal = self.seal.expect("a segment is open");
            match decode(seal, &self.buffer[self.at..], self.next) {
                Found::Frame(messages, size) => {
                    self.at += size;
                    self.next += messages.len() as u64;
                    let from = self.from;
                    self.ready.extend(messages.into_iter().filter(|message| message.offset >= from));
                    return Ok(true);
                }
                Found::Damaged if any_frame(seal, &self.buffer[self.at..]) => return Err(self.damaged()),
                // The end of a write that is going on, or that a crash cut short.
                _ if self.read_more()? => (),
                // A length that is damaged looks like a frame that is not all there.
                _ if any_frame(seal, &self.buffer[self.at..]) => return Err(self.damaged()),
                _ => return self.enter_next(),
            }
        }
    }

    fn read_more(&mut self) -> Result<bool, StreamError> {
        self.buffer.drain(..self.at);
        self.at = 0;
        if self.buffer.len() > 2 * MAX_FRAME_BYTES {
            return Err(self.damaged());
        }
        let held = self.buffer.len();
        self.buffer.resize(held + READ_BYTES, 0);
        let (file, path) = self.file.as_mut().expect("a segment is open");
        let read = file.read(&mut self.buffer[held..]);
        self.buffer.truncate(held + *read.as_ref().unwrap_or(&0));
        let found = read.map_err(StreamError::io(path))? > 0;
        self.synced &= !found;
        Ok(found)
    }

    /// Opens the segment that holds `from`, or the oldest.
    fn enter_first(&mut self) -> Result<bool, StreamError> {
        if self.seal.is_none() {
            self.seal = seal_of(&self.dir)?;
        }
        if self.seal.is_none() {
            return Ok(false);
        }
        let all = segments(&self.dir)?;
        let Some((oldest, _)) = all.first().cloned() else { return Ok(false) };
        self.from = self.from.max(oldest);
        let place = all.partition_point(|(first, _)| *first <= self.from) - 1;
        let (first, path) = all[place].clone();
        self.enter(first, path)
    }

    /// Moves to the segment after this one if there is one; false at the end of the log.
    fn enter_next(&mut self) -> Result<bool, StreamError> {
        let first = self.first;
        let Some((first, path)) = segments(&self.dir)?.into_iter().find(|(other, _)| *other > first) else {
            // What is left may be a write cut short, which the next writer replaces: look again then.
            self.step_back()?;
            return Ok(false);
        };
        // Another segment follows, so this one is final, and one more look decides.
        if self.read_more()? {
            return Ok(true);
        }
        if !self.buffer.is_empty() || first < self.next {
            return Err(self.damaged());
        }
        self.enter(first, path)
    }

    /// Forgets undecoded bytes and goes back to where they began.
    fn step_back(&mut self) -> Result<(), StreamError> {
        let held = (self.buffer.len() - self.at) as i64;
        let (file, path) = self.file.as_mut().expect("a segment is open");
        file.seek(SeekFrom::Current(-held)).map_err(StreamError::io(path))?;
        self.buffer.clear();
        self.at = 0;
        Ok(())
    }

    /// Opens a segment; false if the writer has removed it since it was listed, so that the next look finds another.
    fn enter(&mut self, first: u64, path: PathBuf) -> Result<bool, StreamError> {
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(StreamError::io(&path)(error)),
        };
        self.file = Some((file, path));
        self.buffer.clear();
        self.at = 0;
        self.first = first;
        self.next = first;
        Ok(true)
    }

    fn damaged(&self) -> StreamError {
        let path = self.file.as_ref().map_or(&self.dir, |(_, path)| path);
        StreamError::log(path, format!("is damaged after offset {}; restore a copy of the file", self.next))
    }
}

/// A log as a source of one partition.
pub struct LogSource {
    reader: LogReader,
    name: String,
    /// Offset after the last message that was there at the start.
    end: u64,
    /// Offset of the last message that was applied when it was opened.
    applied: Option<u64>,
    /// Offset of the message to give out next.
    given: u64,
    /// Offsets passed over because no message lies there.
    lost: u64,
    tail: Tail,
    /// Offset after the last message as of the last look.
    reaches: u64,
    looked_at: Option<Instant>,
}

impl LogSource {
    /// Reads from `from` on, under a name made of the log's id: a log that was removed and begun
    /// anew is another source. `applied` is the offset of the last message that the store says was applied.
    ///
    /// # Errors
    /// The folder is no log, or is damaged, or ends before `from`.
    pub fn open(dir: &Path, from: u64, applied: Option<u64>) -> Result<LogSource, StreamError> {
        let name = source_name(dir)?;
        let end = end_of(dir)?;
        if from > end {
            return Err(StreamError::log(
                dir,
                format!(
                    "ends at offset {end}, and reading goes on at offset {from}; restore the log, or begin another"
                ),
            ));
        }
        let tail = Tail::new(dir, from);
        Ok(LogSource {
            reader: LogReader::open(dir, from)?,
            name,
            end,
            applied,
            given: from,
            lost: 0,
            tail,
            reaches: end,
            looked_at: None,
        })
    }

    /// Says so where messages are missing before the one at `offset`.
    fn note_gap(&mut self, offset: u64) {
        let missing = offset.saturating_sub(self.given);
        if missing > 0 {
            self.lost += missing;
            tracing::warn!(
                log = %self.reader.dir.display(),
                after = self.given,
                before = offset,
                "the log holds no messages there: its oldest segments were removed before they were applied \
                 (log.max_segments), or writes to it failed"
            );
        }
    }
}

fn seal_of(dir: &Path) -> Result<Option<Seal>, StreamError> {
    Ok(read_id(dir)?.map(|id| Seal::of(&id)))
}

/// Whether a writer has begun a log there.
pub(crate) fn is_begun(dir: &Path) -> Result<bool, StreamError> {
    Ok(read_id(dir)?.is_some())
}

/// The name under which a log's positions are kept.
///
/// # Errors
/// There is no log yet, which a writer begins, or its id is missing or none.
pub(crate) fn source_name(dir: &Path) -> Result<String, StreamError> {
    read_id(dir)?
        .map(|id| format!("log:{id}"))
        .ok_or_else(|| StreamError::log(dir, "holds no event log; a producer or `serve` begins it"))
}

/// Offset of the oldest message; 0 of a log without any.
pub(crate) fn oldest_of(dir: &Path) -> Result<u64, StreamError> {
    Ok(segments(dir)?.first().map_or(0, |(first, _)| *first))
}

/// Offset after the last whole message. Reads the last segment only.
pub(crate) fn end_of(dir: &Path) -> Result<u64, StreamError> {
    let Some((first, _)) = segments(dir)?.pop() else { return Ok(0) };
    let mut reader = LogReader::open(dir, first)?;
    let mut end = first;
    while let Some(message) = reader.next_message()? {
        end = message.offset + 1;
    }
    Ok(end)
}

impl Source for LogSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn began(&self) -> BTreeMap<u32, u64> {
        self.applied.map(|position| (0, position)).into_iter().collect()
    }

    fn poll(&mut self, batch: &mut Vec<Message>, most: usize, wait: Duration) -> Result<(), StreamError> {
        let until = Instant::now() + wait;
        let full = batch.len() + most;
        let mut bytes = 0;
        while batch.len() < full && bytes < MAX_BATCH_BYTES {
            match self.reader.next_message()? {
                Some(message) => {
                    self.note_gap(message.offset);
                    self.given = message.offset + 1;
                    // Not 0 of the emptiest: it says that something was found.
                    bytes += message.bytes().max(1);
                    batch.push(message);
                }
                None if bytes > 0 => break,
                None => {
                    let left = until.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    std::thread::sleep(left.min(LOOK_EVERY));
                }
            }
        }
        self.end = self.end.max(self.given);
        if self.looked_at.is_none_or(|at| at.elapsed() >= LAG_EVERY) {
            self.looked_at = Some(Instant::now());
            self.reaches = self.tail.end().max(self.given);
        }
        Ok(())
    }

    fn applied(&mut self, _reached: &BTreeMap<u32, u64>) -> Result<(), StreamError> {
        Ok(())
    }

    fn at_end(&self) -> bool {
        self.given >= self.end
    }

    fn ends(&self) -> BTreeMap<u32, u64> {
        BTreeMap::from([(0, self.end)])
    }

    fn lost(&self) -> u64 {
        self.lost
    }

    fn lag(&self) -> BTreeMap<u32, u64> {
        BTreeMap::from([(0, self.reaches.max(self.end).saturating_sub(self.given))])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The writer may remove the oldest segment between the list of segments and the opening of one.
    #[test]
    fn a_segment_that_is_gone_is_looked_for_again_and_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let mut reader = LogReader::open(dir.path(), 0).unwrap();
        let gone = dir.path().join("00000000000000000007.log");
        assert!(!reader.enter(7, gone.clone()).unwrap() && reader.file.is_none());
        std::fs::write(&gone, "").unwrap();
        assert!(reader.enter(7, gone).unwrap() && reader.next == 7);
    }
}

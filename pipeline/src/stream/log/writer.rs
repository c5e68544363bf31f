//! Writing the log: one writer at a time, every batch synced before it counts.

use super::frame::{Found, Seal, any_frame, decode, encode, two_heads};
use super::{MAX_MESSAGE_BYTES, read_id, segment_path, segments};
use crate::stream::message::{Outgoing, Place, Sink};
use crate::stream::{Clock, StreamError};
use feature_store::{create_dir_all_synced, sync_path, write_whole};
use std::fs::{File, OpenOptions};
use std::hash::{BuildHasher as _, Hasher as _};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

/// Sizes of a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogLimits {
    /// Bytes after which a new segment is begun.
    pub segment_bytes: u64,
    /// Segments kept, the one that is written included; past that the oldest goes, read or not. At least 2.
    pub max_segments: usize,
}

/// The writer of a log.
pub struct LogWriter {
    dir: PathBuf,
    seal: Seal,
    limits: LogLimits,
    clock_ms: Clock,
    file: File,
    path: PathBuf,
    bytes: u64,
    /// Offset of the segment's first message.
    first: u64,
    next: u64,
    /// A write failed half-way and could not be taken back: the end is looked for before the next one.
    broken: bool,
    /// A segment is to be begun before the next write: offsets were used up, or beginning one failed half-way.
    roll_first: bool,
    _lock: File,
}

impl LogWriter {
    /// Opens a log for writing, or begins one. `clock_ms` dates messages, in milliseconds since the
    /// Unix epoch.
    ///
    /// # Errors
    /// Another process writes to it, its id is missing, or a segment is damaged before its end.
    pub fn open(dir: &Path, limits: LogLimits, clock_ms: Clock) -> Result<LogWriter, StreamError> {
        create_dir_all_synced(dir)?;
        let lock_path = dir.join("lock");
        let options = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
        let lock = options.map_err(StreamError::io(&lock_path))?;
        if lock.try_lock().is_err() {
            return Err(StreamError::log(dir, "is being written by another process; stop it or name another log"));
        }
        let id = match read_id(dir)? {
            Some(id) => id,
            None => begin(dir)?,
        };
        let (first, path) = segments(dir)?.pop().unwrap_or_else(|| (0, segment_path(dir, 0)));
        let file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path);
        let file = file.map_err(StreamError::io(&path))?;
        let mut writer = LogWriter {
            dir: dir.to_path_buf(),
            seal: Seal::of(&id),
            limits,
            clock_ms,
            file,
            path,
            bytes: 0,
            first,
            next: first,
            broken: false,
            roll_first: false,
            _lock: lock,
        };
        writer.recover()?;
        sync_path(dir)?;
        Ok(writer)
    }

    /// Finds the end of the last segment and drops a write that a crash cut short.
    fn recover(&mut self) -> Result<(), StreamError> {
        let bytes = std::fs::read(&self.path).map_err(StreamError::io(&self.path))?;
        let mut at = 0;
        self.next = self.first;
        while let Found::Frame(messages, size) = decode(self.seal, &bytes[at..], self.next) {
            at += size;
            self.next += messages.len() as u64;
        }
        let rest = &bytes[at..];
        let none_is_ours = at == 0 && !rest.is_empty() && !self.owns_earlier()?;
        if none_is_ours || any_frame(self.seal, rest) || two_heads(rest) {
            let reason = format!(
                "is damaged at byte {at}, and not by a write cut short; restore a copy of the file, or of the log's `id`"
            );
            return Err(StreamError::log(&self.path, reason));
        }
        if at < bytes.len() {
            self.file.set_len(at as u64).map_err(StreamError::io(&self.path))?;
            self.file.sync_all().map_err(StreamError::io(&self.path))?;
            let lost = bytes.len() - at;
            tracing::warn!(log = %self.path.display(), bytes = lost, "dropped the end of a write that was cut short");
        }
        self.bytes = at as u64;
        self.file.seek(SeekFrom::End(0)).map_err(StreamError::io(&self.path))?;
        self.broken = false;
        Ok(())
    }

    /// Whether the segment before the last one begins with a frame under this log's id; true where there is none.
    fn owns_earlier(&self) -> Result<bool, StreamError> {
        let earlier = segments(&self.dir)?.into_iter().rev().filter(|(first, _)| *first < self.first);
        for (first, path) in earlier {
            let bytes = std::fs::read(&path).map_err(StreamError::io(&path))?;
            // One is empty where no write to it succeeded: it says nothing.
            if !bytes.is_empty() {
                return Ok(matches!(decode(self.seal, &bytes, first), Found::Frame(..)));
            }
        }
        Ok(true)
    }

    /// Begins the segment of the next offset.
    fn roll(&mut self) -> Result<(), StreamError> {
        // Where this ends half-way, the next write does it again: nothing was written to the new file by then.
        self.roll_first = true;
        let path = segment_path(&self.dir, self.next);
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&path);
        self.file = file.map_err(StreamError::io(&path))?;
        self.path = path;
        self.bytes = 0;
        self.first = self.next;
        self.broken = false;
        let mut all = segments(&self.dir)?;
        // The newest one is that which is written; a reader may be in the one before it.
        all.truncate(all.len().saturating_sub(self.limits.max_segments.max(2)));
        for (_, path) in all {
            std::fs::remove_file(&path).map_err(StreamError::io(&path))?;
        }
        sync_path(&self.dir)?;
        self.roll_first = false;
        Ok(())
    }

    /// Does what an earlier write left undone.
    fn mend(&mut self) -> Result<(), StreamError> {
        if self.roll_first {
            if self.broken {
                // A part of a write before the next segment would be damage.
                let cut = self.file.set_len(self.bytes).and_then(|()| self.file.sync_all());
                cut.map_err(StreamError::io(&self.path))?;
            }
            return self.roll();
        }
        if self.broken { self.recover() } else { Ok(()) }
    }

    fn put_frame(&mut self, frame: &[u8], count: u64) -> Result<(), StreamError> {
        if self.bytes > 0 && self.bytes + frame.len() as u64 > self.limits.segment_bytes {
            self.roll()?;
        }
        if let Err(error) = self.file.write_all(frame) {
            // Not all of it is there, so no reader took it: its offsets are free.
            self.take_back();
            return Err(StreamError::io(&self.path)(error));
        }
        if let Err(error) = self.file.sync_data() {
            let failed = StreamError::io(&self.path)(error);
            // A reader may have seen it, so its offsets are not given again: the next segment begins
            // behind them.
            self.take_back();
            self.next += count;
            self.roll_first = true;
            if let Err(error) = self.mend() {
                tracing::warn!(%error, "the log's next segment cannot be begun yet: the next write tries again");
            }
            return Err(failed);
        }
        self.bytes += frame.len() as u64;
        self.next += count;
        Ok(())
    }

    /// What was not acknowledged must not be read as written later.
    fn take_back(&mut self) {
        self.broken = self.file.set_len(self.bytes).and_then(|()| self.file.sync_all()).is_err()
            || self.file.seek(SeekFrom::End(0)).is_err();
    }
}

impl Sink for LogWriter {
    fn put(&mut self, messages: &[Outgoing]) -> Result<Vec<Place>, StreamError> {
        self.mend()?;
        let mut places = Vec::with_capacity(messages.len());
        let taken_ms = (self.clock_ms)();
        let mut rest = messages;
        while !rest.is_empty() {
            let (frame, count) = encode(self.seal, rest, taken_ms).ok_or_else(|| {
                let reason = format!(
                    "takes messages of at most {MAX_MESSAGE_BYTES} bytes with key and headers; send smaller ones"
                );
                StreamError::log(&self.dir, reason)
            })?;
            self.put_frame(&frame, count as u64)?;
            let from = self.next - count as u64;
            places.extend((from..self.next).map(|offset| Place { partition: 0, offset: Some(offset) }));
            rest = &rest[count..];
        }
        Ok(places)
    }
}

impl std::fmt::Debug for LogWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogWriter({} at {})", self.dir.display(), self.next)
    }
}

/// Gives a new log its name, whole or not at all.
fn begin(dir: &Path) -> Result<String, StreamError> {
    // std's hasher keys are the system's random numbers.
    let random = || std::hash::RandomState::new().build_hasher().finish();
    let id = format!("{:016x}{:016x}", random(), random());
    write_whole(&dir.join("id"), id.as_bytes())?;
    Ok(id)
}

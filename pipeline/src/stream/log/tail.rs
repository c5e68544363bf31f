//! How far a log reaches, without reading its messages: from frame head to frame head.

use super::frame::{HEAD_BYTES, counted};
use super::segments;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// A place that moves to the end of the log, and on as the log grows.
pub(super) struct Tail {
    dir: PathBuf,
    /// Current segment, and offset of its first message.
    file: Option<(File, u64)>,
    at: u64,
    next: u64,
}

impl Tail {
    /// Starts at a segment that begins at or before `offset`, which must not be after the log's end.
    pub(super) fn new(dir: &Path, offset: u64) -> Tail {
        Tail { dir: dir.to_path_buf(), file: None, at: 0, next: offset }
    }

    /// Offset after the last message, as far as it can be seen: it is for the numbers, so what cannot be
    /// read is taken for the end.
    pub(super) fn end(&mut self) -> u64 {
        if self.file.is_none() && !self.enter(|first, next| first <= next) {
            return self.next;
        }
        loop {
            let Some((file, first)) = &mut self.file else { return self.next };
            let first = *first;
            let mut head = [0_u8; HEAD_BYTES + 12];
            let read = file.seek(SeekFrom::Start(self.at)).and_then(|_| file.read_exact(&mut head));
            let whole = read.is_ok();
            let len = file.metadata().map_or(0, |found| found.len());
            match counted(&head).filter(|(bytes, _)| whole && self.at + bytes <= len) {
                Some((bytes, count)) => {
                    self.at += bytes;
                    self.next += u64::from(count);
                }
                None if self.enter(|other, _| other > first) => (),
                None => return self.next,
            }
        }
    }

    /// Opens the last segment that `wanted` takes if the first one is looked for, else the first such.
    fn enter(&mut self, wanted: impl Fn(u64, u64) -> bool) -> bool {
        let next = self.next;
        let Ok(all) = segments(&self.dir) else { return false };
        let mut fitting = all.into_iter().filter(|(first, _)| wanted(*first, next));
        let found = if self.file.is_none() { fitting.next_back() } else { fitting.next() };
        let Some((first, path)) = found else { return false };
        let Ok(file) = File::open(path) else { return false };
        self.file = Some((file, first));
        (self.at, self.next) = (0, first);
        true
    }
}

//! An append-only log of messages in a folder: what stands in for a broker on one machine.
//!
//! ```text
//! DIR/id                       32 hexadecimal digits that name this log among all others
//! DIR/00000000000000000000.log messages from offset 0 on
//! DIR/00000000000000020480.log messages from offset 20480 on
//! frame:   "rLG1" body_len:u32 crc32(body):u32 body
//! body:    taken_ms:i64 count:u32 message*
//! message: key headers:u16 (name value)* payload     each text as len:u32 bytes
//! ```
//! Numbers are little-endian. An offset is a message's place in the log, from 0. A frame is one
//! write; it is synced before the next begins. A write cut short by a crash is a spoilt last frame:
//! the next writer drops it and says so. Anything else that does not add up is refused, never
//! skipped.
//!
//! With another log's `id` no frame is one, and the last of them is not taken for such a write where other frames say
//! so: in its segment, or in one before. A log of one frame has no other, and loses it.

mod frame;
mod reader;
mod tail;
mod writer;

pub(super) use frame::takes;
pub use reader::{LogReader, LogSource};
pub(crate) use reader::{end_of, is_begun, oldest_of, source_name};
pub use writer::{LogLimits, LogWriter};

use super::StreamError;
use std::path::{Path, PathBuf};

/// Longest message, in bytes, with its key and headers.
const MAX_MESSAGE_BYTES: usize = 4 << 20;
/// Longest frame, in bytes; a longer batch becomes several.
const MAX_FRAME_BYTES: usize = 16 << 20;

/// The segments of a log: first offset and file, in order.
fn segments(dir: &Path) -> Result<Vec<(u64, PathBuf)>, StreamError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(StreamError::io(dir))? {
        let path = entry.map_err(StreamError::io(dir))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(first) = name.strip_suffix(".log").filter(|first| first.len() == 20)
            && let Ok(first) = first.parse()
        {
            found.push((first, path));
        }
    }
    found.sort_unstable();
    Ok(found)
}

fn segment_path(dir: &Path, first: u64) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// The log's id; `None` where there is no log yet.
///
/// # Errors
/// What lies there is no id, or segments lie there without one.
fn read_id(dir: &Path) -> Result<Option<String>, StreamError> {
    if !dir.is_dir() {
        return Ok(None);
    }
    // Looked for before the id: a log that is begun meanwhile has its id first.
    let has_segments = !segments(dir)?.is_empty();
    let path = dir.join("id");
    match std::fs::read_to_string(&path) {
        Ok(id) if id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) => Ok(Some(id)),
        Ok(_) => Err(StreamError::log(&path, "is no id of a log; restore the file, or name another folder")),
        // Under a new id the last segment would be taken for a write cut short.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && has_segments => {
            let reason = "holds segments of a log and no file `id`, without which they cannot be read; restore the \
                          file, or name another folder";
            Err(StreamError::log(dir, reason))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StreamError::io(&path)(error)),
    }
}

//! One frame of the log as bytes: the messages of one write, under one checksum.
//!
//! A frame is synced before the next is written. So a crash can only spoil the last one, and a whole
//! frame after a spoilt one proves that something else did. The checksum starts from the log's id, so
//! that neither a segment of another log nor a payload that looks like a frame passes for one.

use super::{MAX_FRAME_BYTES, MAX_MESSAGE_BYTES};
use crate::stream::message::{Message, Outgoing};

/// First bytes of a frame.
const MAGIC: [u8; 4] = *b"rLG1";
/// Magic, length and checksum.
pub(super) const HEAD_BYTES: usize = 12;

/// What lies at a place in a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// The messages of a whole frame of so many bytes, head included.
    Frame(Vec<Message>, usize),
    /// The bytes end before the frame does.
    Incomplete,
    /// No frame.
    Damaged,
}

/// What makes the frames of a log its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Seal(u32);

impl Seal {
    pub(super) fn of(id: &str) -> Seal {
        Seal(crc32fast::hash(id.as_bytes()))
    }

    fn checksum(self, body: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new_with_initial(self.0);
        hasher.update(body);
        hasher.finalize()
    }
}

/// Whether a message is short enough for a log.
pub(in crate::stream) fn takes(message: &Outgoing) -> bool {
    let headers = message.headers.iter().map(|(name, value)| 8 + name.len() + value.len());
    // Its lengths take 4 bytes each, their number 2.
    let bytes = 4 + message.key.len() + 2 + headers.sum::<usize>() + 4 + message.payload.len();
    bytes <= MAX_MESSAGE_BYTES && u16::try_from(message.headers.len()).is_ok()
}

/// The first messages as a frame, and how many there are in it; `None` if one of them is too long.
pub(super) fn encode(seal: Seal, messages: &[Outgoing], taken_ms: i64) -> Option<(Vec<u8>, usize)> {
    let mut bytes = vec![0; HEAD_BYTES + 12];
    let mut count = 0;
    for message in messages {
        let before = bytes.len();
        put_long(&message.key, &mut bytes)?;
        bytes.extend_from_slice(&u16::try_from(message.headers.len()).ok()?.to_le_bytes());
        for (name, value) in &message.headers {
            put_long(name.as_bytes(), &mut bytes)?;
            put_long(value, &mut bytes)?;
        }
        put_long(&message.payload, &mut bytes)?;
        if bytes.len() - before > MAX_MESSAGE_BYTES {
            return None;
        }
        if bytes.len() > MAX_FRAME_BYTES {
            bytes.truncate(before);
            break;
        }
        count += 1;
    }
    bytes[HEAD_BYTES..HEAD_BYTES + 8].copy_from_slice(&taken_ms.to_le_bytes());
    bytes[HEAD_BYTES + 8..HEAD_BYTES + 12].copy_from_slice(&(count as u32).to_le_bytes());
    let body = &bytes[HEAD_BYTES..];
    let (len, crc) = (body.len() as u32, seal.checksum(body));
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..8].copy_from_slice(&len.to_le_bytes());
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    Some((bytes, count))
}

/// Looks at the frame that starts `bytes`; its first message has the offset `first`.
pub(super) fn decode(seal: Seal, bytes: &[u8], first: u64) -> Found {
    let mut rest = bytes;
    let (Some(magic), Some(len), Some(crc)) = (take(&mut rest, 4), take_u32(&mut rest), take_u32(&mut rest)) else {
        return Found::Incomplete;
    };
    if magic != MAGIC || len as usize > MAX_FRAME_BYTES {
        return Found::Damaged;
    }
    let Some(body) = rest.get(..len as usize) else { return Found::Incomplete };
    if seal.checksum(body) != crc {
        return Found::Damaged;
    }
    match decode_body(body, first) {
        Some(messages) => Found::Frame(messages, HEAD_BYTES + body.len()),
        None => Found::Damaged,
    }
}

/// Bytes of the frame whose head and first 12 bytes of body these are, and messages in it. Its checksum
/// is not looked at.
pub(super) fn counted(head: &[u8; HEAD_BYTES + 12]) -> Option<(u64, u32)> {
    let mut rest = &head[..];
    let (magic, len, _crc) = (take(&mut rest, 4)?, take_u32(&mut rest)?, take_u32(&mut rest)?);
    let _taken_ms = take(&mut rest, 8)?;
    let count = take_u32(&mut rest)?;
    (magic == MAGIC && len as usize <= MAX_FRAME_BYTES).then_some((HEAD_BYTES as u64 + u64::from(len), count))
}

/// Whether the head of a frame starts `bytes`, and another one lies where it says that its frame ends. The second was
/// written after the first was synced, so no crash spoilt the first one: it is damage, or the log has another id.
pub(super) fn two_heads(bytes: &[u8]) -> bool {
    let head = |at: usize| counted(bytes.get(at..)?.first_chunk()?);
    let second = head(0).and_then(|(size, _)| head(usize::try_from(size).ok()?));
    second.is_some()
}

/// Whether a whole frame starts anywhere in `bytes`.
pub(super) fn any_frame(seal: Seal, bytes: &[u8]) -> bool {
    let mut starts = bytes.windows(MAGIC.len()).enumerate().filter(|(_, window)| *window == MAGIC);
    starts.any(|(at, _)| matches!(decode(seal, &bytes[at..], 0), Found::Frame(..)))
}

fn decode_body(body: &[u8], first: u64) -> Option<Vec<Message>> {
    let mut rest = body;
    let taken_ms = i64::from_le_bytes(take(&mut rest, 8)?.try_into().ok()?);
    let count = take_u32(&mut rest)?;
    let mut messages = Vec::new();
    for place in 0..u64::from(count) {
        let key = take_long(&mut rest)?;
        let headers = u16::from_le_bytes(take(&mut rest, 2)?.try_into().ok()?);
        let headers = (0..headers)
            .map(|_| Some((String::from_utf8(take_long(&mut rest)?).ok()?, take_long(&mut rest)?)))
            .collect::<Option<_>>()?;
        let payload = take_long(&mut rest)?;
        messages.push(Message { partition: 0, offset: first + place, taken_ms: Some(taken_ms), key, payload, headers });
    }
    rest.is_empty().then_some(messages)
}

fn put_long(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&u32::try_from(bytes.len()).ok()?.to_le_bytes());
    out.extend_from_slice(bytes);
    Some(())
}

fn take<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, tail) = bytes.split_at_checked(len)?;
    *bytes = tail;
    Some(head)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(take(bytes, 4)?.try_into().ok()?))
}

fn take_long(bytes: &mut &[u8]) -> Option<Vec<u8>> {
    let len = take_u32(bytes)?;
    take(bytes, len as usize).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seal() -> Seal {
        Seal::of("0123456789abcdef")
    }

    fn message(payload: &[u8]) -> Outgoing {
        let headers = vec![("reason".into(), b"because".to_vec())];
        Outgoing { key: b"u1".to_vec(), payload: payload.to_vec(), headers }
    }

    #[test]
    fn a_frame_survives_its_bytes_and_no_other_bytes_pass() {
        let sent = [message(b"{}"), message(b"")];
        let (bytes, count) = encode(seal(), &sent, 5).unwrap();
        let Found::Frame(found, size) = decode(seal(), &bytes, 7) else { panic!("not read") };
        assert_eq!((count, size, found[1].offset, found[1].taken_ms), (2, bytes.len(), 8, Some(5)));
        let back: Vec<Outgoing> = found
            .into_iter()
            .map(|found| Outgoing { key: found.key, payload: found.payload, headers: found.headers })
            .collect();
        assert_eq!(back, sent);
        assert_eq!(decode(Seal::of("another log"), &bytes, 7), Found::Damaged);
        for cut in 0..bytes.len() {
            assert_eq!(decode(seal(), &bytes[..cut], 7), Found::Incomplete, "cut at {cut}");
        }
        for flip in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[flip] ^= 0x10;
            assert!(!matches!(decode(seal(), &bad, 7), Found::Frame(..)), "byte {flip} flipped");
        }
        assert!(any_frame(seal(), &[b"xrLG1yy", &bytes[..], b"z"].concat()) && !any_frame(seal(), &bytes[1..]));
        let twice = bytes.repeat(2);
        assert!(two_heads(&twice) && two_heads(&twice[..bytes.len() + HEAD_BYTES + 12]), "of any log");
        assert!(!two_heads(&bytes) && !two_heads(&twice[..bytes.len() + HEAD_BYTES]) && !two_heads(&twice[1..]));
    }

    #[test]
    fn long_batches_are_split_and_long_messages_refused() {
        let big = message(&vec![0; MAX_MESSAGE_BYTES - 100]);
        let (_, count) = encode(seal(), &vec![big; 9], 5).unwrap();
        assert!((1..9).contains(&count), "{count}");
        assert_eq!(encode(seal(), &[message(&vec![0; MAX_MESSAGE_BYTES])], 5), None);
        // What `takes` says is what `encode` does, to the byte.
        let most = MAX_MESSAGE_BYTES - (4 + 2 + 2 + 8 + "reason".len() + "because".len() + 4);
        for (payload, expect) in [(most, true), (most + 1, false)] {
            let message = message(&vec![0; payload]);
            assert_eq!((takes(&message), encode(seal(), &[message], 5).is_some()), (expect, expect));
        }
    }
}

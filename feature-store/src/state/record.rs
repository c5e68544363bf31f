//! A user's record as bytes: the newest part of the history with what is needed to add to it, and
//! sealed blocks of [`BLOCK`] older entries. So the cost of an event does not grow with the history.
//!
//! ```text
//! head   version:u8  created  events  reordered_at  first_block  blocks
//!        applied:u8 [source:text partition offset]           last event that came from a source
//!        ids (newest last) ids x 8 bytes                     first 8 bytes of SHA-256(event_id)
//!        entries  newest_ms:signed  ENTRIES
//! block  version:u8  entries  newest_ms:signed  ENTRIES
//! ENTRIES (step_ms:signed item:text) each, oldest first; the first step is from 0
//! ```
//! Numbers and text are those of `codec`. Every block holds exactly [`BLOCK`] entries and the head
//! fewer than twice as many.

use super::HistoryEntry;
use super::codec::{Reader, put_i64, put_text, put_u64};
use sha2::{Digest, Sha256};

/// Entries of a sealed block.
pub(super) const BLOCK: usize = 32;
/// Event ids a head remembers.
pub(super) const ID_WINDOW: usize = 64;
/// Version of the layout above.
const VERSION: u8 = 2;

/// Where an event came from: the source's name, its partition and the offset there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Name of the source, such as a topic or a log.
    pub source: String,
    /// Partition of the source; a log has one, 0.
    pub partition: u32,
    /// Offset in the partition.
    pub offset: u64,
}

/// Entries in order of time, kept as bytes: adding the newest one is an append.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Entries {
    len: usize,
    newest_ms: i64,
    bytes: Vec<u8>,
}

impl Entries {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Time of the last entry; 0 without one.
    pub(super) fn newest_ms(&self) -> i64 {
        self.newest_ms
    }

    /// Adds an entry that is not older than the last one.
    pub(super) fn push(&mut self, timestamp_ms: i64, item: &str) {
        put_i64(&mut self.bytes, timestamp_ms.wrapping_sub(if self.len == 0 { 0 } else { self.newest_ms }));
        put_text(&mut self.bytes, item);
        self.newest_ms = timestamp_ms;
        self.len += 1;
    }

    pub(super) fn of(entries: &[HistoryEntry]) -> Entries {
        let mut made = Entries::default();
        for entry in entries {
            made.push(entry.timestamp_ms, &entry.item_id);
        }
        made
    }

    /// Cuts off the first `count` entries; what is left starts anew from time 0. `None` if there are
    /// fewer.
    pub(super) fn split_off(&mut self, count: usize) -> Option<Entries> {
        let mut reader = Reader::new(&self.bytes);
        let mut at_ms = 0_i64;
        for _ in 0..count {
            at_ms = at_ms.wrapping_add(reader.i64()?);
            reader.text()?;
        }
        let cut = self.bytes.len() - reader.rest().len();
        let first = Entries { len: count, newest_ms: at_ms, bytes: self.bytes[..cut].to_vec() };
        let mut rest = Entries { len: self.len.checked_sub(count)?, newest_ms: self.newest_ms, bytes: Vec::new() };
        if rest.len > 0 {
            put_i64(&mut rest.bytes, at_ms.wrapping_add(reader.i64()?));
            rest.bytes.extend_from_slice(reader.rest());
        }
        *self = rest;
        Some(first)
    }

    /// Appends the entries to `out`, oldest first.
    pub(super) fn read_into(&self, out: &mut Vec<HistoryEntry>) -> Option<()> {
        let mut reader = Reader::new(&self.bytes);
        let mut timestamp_ms = 0_i64;
        for _ in 0..self.len {
            timestamp_ms = timestamp_ms.wrapping_add(reader.i64()?);
            out.push(HistoryEntry { item_id: reader.text()?.to_owned(), timestamp_ms });
        }
        (reader.rest().is_empty() && (self.len == 0 || timestamp_ms == self.newest_ms)).then_some(())
    }

    fn write(&self, out: &mut Vec<u8>) {
        put_u64(out, self.len as u64);
        put_i64(out, self.newest_ms);
        out.extend_from_slice(&self.bytes);
    }

    fn read(mut reader: Reader<'_>) -> Option<Entries> {
        let len = usize::try_from(reader.u64()?).ok().filter(|len| *len < 2 * BLOCK)?;
        let newest_ms = reader.i64()?;
        Some(Entries { len, newest_ms, bytes: reader.rest().to_vec() })
    }
}

/// A sealed block as bytes.
pub(super) fn encode_block(entries: &Entries) -> Vec<u8> {
    let mut out = vec![VERSION];
    entries.write(&mut out);
    out
}

/// A sealed block from its bytes; `None` if they are not one.
pub(super) fn decode_block(bytes: &[u8]) -> Option<Entries> {
    let mut reader = Reader::new(bytes);
    (reader.u8()? == VERSION).then(|| Entries::read(reader))?
}

/// The part of a user's record that every event rewrites.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Head {
    /// Number of this user among all that were ever made.
    pub(super) created: u64,
    /// Events applied since the user appeared.
    pub(super) events: u64,
    /// `events` at the last event that did not go to the end of the history.
    pub(super) reordered_at: u64,
    /// Number of the oldest block.
    pub(super) first_block: u64,
    /// How many blocks there are, numbered from `first_block` on.
    pub(super) blocks: u64,
    /// The last event that came from a source with offsets.
    pub(super) applied: Option<Origin>,
    /// Hashes of the last event ids, oldest first.
    pub(super) ids: Vec<u8>,
    /// The newest entries.
    pub(super) entries: Entries,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(64 + self.ids.len() + self.entries.bytes.len());
        out.push(VERSION);
        for number in [self.created, self.events, self.reordered_at, self.first_block, self.blocks] {
            put_u64(&mut out, number);
        }
        match &self.applied {
            None => out.push(0),
            Some(origin) => {
                out.push(1);
                put_text(&mut out, &origin.source);
                put_u64(&mut out, u64::from(origin.partition));
                put_u64(&mut out, origin.offset);
            }
        }
        put_u64(&mut out, (self.ids.len() / 8) as u64);
        out.extend_from_slice(&self.ids);
        self.entries.write(&mut out);
        out
    }

    /// `None` if the bytes are no head of this version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Head> {
        let mut reader = Reader::new(bytes);
        if reader.u8()? != VERSION {
            return None;
        }
        let (created, events, reordered_at) = (reader.u64()?, reader.u64()?, reader.u64()?);
        let (first_block, blocks) = (reader.u64()?, reader.u64()?);
        first_block.checked_add(blocks)?;
        let applied = match reader.u8()? {
            0 => None,
            1 => Some(Origin {
                source: reader.text()?.to_owned(),
                partition: u32::try_from(reader.u64()?).ok()?,
                offset: reader.u64()?,
            }),
            _ => return None,
        };
        let ids = usize::try_from(reader.u64()?).ok().filter(|ids| *ids <= ID_WINDOW)?;
        let ids = reader.take(ids * 8)?.to_vec();
        let entries = Entries::read(reader)?;
        Some(Head { created, events, reordered_at, first_block, blocks, applied, ids, entries })
    }

    /// Notes an event id; false if it is among those remembered.
    pub(super) fn remember(&mut self, event_id: &str) -> bool {
        let digest = Sha256::digest(event_id.as_bytes());
        let hash = &digest[..8];
        if self.ids.chunks_exact(8).any(|known| known == hash) {
            return false;
        }
        if self.ids.len() == ID_WINDOW * 8 {
            self.ids.drain(..8);
        }
        self.ids.extend_from_slice(hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn head() -> Head {
        let mut head = Head { created: 4, events: 9, reordered_at: 3, first_block: 1, blocks: 2, ..Head::default() };
        head.applied = Some(Origin { source: "events".into(), partition: 7, offset: 1 << 40 });
        head.remember("e1");
        head.entries.push(1_700_000_000_000, "260");
        head.entries.push(1_700_000_000_000, "1196");
        head
    }

    #[test]
    fn a_head_survives_its_bytes_and_no_cut_of_them_is_one() {
        let bytes = head().encode();
        assert_eq!(Head::decode(&bytes), Some(head()));
        for cut in 0..bytes.len() {
            let whole =
                Head::decode(&bytes[..cut]).is_some_and(|head| head.entries.read_into(&mut Vec::new()).is_some());
            assert!(!whole, "{cut} of {} bytes passed", bytes.len());
        }
        assert_eq!(Head::decode(&[&[1], &bytes[1..]].concat()), None, "another version");
    }

    #[test]
    fn ids_are_remembered_up_to_the_window() {
        let mut head = Head::default();
        for id in 0..ID_WINDOW {
            assert!(head.remember(&id.to_string()));
        }
        assert!(!head.remember("0"));
        assert!(head.remember("new") && head.remember("0"), "the oldest id made room");
    }

    proptest! {
        #[test]
        fn sealing_cuts_and_loses_nothing(mut times in prop::collection::vec(0_i64..i64::MAX, BLOCK..2 * BLOCK)) {
            times.sort_unstable();
            let all: Vec<HistoryEntry> = times.iter().enumerate().map(|(n, time)| HistoryEntry { item_id: n.to_string(), timestamp_ms: *time }).collect();
            let mut rest = Entries::of(&all);
            let block = rest.split_off(BLOCK).unwrap();
            let mut found = Vec::new();
            decode_block(&encode_block(&block)).unwrap().read_into(&mut found).unwrap();
            prop_assert_eq!(found.len(), BLOCK);
            rest.read_into(&mut found).unwrap();
            prop_assert_eq!(found, all);
        }

        #[test]
        fn rubbish_is_no_head_and_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(head) = Head::decode(&bytes) {
                let _ = head.entries.read_into(&mut Vec::new());
            }
            if let Some(mut block) = decode_block(&bytes) {
                let _ = block.read_into(&mut Vec::new());
                if block.len() >= BLOCK { let _ = block.split_off(BLOCK); }
            }
        }
    }
}

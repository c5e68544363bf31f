//! Where the next page begins, as an opaque text: hex of a few numbers, with a checksum, so that a text
//! that this service did not give is told from one that is not valid any more.
//!
//! A page of a ranking is a cut of it: the same user state under the same Bundle at the same dim and depth
//! ranks alike, so an offset is enough, and a cursor names all of them. Nothing is kept between pages. What is
//! added or hidden between two pages can move a page by as much.

use crate::hex::{bytes_of_hex, hex_of};
use crate::problem::Problem;
use sha2::{Digest as _, Sha256};

/// Longest text that can be a cursor: that of a catalogue page with the longest key.
const MAX_TEXT: usize = 2 * (1 + 8 + feature_store::MAX_KEY_BYTES + 4);
/// First byte of a ranking's cursor, and of a catalogue's.
const RANKING: u8 = 1;
const CATALOGUE: u8 = 2;

/// Of a ranking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RankingCursor {
    /// [`fingerprint`] of the Bundle's id and of the cut of its model.
    pub(crate) model: u64,
    /// Of what was asked, page and history left out.
    pub(crate) asked: u64,
    /// Version of the history.
    pub(crate) history: u64,
    /// Dim of the first page.
    pub(crate) dim: u32,
    /// Items on the pages before.
    pub(crate) offset: u32,
}

impl RankingCursor {
    pub(crate) fn encode(&self) -> String {
        let numbers = [self.model, self.asked, self.history].map(u64::to_le_bytes).concat();
        sealed(RANKING, &[numbers, [self.dim, self.offset].map(u32::to_le_bytes).concat()].concat())
    }

    /// # Errors
    /// 400: the text is no cursor of a ranking.
    pub(crate) fn parse(text: &str) -> Result<RankingCursor, Problem> {
        let bytes = opened(RANKING, text).filter(|bytes| bytes.len() == 32).ok_or_else(unreadable)?;
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        let short = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[at + byte]));
        Ok(RankingCursor { model: long(0), asked: long(8), history: long(16), dim: short(24), offset: short(28) })
    }
}

/// Of the catalogue: the last item of the page before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CatalogueCursor {
    /// [`fingerprint`] of the Bundle's id.
    pub(crate) bundle: u64,
    /// Item key.
    pub(crate) after: String,
}

impl CatalogueCursor {
    pub(crate) fn encode(&self) -> String {
        sealed(CATALOGUE, &[&self.bundle.to_le_bytes()[..], self.after.as_bytes()].concat())
    }

    /// # Errors
    /// 400: the text is no cursor of the catalogue.
    pub(crate) fn parse(text: &str) -> Result<CatalogueCursor, Problem> {
        let bytes = opened(CATALOGUE, text).ok_or_else(unreadable)?;
        let (bundle, after) = bytes.split_first_chunk::<8>().ok_or_else(unreadable)?;
        let after = String::from_utf8(after.to_vec()).map_err(|_| unreadable())?;
        Ok(CatalogueCursor { bundle: u64::from_le_bytes(*bundle), after })
    }
}

/// Tells texts apart: two lists of parts have the same one only by a chance of 2^-64.
pub(crate) fn fingerprint<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update((part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    let digest = hasher.finalize();
    u64::from_le_bytes(std::array::from_fn(|byte| digest[byte]))
}

/// 410: what the cursor was made from is not there any more.
pub(crate) fn expired(why: &str) -> Problem {
    let gone = actix_web::http::StatusCode::GONE;
    Problem::new(gone, format!("cursor is not valid any more: {why}; start again without it"))
}

fn unreadable() -> Problem {
    Problem::bad_request("cursor is none that this call gave; send the `next` of the page before, or leave it out")
}

/// Kind, content and checksum as hex.
fn sealed(kind: u8, content: &[u8]) -> String {
    let mut bytes = vec![kind];
    bytes.extend_from_slice(content);
    let check = checksum(&bytes);
    bytes.extend_from_slice(&check);
    hex_of(&bytes)
}

/// The content of a text of this kind that is whole.
fn opened(kind: u8, text: &str) -> Option<Vec<u8>> {
    if text.len() > MAX_TEXT {
        return None;
    }
    let bytes = bytes_of_hex(text)?;
    let (body, check) = bytes.split_last_chunk::<4>()?;
    let (&first, content) = body.split_first()?;
    (checksum(body) == *check && first == kind).then(|| content.to_vec())
}

fn checksum(bytes: &[u8]) -> [u8; 4] {
    let digest = Sha256::digest(bytes);
    std::array::from_fn(|byte| digest[byte])
}

#[cfg(test)]
mod tests {
    use super::{CatalogueCursor, MAX_TEXT, RankingCursor, fingerprint};

    #[test]
    fn what_is_encoded_is_parsed_and_nothing_else() {
        let ranking = RankingCursor { model: 1, asked: u64::MAX, history: 3, dim: 16, offset: 990 };
        let catalogue = CatalogueCursor { bundle: 7, after: "dir/é 7".into() };
        assert_eq!(RankingCursor::parse(&ranking.encode()).unwrap(), ranking);
        assert_eq!(CatalogueCursor::parse(&catalogue.encode()).unwrap(), catalogue);
        let longest = CatalogueCursor { after: "k".repeat(feature_store::MAX_KEY_BYTES), ..catalogue.clone() };
        assert_eq!(longest.encode().len(), MAX_TEXT);
        assert_eq!(CatalogueCursor::parse(&longest.encode()).unwrap(), longest);
        let text = ranking.encode();
        let other = |at: usize| if &text[at..=at] == "0" { "1" } else { "0" };
        let changed = (0..text.len()).map(|at| format!("{}{}{}", &text[..at], other(at), &text[at + 1..]));
        let wrong = ["", "a", "zz", "é", "00", &text[2..], &text[..text.len() - 2]].map(str::to_owned);
        for wrong in changed.chain(wrong).chain([catalogue.encode(), "0".repeat(MAX_TEXT + 2)]) {
            assert_eq!(RankingCursor::parse(&wrong).unwrap_err().status, 400, "{wrong}");
        }
        assert_eq!(CatalogueCursor::parse(&text).unwrap_err().status, 400);
    }

    #[test]
    fn parts_are_told_apart() {
        assert_ne!(fingerprint(["ab", "c"]), fingerprint(["a", "bc"]));
        assert_ne!(fingerprint(["a"]), fingerprint(["a", ""]));
        assert_eq!(fingerprint(["a", "b"]), fingerprint(["a", "b"]));
    }
}

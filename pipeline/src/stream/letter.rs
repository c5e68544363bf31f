//! A dead letter: a message that no decoder took, with its own bytes, key and headers, and in further headers
//! where it was and why it was refused.

use super::message::{Message, Outgoing};

/// Header that says why the letter lies there.
const REASON_HEADER: &str = "reason";
/// Headers that every letter gets: where it came from, and why it lies there.
const LETTER_HEADERS: [&str; 4] = ["source", "partition", "offset", REASON_HEADER];
/// Header of a letter that was too large for where letters lie: how much of its payload is there.
const CUT_HEADER: &str = "payload_cut";

/// The original bytes, key and headers, with where they were and why they were refused.
pub(super) fn dead_letter(source: &str, message: &Message, reason: &str) -> Outgoing {
    let mut letter = original(message);
    let values = [source.to_owned(), message.partition.to_string(), message.offset.to_string(), reason.to_owned()];
    letter.headers.extend(LETTER_HEADERS.into_iter().map(str::to_owned).zip(values.map(String::into_bytes)));
    letter
}

/// A letter as it lay there, with the reason of today.
pub(super) fn refused_again(letter: &Message, reason: &str) -> Outgoing {
    let mut headers = letter.headers.clone();
    headers.retain(|(name, _)| name != REASON_HEADER);
    headers.push((REASON_HEADER.to_owned(), reason.as_bytes().to_vec()));
    Outgoing { key: letter.key.clone(), payload: letter.payload.clone(), headers }
}

/// The message without what letters add.
pub(super) fn original(letter: &Message) -> Outgoing {
    let mut headers = letter.headers.clone();
    headers.retain(|(name, _)| !added(name));
    Outgoing { key: letter.key.clone(), payload: letter.payload.clone(), headers }
}

/// Whether a part of the message is missing.
pub(super) fn is_cut(letter: &Message) -> bool {
    letter.headers.iter().any(|(name, _)| name == CUT_HEADER)
}

/// A smaller form of a letter that does not fit: half its payload, and at last only where it came from and why
/// it lies there. `whole` is the bytes of the payload before any cut. None if there is nothing left to cut.
pub(super) fn smaller(letter: &Outgoing, whole: usize) -> Option<Outgoing> {
    let mut headers = letter.headers.clone();
    let (mut key, kept) = (letter.key.clone(), letter.payload.len() / 2);
    if letter.payload.is_empty() {
        if key.is_empty() && headers.iter().all(|(name, _)| added(name)) {
            return None;
        }
        key.clear();
        headers.retain(|(name, _)| added(name));
    }
    headers.retain(|(name, _)| name != CUT_HEADER);
    headers.push((CUT_HEADER.to_owned(), format!("the first {kept} of {whole} bytes are here").into_bytes()));
    Some(Outgoing { key, payload: letter.payload[..kept].to_vec(), headers })
}

fn added(name: &str) -> bool {
    LETTER_HEADERS.contains(&name) || name == CUT_HEADER
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(payload: &[u8]) -> Message {
        let headers = vec![("trace".to_owned(), b"t1".to_vec()), ("reason".to_owned(), b"somebody's".to_vec())];
        Message { partition: 2, offset: 9, taken_ms: None, key: b"u".to_vec(), payload: payload.to_vec(), headers }
    }

    #[test]
    fn a_letter_is_cut_until_nothing_but_its_place_and_reason_is_left() {
        let letter = dead_letter("s", &message(b"abcde"), "because");
        let mut forms = vec![letter];
        while let Some(next) = forms.last().and_then(|last| smaller(last, 5)) {
            forms.push(next);
            assert!(forms.len() < 10, "it ends");
        }
        let payloads: Vec<&[u8]> = forms.iter().map(|form| &form.payload[..]).collect();
        assert_eq!(payloads, [&b"abcde"[..], b"ab", b"a", b"", b""]);
        let names = |form: &Outgoing| form.headers.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&forms[0]), ["trace", "source", "partition", "offset", "reason"]);
        assert_eq!(names(&forms[1]), ["trace", "source", "partition", "offset", "reason", "payload_cut"]);
        assert_eq!(forms[1].headers[5].1, b"the first 2 of 5 bytes are here");
        assert_eq!(names(&forms[4]), ["source", "partition", "offset", "reason", "payload_cut"]);
        assert!(forms[4].key.is_empty());
    }

    #[test]
    fn a_letter_gives_its_message_back() {
        let letter = dead_letter("s", &message(b"abc"), "because");
        let lies = Message { headers: letter.headers, key: letter.key, payload: letter.payload, ..message(b"") };
        assert_eq!(original(&lies).headers, [("trace".to_owned(), b"t1".to_vec())]);
        assert_eq!(refused_again(&lies, "now").headers.last().unwrap().1, b"now");
        assert!(!is_cut(&lies));
    }
}

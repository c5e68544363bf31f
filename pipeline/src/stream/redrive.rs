//! Dead letters, once more: those that the decoder takes now go back to where they came from, in
//! the order they lie, and the consumer applies them like any other message.

use super::StreamError;
use super::consumer::{LETTER_HEADERS, REASON_HEADER};
use super::decode::Decoder;
use super::message::{Message, Outgoing, Sink, Source};
use feature_store::{SourceRecord, UserStateStore};
use std::collections::BTreeMap;
use std::time::Duration;

/// Dead letters looked at in one go.
const BATCH: usize = 1_000;
/// Longest wait for the next one.
const WAIT: Duration = Duration::from_millis(500);
/// Most dead letters of one call: those that are refused again are held in memory until its end.
const MAX_LETTERS: usize = 100_000;

/// What became of the dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Sent back.
    pub sent: u64,
    /// Refused again; they were put behind the other dead letters, for a later call.
    pub refused: u64,
}

/// Sends back every dead letter that `decoder` takes, up to the end as it is now or 100,000 of them;
/// `again` gets the others. The store then keeps how far it got, so no letter is looked at twice,
/// unless a crash comes before: then all are sent again, which event ids make harmless.
///
/// # Errors
/// The source, a sink or the store cannot go on.
pub fn redrive(
    letters: &mut dyn Source,
    back: &mut dyn Sink,
    again: &mut dyn Sink,
    decoder: &dyn Decoder,
    store: &UserStateStore,
) -> Result<Redriven, StreamError> {
    let positions = store.positions(letters.name())?;
    let mut done = Redriven::default();
    let (mut batch, mut bad): (Vec<Message>, Vec<Outgoing>) = (Vec::new(), Vec::new());
    let mut reached: BTreeMap<u32, u64> = BTreeMap::new();
    while done.sent + (bad.len() as u64) < MAX_LETTERS as u64 {
        letters.poll(&mut batch, BATCH, WAIT)?;
        let mut good = Vec::new();
        for letter in batch.drain(..) {
            if positions.get(&letter.partition).is_some_and(|position| letter.offset <= *position) {
                continue;
            }
            reached.insert(letter.partition, letter.offset);
            match decoder.decode(&letter.payload) {
                Ok(_) => good.push(original(&letter)),
                Err(reject) => bad.push(refused_again(&letter, &reject.to_string())),
            }
        }
        back.put(&good)?;
        done.sent += good.len() as u64;
        if letters.at_end() {
            break;
        }
    }
    // Only now, or they would be read again by this very call.
    again.put(&bad)?;
    done.refused = bad.len() as u64;
    let passed = reached.iter().map(|(partition, offset)| SourceRecord {
        partition: *partition,
        offset: *offset,
        events: Vec::new(),
    });
    store.apply(letters.name(), &passed.collect::<Vec<_>>())?;
    letters.applied(&reached)?;
    Ok(done)
}

/// As it lay there, with the reason of today.
fn refused_again(letter: &Message, reason: &str) -> Outgoing {
    let mut headers = letter.headers.clone();
    headers.retain(|(name, _)| name != REASON_HEADER);
    headers.push((REASON_HEADER.to_owned(), reason.as_bytes().to_vec()));
    Outgoing { key: letter.key.clone(), payload: letter.payload.clone(), headers }
}

fn original(letter: &Message) -> Outgoing {
    let mut headers = letter.headers.clone();
    headers.retain(|(name, _)| !LETTER_HEADERS.contains(&name.as_str()));
    Outgoing { key: letter.key.clone(), payload: letter.payload.clone(), headers }
}

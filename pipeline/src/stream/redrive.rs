//! Dead letters, once more: those that the decoder takes now go back to where they came from, in
//! the order they lie, and the consumer applies them like any other message.

use super::StreamError;
use super::consumer::decode;
use super::decode::Decoder;
use super::letter::{is_cut, original, refused_again};
use super::message::{Message, Outgoing, Sink, Source};
use feature_store::{SourceRecord, UserStateStore};
use std::collections::BTreeMap;
use std::time::Duration;

/// Dead letters looked at in one go.
const BATCH: usize = 1_000;
/// Longest wait for the next one.
const WAIT: Duration = Duration::from_millis(500);
/// Dead letters after which a call ends; the next one goes on from there.
const MAX_LETTERS: u64 = 100_000;

/// What became of the dead letters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Redriven {
    /// Sent back.
    pub sent: u64,
    /// Refused again; they were put behind the other dead letters, for a later call.
    pub refused: u64,
}

/// Sends back every dead letter that `decoder` takes, up to the end as it is now or 100,000 of them, or until `stop`
/// says so; `again` gets the others. A letter is judged as the consumer judges a message, by the time at which it was
/// put aside. The store keeps after each part of at most 1,000 how far it got, so a letter is looked at once, but for
/// a part that a failure or a crash cut short: that is sent again, which event ids make harmless.
///
/// # Errors
/// The source, a sink or the store cannot go on.
pub fn redrive(
    letters: &mut dyn Source,
    back: &mut dyn Sink,
    again: &mut dyn Sink,
    decoder: &dyn Decoder,
    store: &UserStateStore,
    stop: &dyn Fn() -> bool,
) -> Result<Redriven, StreamError> {
    let mut passed = store.positions(letters.name())?;
    let mut ends = letters.ends();
    let mut done = Redriven::default();
    let mut batch: Vec<Message> = Vec::new();
    while done.sent + done.refused < MAX_LETTERS && !stop() {
        letters.poll(&mut batch, BATCH, WAIT)?;
        // A partition that has just become ours ends where it did before this call put anything into it.
        for (partition, end) in letters.ends() {
            ends.entry(partition).or_insert(end);
        }
        batch.retain(|letter| {
            let looked_at = passed.get(&letter.partition).is_some_and(|position| letter.offset <= *position);
            // What was put there since the start, by this very call too, is for the next one.
            let newer = ends.get(&letter.partition).is_some_and(|end| letter.offset >= *end);
            !looked_at && !newer
        });
        let reached: BTreeMap<u32, u64> = batch.iter().map(|letter| (letter.partition, letter.offset)).collect();
        let (good, bad) = sorted(&batch, decoder);
        batch.clear();
        back.put(&good)?;
        again.put(&bad)?;
        pass(letters, &reached, store)?;
        passed.extend(&reached);
        done.sent += good.len() as u64;
        done.refused += bad.len() as u64;
        if letters.at_end() {
            break;
        }
    }
    Ok(done)
}

/// What goes back, and what is refused again.
fn sorted(letters: &[Message], decoder: &dyn Decoder) -> (Vec<Outgoing>, Vec<Outgoing>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for letter in letters {
        match decode(decoder, letter) {
            Ok(_) if is_cut(letter) => {
                bad.push(refused_again(letter, "a part of the message is missing here; send the event anew"));
            }
            Ok(_) => good.push(original(letter)),
            Err(reject) => bad.push(refused_again(letter, &reject.to_string())),
        }
    }
    (good, bad)
}

/// Stores how far the letters were looked at, and tells their source.
fn pass(letters: &mut dyn Source, reached: &BTreeMap<u32, u64>, store: &UserStateStore) -> Result<(), StreamError> {
    if reached.is_empty() {
        return Ok(());
    }
    let records = reached.iter().map(|(partition, offset)| SourceRecord {
        partition: *partition,
        offset: *offset,
        events: Vec::new(),
    });
    store.apply(letters.name(), &records.collect::<Vec<_>>())?;
    letters.applied(reached)
}

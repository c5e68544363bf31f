//! A dry run: what a source holds, what of it would be refused and why. Nothing is written.

use super::StreamError;
use super::consumer::decode;
use super::decode::Decoder;
use super::message::{Message, Source};
use feature_store::StreamEvent;
use std::collections::BTreeMap;
use std::time::Duration;

/// Messages looked at in one go.
const BATCH: usize = 4_096;
/// Longest wait for the next one.
const WAIT: Duration = Duration::from_millis(500);
/// Most refusals that are told one by one.
pub const MAX_SHOWN: usize = 20;

/// What a dry run found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// Messages read.
    pub messages: u64,
    /// Interactions in them.
    pub interactions: u64,
    /// Other events in them.
    pub other_events: u64,
    /// Messages that say nothing about users and items.
    pub silent: u64,
    /// Messages that would go to the dead letters.
    pub refused: u64,
    /// The first of those: partition, offset and reason.
    pub shown: Vec<(u32, u64, String)>,
    /// Reasons and how often, by their first words up to a value.
    pub reasons: BTreeMap<String, u64>,
}

/// Reads to the end as it is now.
///
/// # Errors
/// The source cannot be read.
pub fn validate(
    source: &mut dyn Source,
    decoder: &dyn Decoder,
    stop: &dyn Fn() -> bool,
) -> Result<Findings, StreamError> {
    let mut found = Findings::default();
    let mut batch: Vec<Message> = Vec::new();
    while !stop() {
        batch.clear();
        source.poll(&mut batch, BATCH, WAIT)?;
        for message in &batch {
            found.take(message, decoder);
        }
        if source.at_end() {
            break;
        }
    }
    Ok(found)
}

impl Findings {
    fn take(&mut self, message: &Message, decoder: &dyn Decoder) {
        self.messages += 1;
        match decode(decoder, message) {
            Ok(events) if events.is_empty() => self.silent += 1,
            Ok(events) => {
                let interactions = events.iter().filter(|event| matches!(event, StreamEvent::Interaction(_))).count();
                self.interactions += interactions as u64;
                self.other_events += (events.len() - interactions) as u64;
            }
            Err(reject) => {
                self.refused += 1;
                let reason = reject.to_string();
                if self.shown.len() < MAX_SHOWN {
                    self.shown.push((message.partition, message.offset, reason.clone()));
                }
                self.note(reason);
            }
        }
    }

    /// Counts a reason without its values, so that a million of one kind are one line.
    fn note(&mut self, reason: String) {
        let kind: String = reason.chars().filter(|c| !c.is_ascii_digit()).take_while(|c| *c != '"').take(60).collect();
        if self.reasons.len() < MAX_SHOWN || self.reasons.contains_key(&kind) {
            *self.reasons.entry(kind).or_default() += 1;
        }
    }
}

//! The consumer: messages -> events -> user state, exactly once in effect.
//!
//! One loop on one thread: gather a batch, decode it, put what is refused aside, write the effects
//! with the positions in one durable transaction, and only then tell the source. A crash between any
//! two of these repeats work whose second time changes nothing. While a batch is being written no
//! more than the source's bounded queue is read: that is the back-pressure.
//!
//! A store on a server may be away for a while: the batch is kept and written when it is back. And it may
//! come back without its last writes, after a failover; effects and positions are lost together, so a write finds
//! a position before the one that this consumer knows. The consumer ends then, rather than leave a gap, and the next
//! one reads from there.

use super::StreamError;
use super::config::BatchConfig;
use super::decode::{Decoder, Reject};
use super::letter::dead_letter;
use super::message::{MAX_BATCH_BYTES, Message, Sink, Source};
use super::metrics::{Look, StreamMetrics};
use feature_store::{SourceRecord, StreamEvent, UserStateStore};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Longest time without looking whether to stop.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Longest pause between two tries to write.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// What the loop works with.
pub struct Consumer<'a> {
    /// From bytes to events.
    pub decoder: &'a dyn Decoder,
    /// Where the effects go.
    pub store: &'a UserStateStore,
    /// How messages are gathered.
    pub batch: BatchConfig,
    /// What is counted.
    pub metrics: &'a StreamMetrics,
    /// Milliseconds since the Unix epoch; only for the numbers, no effect depends on it.
    pub clock_ms: &'a dyn Fn() -> i64,
}

impl Consumer<'_> {
    /// Runs until `stop` says so, or, with `until_end`, until what was there at the start is applied.
    /// `dead_letters` takes what the decoder refuses.
    ///
    /// # Errors
    /// The source, the store or the dead letters cannot go on. What was not applied is applied after
    /// the next start.
    pub fn run(
        &self,
        source: &mut dyn Source,
        dead_letters: &mut dyn Sink,
        until_end: bool,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), StreamError> {
        self.metrics.started((self.clock_ms)());
        let mut batch: Vec<Message> = Vec::new();
        let mut written = BTreeMap::new();
        while !stop() {
            self.gather(source, &mut batch, stop)?;
            if !batch.is_empty() {
                // A run with an end waits no longer for a broker or server than its library does.
                self.write(source, dead_letters, &batch, &mut written, &|| until_end || stop())?;
                batch.clear();
                continue;
            }
            self.metrics.idle((self.clock_ms)(), source.idle() && source.connected(), look(source));
            if until_end && source.at_end() {
                break;
            }
        }
        Ok(())
    }

    /// Fills a batch until it is full, in messages or in bytes, or its time is up, or there is nothing to wait
    /// for. It holds less than twice [`MAX_BATCH_BYTES`] and one message.
    fn gather(
        &self,
        source: &mut dyn Source,
        batch: &mut Vec<Message>,
        stop: &dyn Fn() -> bool,
    ) -> Result<(), StreamError> {
        source.poll(batch, self.batch.max_messages, LOOK_EVERY.min(self.batch.max_wait()))?;
        let until = Instant::now() + self.batch.max_wait();
        let mut bytes: usize = batch.iter().map(Message::bytes).sum();
        let full = |messages: usize, bytes: usize| messages >= self.batch.max_messages || bytes >= MAX_BATCH_BYTES;
        while !batch.is_empty() && !full(batch.len(), bytes) && !source.idle() && !stop() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let before = batch.len();
            source.poll(batch, self.batch.max_messages - before, left.min(LOOK_EVERY))?;
            // Where partitions went, messages were removed: the sum is not of them exactly then, which harms nothing.
            bytes += batch.iter().skip(before).map(Message::bytes).sum::<usize>();
        }
        Ok(())
    }

    fn write(
        &self,
        source: &mut dyn Source,
        dead_letters: &mut dyn Sink,
        batch: &[Message],
        written: &mut BTreeMap<u32, u64>,
        give_up: &dyn Fn() -> bool,
    ) -> Result<(), StreamError> {
        let mut records = Vec::with_capacity(batch.len());
        let mut refused = Vec::new();
        let mut reached: BTreeMap<u32, u64> = BTreeMap::new();
        let stored = patiently(give_up, || Ok(self.store.positions(source.name())?))?;
        for message in batch {
            reached.insert(message.partition, message.offset);
            // A replayed message has been put aside before.
            let replayed = stored.get(&message.partition).is_some_and(|position| message.offset <= *position);
            let events = match decode(self.decoder, message) {
                Ok(events) => events,
                Err(_) if replayed => Vec::new(),
                Err(reject) => {
                    refused.push(dead_letter(source.name(), message, &reject.to_string()));
                    Vec::new()
                }
            };
            records.push(SourceRecord { partition: message.partition, offset: message.offset, events });
        }
        if !refused.is_empty() {
            patiently(give_up, || dead_letters.put(&refused).map(drop))?;
        }
        let mut known = source.began();
        for (partition, offset) in written.iter() {
            let known = known.entry(*partition).or_default();
            *known = (*known).max(*offset);
        }
        let outcome = patiently(give_up, || Ok(self.store.apply_after(source.name(), &records, &known)?))?;
        written.extend(&reached);
        self.metrics.wrote(outcome, batch.len(), refused.len(), &reached);
        source.applied(&reached)?;
        self.metrics.durable((self.clock_ms)(), batch, look(source));
        Ok(())
    }
}

/// The events of a message, none of them from further in the future than producers' clocks may be off.
///
/// # Errors
/// Why it is to be put aside. Only the message decides, no clock of now, so that a replay comes to the same: its
/// timestamp, which is the producer's own word on a topic whose `message.timestamp.type` is CreateTime.
pub(super) fn decode(decoder: &dyn Decoder, message: &Message) -> Result<Vec<StreamEvent>, Reject> {
    let events = decoder.decode(&message.payload)?;
    if let Some(taken_ms) = message.taken_ms {
        let ahead = events.iter().try_for_each(|event| event.check_ahead(taken_ms));
        ahead.map_err(|error| Reject(error.to_string()))?;
    }
    Ok(events)
}

fn look(source: &dyn Source) -> Look {
    let (lag, rebalances) = (source.lag(), source.rebalances());
    Look { lag, rebalances, lost: source.lost(), connected: source.connected() }
}

/// Does a part of the work, again for as long as what hinders it may pass.
fn patiently<T>(
    give_up: &dyn Fn() -> bool,
    mut work: impl FnMut() -> Result<T, StreamError>,
) -> Result<T, StreamError> {
    let mut wait = LOOK_EVERY;
    loop {
        match work() {
            Err(error) if error.passes() && !give_up() => {
                tracing::warn!(%error, "the batch in hand cannot be written yet: trying again until it can");
                let until = Instant::now() + wait;
                while Instant::now() < until && !give_up() {
                    std::thread::sleep(LOOK_EVERY);
                }
                wait = (wait * 2).min(LONGEST_PAUSE);
            }
            done => return done,
        }
    }
}

//! From a configuration to sources and sinks: the one place that knows both kinds.

use super::begun::{Begun, begin};
use super::config::{KafkaConfig, Start, StreamConfig};
use super::kafka::{KafkaSink, KafkaSource};
use super::letter::smaller;
use super::log::{LogReader, LogSource, LogWriter, end_of, is_begun, oldest_of, source_name, takes};
use super::message::{Outgoing, Place, Sink, Source};
use super::{Clock, StreamError};
use feature_store::{StreamEvent, UserStateStore};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// The source of a stream, at the place that the store says.
///
/// # Errors
/// The configuration breaks a rule, or the log cannot be read. A broker that does not answer is
/// waited for.
pub fn open_source(
    config: &StreamConfig,
    store: &UserStateStore,
    clock_ms: &Clock,
) -> Result<Box<dyn Source>, StreamError> {
    config.validate()?;
    if let Some(kafka) = &config.kafka {
        return Ok(Box::new(KafkaSource::open(kafka, config.start, store, Arc::clone(clock_ms))?));
    }
    let log = config.log.as_ref().expect("validated: one of the two is given");
    open_log(&log.dir, config.start, store, &**clock_ms)
}

/// [`open_source`] for a run that ends with what is there: a dry run, or `--until-end`.
///
/// # Errors
/// As [`open_source`]; also a broker that does not answer within 10 s, or a topic that does not exist.
pub fn open_source_to_end(
    config: &StreamConfig,
    store: &UserStateStore,
    clock_ms: &Clock,
) -> Result<Box<dyn Source>, StreamError> {
    config.validate()?;
    if let Some(kafka) = &config.kafka {
        return Ok(Box::new(KafkaSource::open_to_end(kafka, config.start, store, Arc::clone(clock_ms))?));
    }
    open_source(config, store, clock_ms)
}

/// Whether anything was ever put aside. Needs no state.
///
/// # Errors
/// The stream's own topic or log is not there either: its name may be mistyped. Else as [`open_source_to_end`].
pub fn has_dead_letters(config: &StreamConfig) -> Result<bool, StreamError> {
    config.validate()?;
    if let Some(kafka) = &config.kafka {
        return KafkaSource::has_dead_letters(kafka);
    }
    let log = config.log.as_ref().expect("validated: one of the two is given");
    if is_begun(&log.dlq())? {
        return Ok(true);
    }
    source_name(&log.dir).map(|_| false)
}

/// The dead letters of a stream, from the first that was not looked at.
///
/// # Errors
/// As [`open_source_to_end`]; also where nothing was ever put aside.
pub fn dead_letter_source(
    config: &StreamConfig,
    store: &UserStateStore,
    clock_ms: &Clock,
) -> Result<Box<dyn Source>, StreamError> {
    config.validate()?;
    if let Some(kafka) = &config.kafka {
        return Ok(Box::new(KafkaSource::dead_letters(kafka, store, Arc::clone(clock_ms))?));
    }
    let log = config.log.as_ref().expect("validated: one of the two is given");
    open_log(&log.dlq(), Start::Earliest, store, &**clock_ms)
}

/// Takes what no decoder takes. A log of dead letters is begun with the first of them.
///
/// # Errors
/// The configuration breaks a rule.
pub fn dead_letter_sink(config: &StreamConfig, clock_ms: &Clock) -> Result<Box<dyn Sink>, StreamError> {
    config.validate()?;
    if let Some(kafka) = &config.kafka {
        return Ok(Box::new(KafkaSink::dead_letters(kafka)?));
    }
    let log = config.log.as_ref().expect("validated: one of the two is given");
    let (dir, limits, clock_ms) = (log.dlq(), log.limits(), Arc::clone(clock_ms));
    Ok(Box::new(LateSink { made: None, make: Box::new(move || LogWriter::open(&dir, limits, Arc::clone(&clock_ms))) }))
}

/// Where events are put that have time: a test's, or dead letters that go back. See
/// [`super::Producer`] for requests that wait.
///
/// # Errors
/// The configuration breaks a rule, or another process writes to the log.
pub fn event_sink(config: &StreamConfig, clock_ms: &Clock) -> Result<Box<dyn Sink + Send>, StreamError> {
    sink(config, clock_ms, KafkaSink::events)
}

/// Where events are put that somebody waits for: a broker has `produce.acknowledge_ms`.
pub(super) fn prompt_sink(config: &StreamConfig, clock_ms: &Clock) -> Result<Box<dyn Sink + Send>, StreamError> {
    sink(config, clock_ms, |kafka| KafkaSink::events_within(kafka, config.produce.acknowledge()))
}

fn sink(
    config: &StreamConfig,
    clock_ms: &Clock,
    topic: impl Fn(&KafkaConfig) -> Result<KafkaSink, StreamError>,
) -> Result<Box<dyn Sink + Send>, StreamError> {
    config.validate()?;
    if let Some(kafka) = &config.kafka {
        return Ok(Box::new(topic(kafka)?));
    }
    let log = config.log.as_ref().expect("validated: one of the two is given");
    Ok(Box::new(LogWriter::open(&log.dir, log.limits(), Arc::clone(clock_ms))?))
}

/// An event as a message: keyed by user or item, in this project's JSON.
pub fn outgoing(event: &StreamEvent) -> Outgoing {
    Outgoing {
        key: event.key().as_bytes().to_vec(),
        payload: serde_json::to_vec(event).expect("text and numbers are always JSON"),
        headers: Vec::new(),
    }
}

fn open_log(
    dir: &Path,
    start: Start,
    store: &UserStateStore,
    clock_ms: &dyn Fn() -> i64,
) -> Result<Box<dyn Source>, StreamError> {
    let name = source_name(dir)?;
    let mut begun = Begun::read(store, &name)?;
    if !begun.any() && start != Start::Earliest {
        let first = start_of(dir, start, clock_ms)?;
        begun = begin(store, &name, &BTreeMap::from([(0, first)]))?;
    }
    let from = match begun.next(0) {
        Some(next) => next,
        None => oldest_of(dir)?,
    };
    Ok(Box::new(LogSource::open(dir, from, begun.applied(0))?))
}

/// Offset of the first message to apply.
fn start_of(dir: &Path, start: Start, clock_ms: &dyn Fn() -> i64) -> Result<u64, StreamError> {
    let time_ms = match start {
        Start::Earliest => return oldest_of(dir),
        Start::Latest => return end_of(dir),
        Start::TimestampMs(time_ms) => time_ms,
        Start::LastS(seconds) => clock_ms().saturating_sub_unsigned(seconds.saturating_mul(1000)),
    };
    let mut reader = LogReader::open(dir, 0)?;
    let mut next = 0;
    while let Some(message) = reader.next_message()? {
        if message.taken_ms.is_some_and(|taken_ms| taken_ms >= time_ms) {
            return Ok(message.offset);
        }
        next = message.offset + 1;
    }
    Ok(next)
}

/// A log of dead letters, begun with the first of them. One that is too long for a log is cut.
struct LateSink {
    made: Option<LogWriter>,
    make: Box<dyn Fn() -> Result<LogWriter, StreamError> + Send>,
}

impl Sink for LateSink {
    fn put(&mut self, messages: &[Outgoing]) -> Result<Vec<Place>, StreamError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        if self.made.is_none() {
            self.made = Some((self.make)()?);
        }
        let letters: Vec<Outgoing> = messages.iter().map(fitting).collect();
        self.made.as_mut().expect("it was just made").put(&letters)
    }
}

/// A letter as large as a log takes it: what adds headers to a message makes it longer.
fn fitting(letter: &Outgoing) -> Outgoing {
    let mut fitting = letter.clone();
    while !takes(&fitting) {
        let Some(less) = smaller(&fitting, letter.payload.len()) else { break };
        tracing::warn!(
            payload = letter.payload.len(),
            kept = less.payload.len(),
            "a dead letter is cut: it is too long"
        );
        fitting = less;
    }
    fitting
}

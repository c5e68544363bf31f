//! `ingest --config`: a topic or a log -> user state, until the user asks to stop. `serve --stream`
//! (`streamed.rs`) does the same beside a service. The library does the work; here are the clock, the
//! signals and the words.

use crate::arguments::IngestArgs;
use crate::artefacts::check_folder_outside_artefacts;
use crate::failure::Interrupted;
use crate::interrupt::Interrupt;
use crate::output::{note, say, thousands};
use anyhow::Context as _;
use feature_store::{StoreError, UserStateStore};
use pipeline::stream::{
    Consumer, Findings, Redriven, Start, StreamConfig, StreamError, StreamMetrics, StreamStats, dead_letter_sink,
    dead_letter_source, decoder, event_sink, has_dead_letters, open_source, open_source_to_end, redrive, validate,
};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often a running `ingest` tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// How often a stream is opened again whose store was away.
const OPEN_EVERY: Duration = Duration::from_secs(1);
/// Where user state is, in place of the config's: one variable for services and consumers that share it.
const STATE: &str = "RECOMMENDER_STATE";
/// Said on the first Ctrl-C.
const PROMISE: &str = "stopping: the batch in hand is written first; Ctrl-C again ends at once";

/// Reads the config and runs what was asked for.
pub(crate) fn run(path: &Path, args: &IngestArgs) -> anyhow::Result<()> {
    crate::serve::init_log("warn")?;
    let config = read(path)?;
    let interrupt = Interrupt::install(PROMISE)?;
    if args.validate {
        return run_validate(&config, &interrupt);
    }
    if args.redrive {
        return run_redrive(&config, &interrupt);
    }
    let store = crate::state::open(&config.state.path, config.state.max_history)?;
    let metrics = Arc::new(StreamMetrics::default());
    if let Some(bind) = config.metrics_bind {
        let address = crate::metrics_port::start(bind, Arc::clone(&metrics))?;
        note(&format!("numbers for Prometheus at http://{address}/metrics"));
    }
    let (told, clock_ms) = (std::cell::Cell::new(Instant::now()), service::system_clock());
    let stop = || {
        if told.get().elapsed() >= TELL_EVERY {
            told.set(Instant::now());
            note(&summary(&metrics.stats(), clock_ms()));
        }
        interrupt.requested()
    };
    consume(&config, &store, &metrics, args.until_end, &stop)?;
    let said = summary(&metrics.stats(), clock_ms());
    say(&format!("{said}; {} holds {} users", config.state.path, store.users()?))?;
    if interrupt.requested() && args.until_end {
        return Err(Interrupted("stopped before the end; start again to go on from here".to_owned()).into());
    }
    Ok(())
}

/// The config with its paths, which start at the folder it lies in; the environment wins over `state.path`, as with
/// `serve`.
pub(crate) fn read(path: &Path) -> anyhow::Result<StreamConfig> {
    let mut config: StreamConfig = crate::config::read(path)?;
    let base_dir = path.parent().unwrap_or(Path::new(""));
    config.state.path = config.state.path.within(base_dir);
    if let Some(state) = std::env::var(STATE).ok().filter(|state| !state.is_empty()) {
        config.state.path = state.parse()?;
    }
    if let Some(log) = &mut config.log {
        log.dir = base_dir.join(&log.dir);
        check_folder_outside_artefacts("config log.dir", &log.dir)?;
    }
    if let Some(kafka) = &mut config.kafka {
        kafka.resolve_paths(base_dir);
    }
    config.validate().with_context(|| format!("{}", path.display()))?;
    Ok(config)
}

/// Applies a stream until its end, if it is asked for that, or until `stop` says so.
pub(crate) fn consume(
    config: &StreamConfig,
    store: &UserStateStore,
    metrics: &StreamMetrics,
    until_end: bool,
    stop: &dyn Fn() -> bool,
) -> anyhow::Result<()> {
    let clock_ms = service::system_clock();
    let open = if until_end { open_source_to_end } else { open_source };
    let mut letters = dead_letter_sink(config, &clock_ms)?;
    let consumer =
        Consumer { decoder: &*decoder(config.format), store, batch: config.batch, metrics, clock_ms: &*clock_ms };
    let mut config = config.clone();
    loop {
        let mut source = match open(&config, store, &clock_ms) {
            Err(error) if error.passes() && !until_end && !stop() => {
                tracing::warn!(%error, "the stream cannot be opened yet");
                std::thread::sleep(OPEN_EVERY);
                continue;
            }
            opened => opened?,
        };
        match consumer.run(&mut *source, &mut *letters, until_end, stop) {
            // A source opened anew starts from what the store holds; where it holds nothing any more, from the oldest.
            Err(StreamError::Store(error @ StoreError::Behind { .. })) => {
                tracing::error!(%error, "reading again what was lost");
                config.start = Start::Earliest;
            }
            done => return Ok(done?),
        }
    }
}

fn run_redrive(config: &StreamConfig, interrupt: &Interrupt) -> anyhow::Result<()> {
    // Before the store is opened, which would make one.
    if !has_dead_letters(config)? {
        return say(&format!("there are no dead letters: {} is not there, so nothing was put aside yet", dlq(config)));
    }
    let clock_ms = service::system_clock();
    let store = crate::state::open(&config.state.path, config.state.max_history)?;
    let mut letters = dead_letter_source(config, &store, &clock_ms)?;
    let mut back = event_sink(config, &clock_ms)?;
    let mut again = dead_letter_sink(config, &clock_ms)?;
    let stop = || interrupt.requested();
    let done = redrive(&mut *letters, &mut *back, &mut *again, &*decoder(config.format), &store, &stop)?;
    let (sent, refused) = (thousands(done.sent), thousands(done.refused));
    let told = format!("{sent} dead letters sent back, {refused} refused again; `ingest` applies those that were sent");
    if interrupt.requested() {
        say(&told)?;
        return Err(Interrupted("stopped before the end; start again to go on from here".to_owned()).into());
    }
    if done == Redriven::default() {
        return say(&format!("there are no dead letters in {} that were not looked at before", dlq(config)));
    }
    say(&told)
}

/// Where dead letters lie.
fn dlq(config: &StreamConfig) -> String {
    let topic = config.kafka.as_ref().map(|kafka| format!("topic {}", kafka.dlq()));
    let log = config.log.as_ref().map(|log| format!("log {}", log.dlq().display()));
    topic.or(log).expect("validated: one of the two is given")
}

/// A dry run keeps its positions in a store that is thrown away: nothing of the real one is read.
fn run_validate(config: &StreamConfig, interrupt: &Interrupt) -> anyhow::Result<()> {
    let clock_ms = service::system_clock();
    let dir = std::env::temp_dir().join(format!("recommender-validate-{}-{}", std::process::id(), clock_ms()));
    let done = {
        let store = UserStateStore::open(&dir, 1)?;
        let mut config = config.clone();
        if let Some(kafka) = &mut config.kafka {
            // Another group, so that the real one keeps its partitions.
            kafka.group = format!("{}.validate.{}", kafka.group, std::process::id());
        }
        open_source_to_end(&config, &store, &clock_ms)
            .and_then(|mut source| validate(&mut *source, &*decoder(config.format), &|| interrupt.requested()))
    };
    // Best effort: a folder that stays behind in the system's temporary place harms nobody.
    let _ = std::fs::remove_dir_all(&dir);
    tell_findings(&done?)?;
    if interrupt.requested() {
        return Err(Interrupted("stopped before the end: the numbers above are of a part".to_owned()).into());
    }
    Ok(())
}

fn tell_findings(found: &Findings) -> anyhow::Result<()> {
    for (partition, offset, reason) in &found.shown {
        say(&format!("partition {partition} offset {offset}: {reason}"))?;
    }
    for (reason, count) in &found.reasons {
        say(&format!("{}x {reason}", thousands(*count)))?;
    }
    let noun = if found.messages == 1 { "message" } else { "messages" };
    say(&format!(
        "{} {noun}: {} interactions, {} other events, {} messages without any; {} would be refused; nothing was written",
        thousands(found.messages),
        thousands(found.interactions),
        thousands(found.other_events),
        thousands(found.silent),
        thousands(found.refused)
    ))
}

fn summary(stats: &StreamStats, now_ms: i64) -> String {
    let lag: u64 = stats.lag.values().sum();
    format!(
        "{} events applied, {} dropped as already there, {} replayed, {} refused to the dead letters; lag {}, {} \
         rebalances, checkpoint {:.1} s old, last event to state {}",
        thousands(stats.applied + stats.users_deleted + stats.items_changed),
        thousands(stats.duplicates),
        thousands(stats.replayed),
        thousands(stats.invalid),
        thousands(lag),
        stats.rebalances,
        stats.checkpoint_age_ms(now_ms) as f64 / 1e3,
        stats.freshness_ms.map_or("not yet".to_owned(), |freshness_ms| format!("{freshness_ms} ms")),
    )
}

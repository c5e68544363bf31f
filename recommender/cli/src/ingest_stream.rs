//! `ingest --config` and `serve --stream`: a topic or a log -> user state, until the user asks to
//! stop. The library does the work; here are the clock, the signals and the words.

use crate::arguments::IngestArgs;
use crate::failure::Interrupted;
use crate::interrupt::Interrupt;
use crate::output::{note, say, thousands};
use anyhow::Context as _;
use feature_store::UserStateStore;
use pipeline::stream::{
    Consumer, Findings, StreamConfig, StreamMetrics, StreamStats, dead_letter_sink, dead_letter_source, decoder,
    event_sink, open_source, redrive, validate,
};
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How often a running `ingest` tells how far it is.
const TELL_EVERY: Duration = Duration::from_secs(10);
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
    let store = UserStateStore::open(&config.state.path, config.state.max_history)?;
    if args.redrive {
        return run_redrive(&config, &store);
    }
    let metrics = StreamMetrics::default();
    consume(&config, &store, &metrics, args.until_end, &interrupt, true)?;
    say(&format!("{}; {} holds {} users", summary(&metrics.stats()), config.state.path.display(), store.users()?))?;
    if interrupt.requested() && args.until_end {
        return Err(Interrupted("stopped before the end; start again to go on from here".to_owned()).into());
    }
    Ok(())
}

/// The config with its paths, which start at the folder it lies in.
pub(crate) fn read(path: &Path) -> anyhow::Result<StreamConfig> {
    let mut config: StreamConfig = crate::config::read(path)?;
    let base_dir = path.parent().unwrap_or(Path::new(""));
    config.state.path = base_dir.join(&config.state.path);
    if let Some(log) = &mut config.log {
        log.dir = base_dir.join(&log.dir);
    }
    config.validate().with_context(|| format!("{}", path.display()))?;
    Ok(config)
}

/// Applies a stream on a thread of its own while a service answers from the same store.
pub(crate) fn spawn(
    config: StreamConfig,
    store: UserStateStore,
    interrupt: Interrupt,
) -> JoinHandle<anyhow::Result<()>> {
    std::thread::spawn(move || {
        let metrics = StreamMetrics::default();
        let done = consume(&config, &store, &metrics, false, &interrupt, false);
        match &done {
            Ok(()) => tracing::info!(stats = ?metrics.stats(), "the stream's consumer stopped"),
            // Recommendations go on from the state as it is.
            Err(error) => tracing::error!(error = %format!("{error:#}"), "the stream's consumer ended"),
        }
        done
    })
}

/// The consumer's outcome, once the service has stopped.
pub(crate) fn join(consumer: JoinHandle<anyhow::Result<()>>) -> anyhow::Result<()> {
    consumer.join().unwrap_or_else(|_| Err(anyhow::anyhow!("the stream's consumer ended in a panic")))
}

fn consume(
    config: &StreamConfig,
    store: &UserStateStore,
    metrics: &StreamMetrics,
    until_end: bool,
    interrupt: &Interrupt,
    telling: bool,
) -> anyhow::Result<()> {
    let clock_ms: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(now_ms);
    let mut source = open_source(config, store, &clock_ms)?;
    let mut letters = dead_letter_sink(config, &clock_ms)?;
    let consumer =
        Consumer { decoder: &*decoder(config.format), store, batch: config.batch, metrics, clock_ms: &*clock_ms };
    let told = std::cell::Cell::new(Instant::now());
    let stop = || {
        if telling && told.get().elapsed() >= TELL_EVERY {
            told.set(Instant::now());
            note(&summary(&metrics.stats()));
        }
        interrupt.requested()
    };
    consumer.run(&mut *source, &mut *letters, until_end, &stop)?;
    Ok(())
}

fn run_redrive(config: &StreamConfig, store: &UserStateStore) -> anyhow::Result<()> {
    let clock_ms: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(now_ms);
    let mut letters = dead_letter_source(config, store, &clock_ms)?;
    let mut back = event_sink(config, &clock_ms)?;
    let mut again = dead_letter_sink(config, &clock_ms)?;
    let done = redrive(&mut *letters, &mut *back, &mut *again, &*decoder(config.format), store)?;
    say(&format!(
        "{} dead letters sent back, {} refused again; `ingest` applies those that were sent",
        thousands(done.sent),
        thousands(done.refused)
    ))
}

/// A dry run keeps its positions in a store that is thrown away: nothing of the real one is read.
fn run_validate(config: &StreamConfig, interrupt: &Interrupt) -> anyhow::Result<()> {
    let dir = std::env::temp_dir().join(format!("recommender-validate-{}-{}", std::process::id(), now_ms()));
    let done = {
        let store = UserStateStore::open(&dir, 1)?;
        let mut config = config.clone();
        if let Some(kafka) = &mut config.kafka {
            // Another group, so that the real one keeps its partitions.
            kafka.group = format!("{}.validate.{}", kafka.group, std::process::id());
        }
        let clock_ms: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(now_ms);
        let mut source = open_source(&config, &store, &clock_ms)?;
        validate(&mut *source, &*decoder(config.format), &|| interrupt.requested())
    };
    // Best effort: a folder that stays behind in the system's temporary place harms nobody.
    let _ = std::fs::remove_dir_all(&dir);
    tell_findings(&done?)
}

fn tell_findings(found: &Findings) -> anyhow::Result<()> {
    for (partition, offset, reason) in &found.shown {
        say(&format!("partition {partition} offset {offset}: {reason}"))?;
    }
    for (reason, count) in &found.reasons {
        say(&format!("{}x {reason}", thousands(*count)))?;
    }
    say(&format!(
        "{} messages: {} interactions, {} other events, {} messages without any; {} would be refused; nothing was written",
        thousands(found.messages),
        thousands(found.interactions),
        thousands(found.other_events),
        thousands(found.silent),
        thousands(found.refused)
    ))
}

fn summary(stats: &StreamStats) -> String {
    let lag: u64 = stats.lag.values().sum();
    format!(
        "{} events applied, {} dropped as already there, {} replayed, {} refused to the dead letters; lag {}, {} rebalances",
        thousands(stats.applied + stats.users_deleted + stats.items_changed),
        thousands(stats.duplicates),
        thousands(stats.replayed),
        thousands(stats.invalid),
        thousands(lag),
        stats.rebalances,
    )
}

/// Milliseconds since the Unix epoch; a clock before 1970 reads as 0.
fn now_ms() -> i64 {
    let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(elapsed.as_millis()).unwrap_or(i64::MAX)
}

//! What every handler works on, and the two ways off the HTTP threads: `blocking` to the disk,
//! `ranked` to the compute threads.

use crate::access::Access;
use crate::added::AddedError;
use crate::clock::Clock;
use crate::compute::{Ask, Job, Pool, PoolSizes, Ranked};
use crate::config::{LimitsConfig, ServiceConfig};
use crate::error::ServiceError;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::recent::Recent;
use crate::served::{BundleSlot, ServedBundle};
use crate::shadow::Shadow;
use crate::spans::SpanSink;
use crate::stream::EventStream;
use crate::tiers::{Choice, Journal, Tier};
use crate::users::UserStates;
use crate::view::View;
use actix_web::web;
use feature_store::UserStateStore;
use fmrlrec::Bundle;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Longest time that a search of the catalogue waits for those before it.
const CATALOGUE_WAIT: Duration = Duration::from_secs(1);

/// Bundles, user state, tiers, limits.
pub(crate) struct Serving {
    pub(crate) bundle: BundleSlot,
    pub(crate) store: Arc<UserStates>,
    pub(crate) tiers: Journal,
    pub(crate) access: Access,
    pub(crate) limits: LimitsConfig,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    /// Where events go instead of the state, if anywhere.
    pub(crate) stream: Option<Arc<dyn EventStream>>,
    pub(crate) spans: Option<Arc<dyn SpanSink>>,
    pub(crate) request_timeout: Duration,
    pub(crate) openapi: String,
    /// Where `/ui` finds pictures.
    pub(crate) picture_url: String,
    pub(crate) shadow: Shadow,
    /// Requests of late, for warming up another Bundle.
    pub(crate) recent: Recent,
    /// Folder of the config's Bundle; others are looked for beside it.
    pub(crate) bundle_folder: PathBuf,
    /// Held while a Bundle is loaded or tiers are changed: one at a time, each checked against the other.
    pub(crate) loading: Arc<tokio::sync::Mutex<()>>,
    /// Changes of items, which lay out tables, and searches of the catalogue, which read every title: as many at once as
    /// leave half of a worker's blocking threads to events.
    long_work: Arc<Semaphore>,
    draining: AtomicBool,
    /// Whether the last look for items that came or went failed.
    items_stale: AtomicBool,
    in_flight: Arc<Semaphore>,
    pool: Pool,
}

impl Serving {
    /// Lays out the item table and checks the config against the Bundle.
    ///
    /// # Errors
    /// A broken rule of the config, or a Bundle whose item table cannot be served.
    pub(crate) fn new(
        config: &ServiceConfig,
        bundle: Bundle,
        store: UserStateStore,
        clock: Clock,
        stream: Option<Arc<dyn EventStream>>,
        spans: Option<Arc<dyn SpanSink>>,
    ) -> Result<Serving, ServiceError> {
        config.validate(&bundle.shape())?;
        let access = Access::new(&config.access);
        let (tiers, header, max_k) = (&config.tiers, &config.tier_header, config.limits.max_k);
        let tiers = Journal::open(&config.tiers_file, tiers, header, access.tiers(), &bundle.shape(), max_k)?;
        let metrics = Metrics::new()?;
        let slot = BundleSlot::new(ServedBundle::new(bundle, config.bundle.clone(), clock())?);
        metrics.bundles_are(&slot);
        let users = Arc::new(UserStates::new(store, config.state.cache_mib << 20));
        let sizes = PoolSizes {
            threads: config.server.compute_threads,
            max_queue: config.server.max_queue,
            max_batch: config.server.max_batch,
            max_wait: Duration::from_micros(config.server.max_wait_us),
        };
        let half_the_threads = (config.server.blocking_threads / 2).max(1);
        let serving = Serving {
            bundle: slot,
            pool: Pool::start(sizes, Arc::clone(&users), metrics.clone(), Arc::clone(&clock))?,
            store: users,
            tiers,
            access,
            limits: config.limits.clone(),
            metrics,
            clock,
            stream,
            spans,
            request_timeout: Duration::from_secs(config.server.request_timeout_s),
            openapi: crate::openapi_json()?,
            picture_url: config.ui.picture_url.clone(),
            shadow: Shadow::new(),
            recent: Recent::default(),
            bundle_folder: config.bundle.clone(),
            loading: Arc::default(),
            long_work: Arc::new(Semaphore::new(half_the_threads)),
            draining: AtomicBool::new(false),
            items_stale: AtomicBool::new(false),
            in_flight: Arc::new(Semaphore::new(config.server.max_in_flight)),
        };
        serving.refresh_items().map_err(|error| ServiceError::AddedItems { reason: error.to_string() })?;
        Ok(serving)
    }

    /// Takes items that came, went or were hidden into every Bundle in memory. Blocking.
    ///
    /// # Errors
    /// The store's failure, or no memory for the vectors.
    pub(crate) fn refresh_items(&self) -> Result<(), AddedError> {
        let refreshed = self.refresh_bundles();
        self.items_stale.store(refreshed.is_err(), Ordering::Release);
        refreshed
    }

    fn refresh_bundles(&self) -> Result<(), AddedError> {
        for served in self.bundle.all() {
            served.refresh_items(self.store.store(), self.limits.added_items)?;
        }
        let view = self.bundle.view();
        self.metrics.added_items.set(view.added().len() as i64);
        self.metrics.left_out_items.set(view.added().left_out() as i64);
        Ok(())
    }

    /// One look at every tier's load.
    pub(crate) fn tick(&self) {
        self.pool.tick(&self.tiers.current(), &self.bundle.current());
    }

    /// Requests of a tier that wait.
    pub(crate) fn queued(&self, tier: &Tier) -> usize {
        self.pool.depth(tier)
    }

    /// From now on `/readyz` says no.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    pub(crate) fn draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Whether items are served as they were before the last look at the store, which failed.
    pub(crate) fn items_stale(&self) -> bool {
        self.items_stale.load(Ordering::Acquire)
    }
}

/// Asks the compute threads for items, at the tier's level of the moment it is its turn.
///
/// # Errors
/// 429 past the tier's rate, 503 past its smallest dim, or what is wrong with the question.
pub(crate) async fn ranked(serving: &Serving, view: &View, choice: &Choice, ask: Ask) -> Result<Ranked, Problem> {
    let begun = Instant::now();
    let ranked = submit(serving, view, &choice.tier, ask, false).await?;
    serving.metrics.answer_s.with_label_values(&[view.bundle.id()]).observe(begun.elapsed().as_secs_f64());
    serving.metrics.answers.with_label_values(&[view.bundle.id(), &choice.tier.name]).inc();
    if ranked.dim < choice.dim {
        serving.metrics.degraded.with_label_values(&[&*choice.tier.name, &ranked.dim.to_string()]).inc();
    }
    Ok(ranked)
}

/// The same for a Bundle in the shadow: nothing of it counts as the tier's.
///
/// # Errors
/// As [`ranked`].
pub(crate) async fn ranked_in_shadow(
    serving: &Serving,
    view: &View,
    tier: &Arc<Tier>,
    ask: Ask,
) -> Result<Ranked, Problem> {
    submit(serving, view, tier, ask, true).await
}

async fn submit(serving: &Serving, view: &View, tier: &Arc<Tier>, ask: Ask, shadow: bool) -> Result<Ranked, Problem> {
    let (answer, answered) = oneshot::channel();
    let (view, tier, begun) = (view.clone(), Arc::clone(tier), Instant::now());
    serving.pool.submit(Job { view, tier, ask, begun, shadow, answer })?;
    answered.await.map_err(|_| Problem::internal("a compute thread dropped the request"))?
}

/// Counts one request of a caller against its tier's rate.
///
/// # Errors
/// 429.
pub(crate) fn admit(serving: &Serving, choice: &Choice, key: Option<usize>) -> Result<(), Problem> {
    choice.tier.admit(key).inspect_err(|_| {
        serving.metrics.refused.with_label_values(&[&*choice.tier.name, "rate"]).inc();
    })
}

/// [`blocking`] for a change of an item. Changes wait for each other, and for searches of the catalogue, before they take
/// a thread, within the request's time limit; those that wait together are laid out together.
pub(crate) async fn changing_items<T: Send + 'static>(
    serving: &web::Data<Serving>,
    work: impl FnOnce(&Serving) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let turn = Arc::clone(&serving.long_work).acquire_owned().await.map_err(Problem::internal)?;
    let work = move |serving: &Serving| {
        // As in `holding`: the turn is the work's.
        let _turn = turn;
        work(serving)
    };
    blocking(serving, work).await
}

/// Runs a search of the whole catalogue on the blocking threads. It reads memory only, so it takes none of the places
/// of [`blocking`]: however many search, events and `/readyz` find theirs.
///
/// # Errors
/// 503 if those before it take longer than [`CATALOGUE_WAIT`].
pub(crate) async fn searching_catalogue<T: Send + 'static>(
    serving: &web::Data<Serving>,
    work: impl FnOnce(&Serving) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let turn = Arc::clone(&serving.long_work).acquire_owned();
    let Ok(turn) = tokio::time::timeout(CATALOGUE_WAIT, turn).await else {
        return Err(busy(serving, "catalogue", "too many searches of the catalogue are running"));
    };
    holding(serving, turn.map_err(Problem::internal)?, work).await
}

/// Runs work that waits for the disk on the blocking threads; past `max_in_flight` it is refused, so
/// that the queue before those threads has a limit.
pub(crate) async fn blocking<T: Send + 'static>(
    serving: &web::Data<Serving>,
    work: impl FnOnce(&Serving) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let Ok(permit) = Arc::clone(&serving.in_flight).try_acquire_owned() else {
        return Err(busy(serving, "busy", "the service is busy"));
    };
    holding(serving, permit, work).await
}

/// 503 for want of a place, which is counted.
fn busy(serving: &Serving, reason: &str, what: &str) -> Problem {
    serving.metrics.refused_before_tier(reason);
    Problem::unavailable(format!("{what}; try again after a second"))
}

async fn holding<T: Send + 'static>(
    serving: &web::Data<Serving>,
    permit: OwnedSemaphorePermit,
    work: impl FnOnce(&Serving) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let serving = serving.clone();
    let outcome = web::block(move || {
        // Held by the work, not by the request: a client that goes away does not free its thread.
        let _permit = permit;
        work(&serving)
    });
    outcome.await.map_err(Problem::internal)?
}

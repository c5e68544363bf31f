//! The compute threads and the queue before them.
//!
//! HTTP threads never scan and never wait for one that does: they put a [`Job`] into the queue and
//! await its answer. A compute thread takes what waits in the next lane, up to `max_batch`, as one
//! batch: under load batches form by themselves. Only while requests come faster than one in
//! `max_wait` does a thread hold a batch open, and never longer than `max_wait` after its oldest
//! request came.

use crate::clock::Clock;
use crate::compute::batch;
use crate::compute::job::Job;
use crate::compute::queue::FairQueue;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::tiers::{Tier, TierTable};
use crate::users::UserStates;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Time between two looks at every tier's load.
pub(crate) const TICK: Duration = Duration::from_millis(20);
/// Weight of the newest gap in the mean time between arrivals.
const NEWEST_GAP: f32 = 0.1;

/// Sizes of the pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PoolSizes {
    pub(crate) threads: usize,
    pub(crate) max_queue: usize,
    pub(crate) max_batch: usize,
    pub(crate) max_wait: Duration,
}

/// The threads; dropped, they finish what waits and end.
pub(crate) struct Pool {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    arrived: Condvar,
    sizes: PoolSizes,
    users: Arc<UserStates>,
    metrics: Metrics,
    clock: Clock,
}

struct State {
    queue: FairQueue<Job>,
    closed: bool,
    last_arrival: Instant,
    /// Mean time between arrivals.
    gap_s: f32,
}

impl Pool {
    /// Starts the threads.
    ///
    /// # Errors
    /// The operating system refuses one.
    pub(crate) fn start(
        sizes: PoolSizes,
        users: Arc<UserStates>,
        metrics: Metrics,
        clock: Clock,
    ) -> std::io::Result<Pool> {
        let queue = FairQueue::new(sizes.max_queue);
        let state = State { queue, closed: false, last_arrival: Instant::now(), gap_s: 1.0 };
        let (state, arrived) = (Mutex::new(state), Condvar::new());
        let shared = Arc::new(Shared { state, arrived, sizes, users, metrics, clock });
        let mut pool = Pool { shared, threads: Vec::with_capacity(sizes.threads) };
        for index in 0..sizes.threads {
            let shared = Arc::clone(&pool.shared);
            let thread = std::thread::Builder::new().name(format!("compute-{index}")).spawn(move || work(&shared))?;
            pool.threads.push(thread);
        }
        Ok(pool)
    }

    /// Puts a job into its tier's lane. Near its limit a lane first drops its tier to the smallest dim.
    ///
    /// # Errors
    /// 503: the tier is at its smallest dim and its queue is full, or too long for its target. A question in the
    /// shadow is refused as soon as anything waits: it neither bends a tier nor counts as a refusal of it.
    pub(crate) fn submit(&self, job: Job) -> Result<(), Problem> {
        let tier = Arc::clone(&job.tier);
        let (key, weight) = (tier.id, tier.config.share_permille);
        let steps = tier.steps(job.view.dims());
        let mut state = self.shared.lock();
        let depth = state.queue.depth(key);
        if job.shadow && depth > 0 {
            return Err(Problem::unavailable("the tier has requests that wait"));
        }
        if depth * 2 >= state.queue.most(weight) {
            tier.drop_to_smallest(steps);
        }
        if depth > self.shared.sizes.threads && tier.level() >= steps {
            let wait = self.drain_time(&state, &job, depth);
            if wait > tier.target() {
                return Err(self.refuse(&tier, "late", wait));
            }
        }
        state.note_arrival(job.begun);
        if let Err(job) = state.queue.push(key, weight, job) {
            let wait = self.drain_time(&state, &job, depth);
            return Err(self.refuse(&tier, "full", wait));
        }
        drop(state);
        self.shared.arrived.notify_one();
        Ok(())
    }

    /// Looks at every tier's load and moves its level; called once a [`TICK`].
    pub(crate) fn tick(&self, table: &TierTable, served: &crate::served::ServedBundle) {
        let (dims, metrics) = (served.bundle.dims(), &self.shared.metrics);
        let mut waits = Vec::with_capacity(table.tiers().len());
        {
            let state = self.shared.lock();
            for tier in table.tiers() {
                let oldest = state.queue.front(tier.id).map_or(Duration::ZERO, |job| job.begun.elapsed());
                waits.push((oldest, state.queue.depth(tier.id)));
            }
        }
        // All tiers share the threads, so a climb of one must fit beside what the others take.
        let busy_s = |tier: &Tier, up: usize| -> Option<f32> {
            let level = tier.level().saturating_sub(up);
            let at = dims.binary_search(&tier.config.dim).ok()?.saturating_sub(level);
            Some(tier.per_tick() * served.cost_us(dims[at])? / 1e6)
        };
        let all_s: f32 = table.tiers().iter().filter_map(|tier| busy_s(tier, 0)).sum();
        let capacity_s = TICK.as_secs_f32() * self.shared.sizes.threads as f32;
        for (tier, (oldest, depth)) in table.tiers().iter().zip(waits) {
            let waited = oldest.as_secs_f32() / tier.target().as_secs_f32();
            let climbed = busy_s(tier, 1).zip(busy_s(tier, 0)).map(|(up, now)| (all_s + up - now) / capacity_s);
            if let Some(level) = tier.tick(waited, climbed, tier.steps(dims)) {
                let dim = tier.dim_now(dims, tier.config.dim);
                tracing::info!(tier = &*tier.name, level, dim, depth, "the tier's dim changed with its load");
            }
            metrics.tier_dim.with_label_values(&[&tier.name]).set(tier.dim_now(dims, tier.config.dim) as i64);
            metrics.queue_depth.with_label_values(&[&tier.name]).set(depth as i64);
        }
    }

    /// Jobs waiting in a tier's lane.
    pub(crate) fn depth(&self, tier: &Tier) -> usize {
        self.shared.lock().queue.depth(tier.id)
    }

    /// Time until a lane of this depth is served, at the cost of the dim that its tier is at now.
    fn drain_time(&self, state: &State, job: &Job, depth: usize) -> Duration {
        let dim = job.tier.dim_now(job.view.dims(), job.ask.dim);
        let cost_us = job.view.cost_us(dim).unwrap_or(0.0);
        let share = state.queue.share(job.tier.id, job.tier.config.share_permille);
        Duration::from_secs_f32(depth as f32 * cost_us / 1e6 / (self.shared.sizes.threads as f32 * share))
    }

    fn refuse(&self, tier: &Tier, reason: &str, wait: Duration) -> Problem {
        self.shared.metrics.refused.with_label_values(&[&tier.name, reason]).inc();
        Problem::overloaded(format!("tier {:?} is overloaded at its smallest dim; try again", tier.name), wait)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.arrived.notify_all();
        for thread in self.threads.drain(..) {
            // A compute thread catches panics; if one got through, there is nothing left to save.
            let _ = thread.join();
        }
    }
}

impl State {
    fn note_arrival(&mut self, at: Instant) {
        let gap_s = at.saturating_duration_since(self.last_arrival).as_secs_f32().min(1.0);
        self.gap_s += NEWEST_GAP * (gap_s - self.gap_s);
        self.last_arrival = at;
    }
}

impl Shared {
    /// The queue is whole between calls, so a lock that a panic left behind is still good.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for jobs of one lane; false once the pool is closed and nothing waits.
    fn next_batch(&self, into: &mut Vec<Job>) -> bool {
        let mut state = self.lock();
        loop {
            if let Some(left) = self.time_to_hold_open(&state) {
                state = self.arrived.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            } else if state.queue.take(self.sizes.max_batch, into) {
                if state.queue.len() > 0 {
                    self.arrived.notify_one();
                }
                return true;
            } else if state.closed {
                return false;
            } else {
                state = self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// How much longer a batch that is not full may wait for company; none if it may not.
    fn time_to_hold_open(&self, state: &State) -> Option<Duration> {
        let (waiting, max_wait) = (state.queue.len(), self.sizes.max_wait);
        if waiting == 0 || waiting >= self.sizes.max_batch || state.closed || state.gap_s > max_wait.as_secs_f32() {
            return None;
        }
        let oldest = state.queue.fronts().map(|job| job.begun).min()?;
        max_wait.checked_sub(oldest.elapsed()).filter(|left| !left.is_zero())
    }
}

fn work(shared: &Shared) {
    let mut jobs = Vec::with_capacity(shared.sizes.max_batch);
    while shared.next_batch(&mut jobs) {
        // A panic costs its batch an error each (their senders drop), not the service its thread.
        let ran = catch_unwind(AssertUnwindSafe(|| {
            batch::run(&mut jobs, &shared.users, &shared.metrics, (shared.clock)());
        }));
        if ran.is_err() {
            tracing::error!("a compute thread panicked on a batch; its requests were answered 500");
        }
        jobs.clear();
    }
}

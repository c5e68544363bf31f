//! A tier at work: its level, its rate limits, and what was counted since the last tick.

use crate::problem::Problem;
use crate::tiers::config::TierConfig;
use crate::tiers::controller::{Controller, Observation};
use crate::view::View;
use fmrlrec::Cut;
use governor::clock::Clock as _;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Tells tiers of one name apart after a live change.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// One tier of the table that is live.
pub(crate) struct Tier {
    pub(crate) id: u64,
    pub(crate) name: Arc<str>,
    pub(crate) config: TierConfig,
    controller: Mutex<Controller>,
    /// The controller's level, readable without its lock.
    level: AtomicUsize,
    /// One for each API key, then one for everybody else; empty without a limit.
    limiters: Arc<[DefaultDirectRateLimiter]>,
    answered: AtomicU32,
    late: AtomicU32,
    /// Mean answers a tick of late, as bits of an f32.
    per_tick: AtomicU32,
}

/// Weight of the newest tick in the mean of answers: about the last half second counts.
const NEWEST_TICK: f32 = 0.04;

impl Tier {
    /// A tier for this many API keys; `before` is the tier of the same name, whose level goes on, and whose rates
    /// too if they are the same: a change of something else gives nobody a fresh burst.
    pub(crate) fn new(config: TierConfig, keys: usize, before: Option<&Tier>) -> Tier {
        let controller = before.map_or_else(Controller::default, |tier| locked(&tier.controller).clone());
        let rates = |config: &TierConfig| (config.rate_per_s, config.burst);
        let limiters = match before {
            Some(tier) if rates(&tier.config) == rates(&config) => Arc::clone(&tier.limiters),
            _ => limiters(&config, keys),
        };
        Tier {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: config.name.as_str().into(),
            level: AtomicUsize::new(controller.level()),
            controller: Mutex::new(controller),
            limiters,
            answered: AtomicU32::new(0),
            late: AtomicU32::new(0),
            per_tick: AtomicU32::new(before.map_or(0, |tier| tier.per_tick.load(Ordering::Relaxed))),
            config,
        }
    }

    pub(crate) fn target(&self) -> Duration {
        Duration::from_millis(self.config.latency_target_ms)
    }

    pub(crate) fn level(&self) -> usize {
        self.level.load(Ordering::Relaxed)
    }

    /// What a user vector of this tier goes through at a dim: the whole model where no exit was trained at its
    /// depth up to that dim, as for a request that names a larger one.
    pub(crate) fn cut_in(&self, view: &View, dim: usize) -> Cut {
        let exit = view.shape.exits.iter().find(|(depth, most)| self.config.depth == Some(*depth) && dim <= *most);
        let cut = match (&self.config.block_dims, exit) {
            (Some(block_dims), _) => Cut::new(block_dims, &view.shape).ok(),
            (None, exit) => exit.map(|(depth, _)| Cut::exit(*depth)),
        };
        cut.unwrap_or_else(|| view.whole.clone())
    }

    /// Number of smaller dims that the tier may be stepped down to.
    pub(crate) fn steps(&self, trained: &[usize]) -> usize {
        trained.iter().filter(|&&dim| self.config.min_dim <= dim && dim < self.config.dim).count()
    }

    /// The dim that a request for `dim` gets at the level of now: `level` trained dims below it, never
    /// below `min_dim`, and never above what was asked.
    pub(crate) fn dim_now(&self, trained: &[usize], dim: usize) -> usize {
        let level = self.level();
        let wanted = trained.binary_search(&dim).unwrap_or(0);
        let floor = trained.binary_search(&self.config.min_dim).unwrap_or(0).min(wanted);
        // At the last level everything goes to the floor, also a dim above the tier's own.
        let at =
            if level >= self.steps(trained) && level > 0 { floor } else { wanted.saturating_sub(level).max(floor) };
        trained.get(at).copied().unwrap_or(dim)
    }

    /// Counts one request of an API key's (by index), or of everybody without one.
    ///
    /// # Errors
    /// 429 with the seconds after which there is room again.
    pub(crate) fn admit(&self, key: Option<usize>) -> Result<(), Problem> {
        let Some(last) = self.limiters.len().checked_sub(1) else { return Ok(()) };
        let limiter = &self.limiters[key.unwrap_or(last).min(last)];
        limiter.check().map_err(|until| {
            let wait = until.wait_time_from(limiter.clock().now());
            let (name, rate) = (&self.name, self.config.rate_per_s);
            let whom = if key.is_some() { "one API key" } else { "all callers without an API key together" };
            Problem::too_many(format!("tier {name:?} takes {rate} requests a second from {whom}"), wait)
        })
    }

    /// Counts one answer that took `took` from its arrival.
    pub(crate) fn count(&self, took: Duration) {
        self.answered.fetch_add(1, Ordering::Relaxed);
        if took > self.target() {
            self.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Mean answers a tick of late: one tick alone says too little to climb on.
    pub(crate) fn per_tick(&self) -> f32 {
        f32::from_bits(self.per_tick.load(Ordering::Relaxed))
    }

    /// Takes in the counts since the last tick. Gives the level if it changed.
    pub(crate) fn tick(&self, waited: f32, busy_if_climbed: Option<f32>, steps: usize) -> Option<usize> {
        let seen = Observation {
            answered: self.answered.swap(0, Ordering::Relaxed),
            late: self.late.swap(0, Ordering::Relaxed),
            waited,
            busy_if_climbed,
        };
        let mean = self.per_tick() + NEWEST_TICK * (seen.answered as f32 - self.per_tick());
        self.per_tick.store(mean.to_bits(), Ordering::Relaxed);
        let level = locked(&self.controller).tick(&seen, steps);
        (self.level.swap(level, Ordering::Relaxed) != level).then_some(level)
    }

    /// Steps all the way down at once.
    pub(crate) fn drop_to_smallest(&self, steps: usize) {
        if self.level() < steps {
            self.level.store(locked(&self.controller).drop_to_smallest(steps), Ordering::Relaxed);
        }
    }
}

/// One for each API key and one for everybody else; none without a limit.
fn limiters(config: &TierConfig, keys: usize) -> Arc<[DefaultDirectRateLimiter]> {
    match NonZeroU32::new(config.rate_per_s).zip(NonZeroU32::new(config.burst)) {
        None => Arc::new([]),
        Some((rate, burst)) => {
            let quota = Quota::per_second(rate).allow_burst(burst);
            (0..=keys).map(|_| RateLimiter::direct(quota)).collect()
        }
    }
}

/// A controller is whole between calls, so one that a panic left behind is still good.
fn locked(controller: &Mutex<Controller>) -> std::sync::MutexGuard<'_, Controller> {
    controller.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

//! One batch: user vectors from the cache or the model, one search for all, the answers sent.

use crate::compute::job::{Ask, Job, Ranked, Source};
use crate::compute::search::{Query, Search, top_k_batch};
use crate::lookup::resolve;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::served::ServedBundle;
use crate::users::{UserEntry, UserStates};
use std::sync::Arc;
use std::time::Instant;

/// A job whose user vector is there.
struct Ready {
    job: Job,
    dim: usize,
    /// None for a search by item.
    user: Option<Arc<UserEntry>>,
}

/// Answers jobs of one tier and empties `jobs`.
pub(crate) fn run(jobs: &mut Vec<Job>, users: &UserStates, metrics: &Metrics) {
    metrics.batch_size.observe(jobs.len() as f64);
    let mut ready: Vec<Ready> = Vec::with_capacity(jobs.len());
    let begun = Instant::now();
    for job in jobs.drain(..) {
        // The client is gone: nobody wants the answer.
        if job.answer.is_closed() {
            continue;
        }
        let dim = job.tier.dim_now(job.served.bundle.dims(), job.ask.dim);
        match user_of(&job.ask, &job.served, dim, users, metrics) {
            Ok(user) => ready.push(Ready { job, dim, user }),
            Err(problem) => drop(job.answer.send(Err(problem))),
        }
    }
    let prepare_us = begun.elapsed().as_secs_f32() * 1e6 / ready.len().max(1) as f32;
    // Mostly one group: a swap or requests that name a dim make more.
    while let Some(first) = ready.first() {
        let key = (first.job.served.generation, first.dim);
        let (group, rest) = ready.into_iter().partition(|at| (at.job.served.generation, at.dim) == key);
        ready = rest;
        answer(group, prepare_us);
    }
}

fn user_of(
    ask: &Ask,
    served: &ServedBundle,
    dim: usize,
    users: &UserStates,
    metrics: &Metrics,
) -> Result<Option<Arc<UserEntry>>, Problem> {
    let (entry, outcome) = match &ask.source {
        Source::Item(_) => return Ok(None),
        Source::User(user) => {
            let (entry, kept) = users.entry(served, user, dim)?;
            (entry, if kept { "kept" } else { "computed" })
        }
        Source::Inline(keys) => {
            let resolved = resolve(served.bundle.vocabulary(), keys.iter().map(String::as_str));
            (Arc::new(UserEntry::compute(served, dim, 0, resolved)?), "inline")
        }
    };
    metrics.user_vectors.with_label_values(&[outcome]).inc();
    Ok(Some(entry))
}

/// Searches for a group of one Bundle and one dim, and sends each its answer.
fn answer(group: Vec<Ready>, prepare_us: f32) {
    let Some(first) = group.first() else { return };
    let (served, dim) = (Arc::clone(&first.job.served), first.dim);
    let begun = Instant::now();
    let searches: Vec<Search<'_>> = group.iter().map(search).collect();
    let found = top_k_batch(&served.table, &searches);
    drop(searches);
    served.record_cost(dim, prepare_us + begun.elapsed().as_secs_f32() * 1e6 / group.len() as f32);
    for (Ready { job, user, .. }, items) in group.into_iter().zip(found) {
        let ranked = items.map(|items| Ranked {
            items,
            dim,
            unknown: user.as_ref().map_or_else(Vec::new, |user| user.unknown.to_vec()),
            history_len: user.as_ref().map_or(0, |user| user.history_len),
        });
        job.tier.count(job.begun.elapsed());
        // An error means that the client went away in the meantime.
        let _ = job.answer.send(ranked);
    }
}

fn search(ready: &Ready) -> Search<'_> {
    let ask = &ready.job.ask;
    let seen: &[u32] = match &ready.user {
        Some(user) if !ask.include_seen => &user.seen,
        _ => &[],
    };
    let query = match (&ready.user, &ask.source) {
        (Some(user), _) => Query::Vector(user.vector(ready.dim)),
        (None, Source::Item(id)) => Query::Item { id: *id, dim: ready.dim },
        (None, _) => unreachable!("user_of gives an entry for every source but an item"),
    };
    Search { query, k: ask.k, hidden: [&ask.exclude, seen], only: ask.only.as_deref() }
}

//! One batch: user vectors from the cache or the model, one search for all, the answers sent.

use crate::compute::diversify::{diversify, pool};
use crate::compute::explain::explain;
use crate::compute::job::{Ask, Job, Ranked, Source};
use crate::compute::search::{Query, Search, top_k_batch};
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::served::ServedBundle;
use crate::users::{Made, UserEntry, UserStates};
use retrieval::Scored;
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
        answer(group, users, prepare_us);
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
            let found = users.entry(served, user, dim)?;
            metrics.model_items.inc_by(found.model_items as u64);
            let outcome = match found.made {
                Made::Kept => "kept",
                Made::Advanced => "advanced",
                Made::Folded => "computed",
            };
            (found.entry, outcome)
        }
        Source::Inline(keys) => {
            let entry = users.inline(served, dim, keys.iter().map(String::as_str))?;
            metrics.model_items.inc_by(entry.history_len.max(1) as u64);
            (Arc::new(entry), "inline")
        }
    };
    metrics.user_vectors.with_label_values(&[outcome]).inc();
    Ok(Some(entry))
}

/// Searches for a group of one Bundle and one dim, and sends each its answer.
fn answer(group: Vec<Ready>, users: &UserStates, prepare_us: f32) {
    let Some(first) = group.first() else { return };
    let (served, dim) = (Arc::clone(&first.job.served), first.dim);
    let begun = Instant::now();
    let hidden = match users.hidden(&served) {
        Ok(hidden) => hidden,
        Err(problem) => return refuse(group, &problem),
    };
    let searches: Vec<Search<'_>> = group.iter().map(|ready| search(ready, &hidden)).collect();
    let found = top_k_batch(&served.table, &searches);
    drop(searches);
    served.record_cost(dim, prepare_us + begun.elapsed().as_secs_f32() * 1e6 / group.len() as f32);
    let mut found: Vec<(Ready, Result<Vec<Scored>, Problem>)> = group.into_iter().zip(found).collect();
    // What takes longer goes last, so that the others do not wait for it.
    found.sort_by_key(|(ready, _)| (ready.job.ask.explain, ready.job.ask.diversity > 0.0));
    for (ready, items) in found {
        let ranked = items.and_then(|items| finish(&ready, items));
        ready.job.tier.count(ready.job.begun.elapsed());
        // An error means that the client went away in the meantime.
        let _ = ready.job.answer.send(ranked);
    }
}

/// The same problem for all.
fn refuse(group: Vec<Ready>, problem: &Problem) {
    for ready in group {
        let _ = ready.job.answer.send(Err(Problem::internal(problem)));
    }
}

/// What a search found becomes what was asked for.
fn finish(ready: &Ready, mut items: Vec<Scored>) -> Result<Ranked, Problem> {
    let Ready { job, dim, user } = ready;
    let (ask, served) = (&job.ask, &job.served);
    if ask.diversity > 0.0 {
        items = diversify(&served.table, *dim, items, ask.k, ask.diversity)?;
    }
    let because = match ask.explain {
        true => explain(served, &user.as_ref().map_or_else(Vec::new, |user| user.read_ids()), *dim, &items)?,
        false => Vec::new(),
    };
    let unknown = user.as_ref().map_or_else(Vec::new, |user| user.unknown());
    let history_len = user.as_ref().map_or(0, |user| user.history_len);
    Ok(Ranked { items, dim: *dim, unknown, history_len, because })
}

fn search<'a>(ready: &'a Ready, gone: &'a [u32]) -> Search<'a> {
    let ask = &ready.job.ask;
    let seen: &[u32] = match &ready.user {
        Some(user) if !ask.include_seen => user.seen(),
        _ => &[],
    };
    let query = match (&ready.user, &ask.source) {
        (Some(user), _) => Query::Vector(user.vector(ready.dim)),
        (None, Source::Item(id)) => Query::Item { id: *id, dim: ready.dim },
        (None, _) => unreachable!("user_of gives an entry for every source but an item"),
    };
    let k = if ask.diversity > 0.0 { pool(ask.k) } else { ask.k };
    Search { query, k, hidden: [&ask.exclude, seen, gone], only: ask.only.as_deref() }
}

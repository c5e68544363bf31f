//! One batch: user vectors from the cache or the model, one search for all, the answers sent.

use crate::compute::diversify::{diversify, pool};
use crate::compute::explain::explain;
use crate::compute::job::{Ask, Job, Ranked, Source};
use crate::compute::search::{Query, Search, top_k_batch};
use crate::cursor::expired;
use crate::lookup::hidden_item;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::spans::Moments;
use crate::tiers::SearchMode;
use crate::users::{Made, UserEntry, UserStates};
use crate::view::View;
use fmrlrec::Cut;
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

/// Answers jobs of one tier at a time `now_ms`, and empties `jobs`.
pub(crate) fn run(jobs: &mut Vec<Job>, users: &UserStates, metrics: &Metrics, now_ms: i64) {
    metrics.batch_size.observe(jobs.len() as f64);
    let mut ready: Vec<Ready> = Vec::with_capacity(jobs.len());
    let begun = Instant::now();
    for job in jobs.drain(..) {
        // The client is gone: nobody wants the answer.
        if job.answer.is_closed() {
            continue;
        }
        let dim = match &job.ask.page {
            Some(page) => page.dim,
            None => job.tier.dim_now(job.view.dims(), job.ask.dim),
        };
        let cut = job.tier.cut_in(&job.view, dim);
        match user_of(&job.ask, &job.view, (dim, &cut), users, metrics) {
            Ok(user) => ready.push(Ready { job, dim, user }),
            Err(problem) => drop(job.answer.send(Err(problem))),
        }
    }
    let prepare_us = begun.elapsed().as_secs_f32() * 1e6 / ready.len().max(1) as f32;
    // Mostly one group: a swap, a new item, or requests that name a dim make more.
    while let Some(first) = ready.first() {
        let key = first.group();
        let (group, rest) = ready.into_iter().partition(|at| at.group() == key);
        ready = rest;
        answer(group, now_ms, (begun, prepare_us), metrics);
    }
}

impl Ready {
    /// Jobs of one group see the same items at the same dim.
    fn group(&self) -> (u64, u64, usize) {
        (self.job.view.generation, self.job.view.added().version, self.dim)
    }
}

fn user_of(
    ask: &Ask,
    view: &View,
    (dim, cut): (usize, &Cut),
    users: &UserStates,
    metrics: &Metrics,
) -> Result<Option<Arc<UserEntry>>, Problem> {
    let (entry, outcome) = match &ask.source {
        Source::Item(_) => return Ok(None),
        Source::User(user) => {
            let found = users.entry(view, user, dim, cut)?;
            metrics.model_items.inc_by(found.model_items as u64);
            let outcome = match found.made {
                Made::Kept => "kept",
                Made::Advanced => "advanced",
                Made::Folded => "computed",
            };
            (found.entry, outcome)
        }
        Source::Inline(keys) => {
            let entry = users.inline(view, dim, cut, keys)?;
            metrics.model_items.inc_by(entry.history_len.max(1) as u64);
            (Arc::new(entry), "inline")
        }
    };
    metrics.user_vectors.with_label_values(&[outcome]).inc();
    if ask.page.is_some_and(|page| page.history != entry.version) {
        return Err(expired("the history has changed since"));
    }
    Ok(Some(entry))
}

/// Searches for a group of one Bundle and one dim, and sends each its answer.
fn answer(group: Vec<Ready>, now_ms: i64, (taken, prepare_us): (Instant, f32), metrics: &Metrics) {
    let Some(first) = group.first() else { return };
    let (view, dim) = (first.job.view.clone(), first.dim);
    let ready_at = Instant::now();
    let (hidden, size) = (view.hidden_at(now_ms), group.len() as f32);
    let found = find(&group, &view, &hidden);
    let mut found: Vec<(Ready, Result<Vec<Scored>, Problem>)> = group.into_iter().zip(found).collect();
    // What takes longer goes last, so that the others do not wait for it.
    found.sort_by_key(|(ready, _)| (ready.job.ask.explain, ready.job.ask.diversity > 0.0));
    for (ready, items) in found {
        let ranked = items.and_then(|items| finish(&ready, items, (taken, ready_at), metrics));
        if !ready.job.shadow {
            ready.job.tier.count(ready.job.begun.elapsed());
        }
        // An error means that the client went away in the meantime.
        let _ = ready.job.answer.send(ranked);
    }
    // Explaining and diversifying are part of what requests cost.
    view.record_cost(dim, prepare_us + ready_at.elapsed().as_secs_f32() * 1e6 / size);
}

/// One search for all whose filter can be answered.
fn find(group: &[Ready], view: &View, hidden: &[u32]) -> Vec<Result<Vec<Scored>, Problem>> {
    let mut wrong = Vec::new();
    let mut searches = Vec::with_capacity(group.len());
    for ready in group {
        match search(ready, view, hidden) {
            Ok(search) => {
                searches.push(search);
                wrong.push(None);
            }
            Err(problem) => wrong.push(Some(problem)),
        }
    }
    let mode = group.first().map_or(SearchMode::Exact, searched);
    let mut found = top_k_batch(view, mode, &searches).into_iter();
    let lacking = || Err(Problem::internal("a batch gave too few results"));
    wrong.into_iter().map(|wrong| wrong.map_or_else(|| found.next().unwrap_or_else(lacking), Err)).collect()
}

/// What a search found becomes what was asked for.
fn finish(
    ready: &Ready,
    mut items: Vec<Scored>,
    (taken, ready_at): (Instant, Instant),
    metrics: &Metrics,
) -> Result<Ranked, Problem> {
    let Ready { job, dim, user } = ready;
    let (ask, view) = (&job.ask, &job.view);
    let approximate =
        searched(ready) == SearchMode::Tuned && view.plans().may_miss(*dim, search_k(ask), as_tuned(ready));
    items.drain(..ask.page.map_or(0, |page| page.offset).min(items.len()));
    if ask.diversity > 0.0 {
        items = diversify(&view.table()?, *dim, items, ask.k, ask.diversity)?;
    }
    let because = match ask.explain {
        true => {
            let read = user.as_ref().map_or_else(Vec::new, |user| user.read_ids());
            let (because, model_items) = explain(view, &read, (*dim, &job.tier.cut_in(view, *dim)), &items)?;
            metrics.model_items.inc_by(model_items as u64);
            because
        }
        false => Vec::new(),
    };
    let unknown = user.as_ref().map_or_else(Vec::new, |user| user.unknown());
    let history_len = user.as_ref().map_or(0, |user| user.history_len);
    let history = user.as_ref().map_or(0, |user| user.version);
    let moments = Moments { asked: job.begun, taken, ready: ready_at, ranked: Instant::now() };
    Ok(Ranked { items, dim: *dim, unknown, history_len, because, history, approximate, moments })
}

/// How the tier of a job searches.
fn searched(ready: &Ready) -> SearchMode {
    ready.job.tier.config.search
}

/// Whether a search is of the kind that the recall of search plans was measured with: of all items, for a
/// user vector of the whole model.
fn as_tuned(ready: &Ready) -> bool {
    let Job { view, tier, ask, .. } = &ready.job;
    ask.filter.is_none() && ask.only.is_none() && tier.cut_in(view, ready.dim) == view.whole
}

/// Items to search for: candidates where the answer must be diverse, those of earlier pages too.
fn search_k(ask: &Ask) -> usize {
    match ask.diversity > 0.0 {
        true => pool(ask.k),
        false => ask.k + ask.page.map_or(0, |page| page.offset),
    }
}

fn search<'a>(ready: &'a Ready, view: &View, gone: &'a [u32]) -> Result<Search<'a>, Problem> {
    let ask = &ready.job.ask;
    let seen: &[u32] = match &ready.user {
        Some(user) if !ask.include_seen => user.seen(),
        _ => &[],
    };
    let query = match (&ready.user, &ask.source) {
        (Some(user), _) => Query::Vector(user.vector(ready.dim)),
        (None, Source::Item(id)) if gone.binary_search(id).is_ok() => return Err(hidden_item(view, *id)),
        (None, Source::Item(id)) => Query::Item { id: *id, dim: ready.dim },
        (None, _) => unreachable!("user_of gives an entry for every source but an item"),
    };
    let k = search_k(ask);
    let filter = ask.filter.as_ref().map(|filter| view.items_where(filter)).transpose()?;
    let hidden = [&ask.exclude, seen, gone];
    Ok(Search { query, k, hidden, only: ask.only.as_deref(), filter, as_tuned: as_tuned(ready) })
}

//! One recommendation request from its fields to ranked items: what is wrong with it, its tier and dim, its
//! page, the question to the compute threads, and the same question to a Bundle in the shadow.

use crate::access::Caller;
use crate::compute::{Ask, Page, Ranked, Source};
use crate::cursor::{RankingCursor, expired, fingerprint};
use crate::lookup::{check_k, check_key, check_list, known_ids};
use crate::metrics::Labels;
use crate::problem::Problem;
use crate::recent::Asked;
use crate::routes::RecommendRequest;
use crate::serving::{Serving, admit, ranked};
use crate::shadow;
use crate::tiers::{Choice, Wish};
use crate::view::View;
use actix_web::http::header::HeaderMap;
use actix_web::web;

/// Most items of a diverse answer: each is compared with four candidates for every item.
const MAX_DIVERSE_K: usize = 100;

/// One request's answer.
pub(crate) struct Found {
    pub(crate) choice: Choice,
    pub(crate) ranked: Ranked,
    /// Cursor of the page that follows.
    pub(crate) next: Option<String>,
}

/// Checks, admits and ranks one request; `note` is told tier and dim.
///
/// # Errors
/// What is wrong with the request, 410 for a page that cannot be had any more, 429 and 503 for load.
pub(crate) async fn recommend_one(
    serving: &web::Data<Serving>,
    view: &View,
    request: RecommendRequest,
    caller: Caller,
    headers: &HeaderMap,
    note: &dyn Fn(Labels),
) -> Result<Found, Problem> {
    check(&request, serving)?;
    let asked = settled(&request);
    let cursor = request.cursor.as_deref().map(RankingCursor::parse).transpose()?;
    let wish = Wish { tier: request.tier.as_deref(), dim: request.dim, key: caller.0 };
    let choice = serving.tiers.current().choose(wish, headers, view.dims())?;
    note(Labels::of(&choice, choice.dim));
    let page = cursor.map(|cursor| page(cursor, &request, asked, &choice, view)).transpose()?;
    let k = check_k(request.k, &serving.limits, &choice.tier)?;
    if request.diversity > 0.0 && k > MAX_DIVERSE_K {
        return Err(Problem::bad_request(format!("k is {k}; with diversity ask for 1 to {MAX_DIVERSE_K}")));
    }
    let k = page.map_or(k, |page| k.min(retrieval::MAX_K - page.offset));
    let ask = ask(&request, view, choice.dim, k, page)?;
    admit(serving, &choice, caller.0)?;
    serving.recent.note(|| match &ask.source {
        Source::User(user) => Asked::User(user.clone()),
        Source::Inline(keys) => Asked::Inline(keys.clone()),
        Source::Item(_) => unreachable!("`ask` makes it from a user or a history"),
    });
    let found = ranked(serving, view, &choice, ask).await?;
    note(Labels::ranked(&choice, &found));
    serving.metrics.unknown_items.inc_by(found.unknown.len() as u64);
    let cursor = RankingCursor {
        model: model(view, &choice, found.dim),
        asked,
        history: found.history,
        dim: found.dim as u32,
        offset: (page.map_or(0, |page| page.offset) + found.items.len()) as u32,
    };
    let pages = request.diversity == 0.0 && !found.approximate;
    let more = pages && found.items.len() == k && (cursor.offset as usize) < retrieval::MAX_K;
    shadow::follow(serving, view, &choice, &request, &found);
    Ok(Found { choice, ranked: found, next: more.then(|| cursor.encode()) })
}

/// The question to the compute threads, in the ids of a view.
///
/// # Errors
/// 400: a filter that the view's attributes cannot answer.
pub(crate) fn ask(
    request: &RecommendRequest,
    view: &View,
    dim: usize,
    k: usize,
    page: Option<Page>,
) -> Result<Ask, Problem> {
    let source = match (&request.user_id, &request.history) {
        (Some(user), _) => Source::User(user.clone()),
        (None, history) => Source::Inline(history.clone().unwrap_or_default()),
    };
    Ok(Ask {
        source,
        dim,
        k,
        exclude: known_ids(view, &request.exclude),
        only: request.only.as_ref().map(|keys| known_ids(view, keys)),
        filter: request.filter.clone().map(|filter| filter.predicate(view)).transpose()?,
        include_seen: request.include_seen,
        diversity: request.diversity,
        explain: request.explain,
        page,
    })
}

/// A number that the schema forbids whatever is served.
pub(crate) fn out_of_range(request: &RecommendRequest) -> Option<String> {
    if request.k == Some(0) {
        return Some("k is 0; ask for 1 or more".into());
    }
    let good = (0.0..=1.0).contains(&request.diversity);
    (!good).then(|| format!("diversity is {}; send 0 to 1", request.diversity))
}

fn check(request: &RecommendRequest, serving: &Serving) -> Result<(), Problem> {
    let limits = &serving.limits;
    match (&request.user_id, &request.history) {
        (Some(user), None) => check_key("user_id", user, limits)?,
        (None, Some(history)) => check_list("history", history, limits.history, limits)?,
        (Some(_), Some(_)) => return Err(Problem::bad_request("user_id and history are both given; send one of them")),
        (None, None) => return Err(Problem::bad_request("neither user_id nor history is given; send one of them")),
    };
    // A k of 0 is refused by `check_k`, which knows the tier's largest.
    if let Some(wrong) = out_of_range(request).filter(|_| request.k != Some(0)) {
        return Err(Problem::bad_request(wrong));
    }
    check_list("exclude", &request.exclude, limits.exclude, limits)?;
    request.only.as_ref().map_or(Ok(()), |only| check_list("only", only, limits.exclude, limits))?;
    request.filter.as_ref().map_or(Ok(()), |filter| filter.check_values("filter", limits))
}

/// What all pages of a ranking ask alike; the history, which has a version of its own, is left out.
fn settled(request: &RecommendRequest) -> u64 {
    let settled =
        format!("{:?}", (request.include_seen, request.dim, &request.tier, &request.filter, request.only.is_some()));
    let lists = request.exclude.iter().chain(request.only.iter().flatten()).map(String::as_str);
    let count = request.exclude.len().to_string();
    fingerprint([settled.as_str(), request.user_id.as_deref().unwrap_or_default(), &count].into_iter().chain(lists))
}

/// Tells apart what user vectors of a dim are made by: the Bundle and how much of its blocks.
fn model(view: &View, choice: &Choice, dim: usize) -> u64 {
    fingerprint([view.bundle.id(), &format!("{:?}", choice.tier.cut_in(view, dim))])
}

/// The page that a cursor names, if it still can be had.
fn page(
    cursor: RankingCursor,
    request: &RecommendRequest,
    asked: u64,
    choice: &Choice,
    view: &View,
) -> Result<Page, Problem> {
    if request.diversity > 0.0 {
        return Err(Problem::bad_request("cursor and diversity are both given; leave one of them out"));
    }
    if cursor.asked != asked {
        return Err(Problem::bad_request("cursor is of another request; send everything but k as on the page before"));
    }
    let (dim, offset) = (cursor.dim as usize, cursor.offset as usize);
    if cursor.model != model(view, choice, dim) {
        return Err(expired("another bundle is served, or the tier another depth"));
    }
    if !view.dims().contains(&dim) || offset >= retrieval::MAX_K {
        return Err(Problem::bad_request("cursor is none that this call gave; leave it out"));
    }
    // A cursor is no secret and no key: it gives no larger dim than the request would get without it.
    if dim > choice.dim {
        return Err(expired("the request is of a tier with a smaller dim than the page before"));
    }
    Ok(Page { dim, offset, history: cursor.history })
}

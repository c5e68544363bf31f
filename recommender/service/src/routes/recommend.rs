//! `POST /v1/recommend`: the best next items for a user or an inline history. `/v1/recommend/batch`:
//! several of them in one call.

use crate::access::Caller;
use crate::compute::{Ask, Page, Source};
use crate::cursor::{RankingCursor, expired, fingerprint};
use crate::filter::ItemFilter;
use crate::json_body::JsonBody;
use crate::lookup::{RankedItem, check_k, check_key, check_list, known_ids, ranked_items};
use crate::metrics::Labels;
use crate::problem::{Problem, ProblemDocument};
use crate::recent::Asked;
use crate::request_id::RequestId;
use crate::serving::{Serving, admit, ranked};
use crate::tiers::{Choice, Wish};
use crate::view::View;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

/// Most items of a diverse answer: each is compared with four candidates for every item.
const MAX_DIVERSE_K: usize = 100;

/// Who is asking, for how many items, at which tier or dim. Exactly one of `user_id` and `history`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"history": ["1", "3114", "2355"], "k": 5, "tier": "premium"}))]
pub(crate) struct RecommendRequest {
    /// User key; a user without events is served from the learned start token.
    user_id: Option<String>,
    /// Item keys, oldest first; unknown keys are skipped and reported. An empty list is a new user.
    history: Option<Vec<String>>,
    /// Items to answer; the service's default if absent.
    #[schema(minimum = 1)]
    k: Option<usize>,
    /// Tier by name. Not together with `dim`.
    tier: Option<String>,
    /// A trained dim. Not together with `tier`.
    dim: Option<usize>,
    /// Item keys that must not be answered; unknown keys are ignored.
    #[serde(default)]
    exclude: Vec<String>,
    /// If there, only these item keys may be answered; unknown keys are ignored.
    only: Option<Vec<String>>,
    /// If there, only items whose attributes satisfy it may be answered; `/v1/bundle` lists the attributes.
    filter: Option<ItemFilter>,
    /// Whether items of the history may be answered again; by default they are left out.
    #[serde(default)]
    include_seen: bool,
    /// 0 (the default) for the best items, towards 1 for items unlike each other, at some cost of score.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1)]
    diversity: f32,
    /// Whether each item comes with the history items that pushed it, and by how much of its score. It
    /// costs a model step for each of the newest ten.
    #[serde(default)]
    explain: bool,
    /// `next` of the page before, with everything else as it was but `k`: gives the items that follow.
    /// Not together with `diversity`.
    cursor: Option<String>,
}

/// The items, best first, and how they were chosen.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct RecommendResponse<'a> {
    /// Best first; fewer than k only if the catalogue has no more that may be answered.
    items: Vec<RankedItem<'a>>,
    /// Dim that ranked them.
    dim: usize,
    /// Whether load made that dim smaller than the one chosen.
    degraded: bool,
    /// Tier that chose the dim; null if the request named a dim.
    tier: Option<&'a str>,
    /// Bundle that ranked them.
    bundle_id: &'a str,
    /// As in the `x-request-id` header.
    request_id: &'a str,
    /// Keys of the history that the Bundle does not know, each once.
    unknown_items: Vec<String>,
    /// Items of the history that were read: known ones, the newest that the model takes.
    history_len: usize,
    /// Send it as `cursor` for the items that follow; null where none do, after item 1000, and where
    /// they cannot be had page by page (`diversity`, a tier whose search may miss items). It is valid for
    /// as long as the Bundle and the history are what they were; then the answer is 410.
    next: Option<String>,
}

/// Several requests.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchRequest {
    /// Answered in this order.
    requests: Vec<RecommendRequest>,
}

/// One answer of a batch: what a single call would have answered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(crate) enum BatchAnswer<'a> {
    /// The items.
    Items(RecommendResponse<'a>),
    /// What was wrong with this one.
    Problem(ProblemDocument),
}

/// The answers, in the order of the requests.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BatchResponse<'a> {
    /// One a request.
    answers: Vec<BatchAnswer<'a>>,
    /// As in the `x-request-id` header.
    request_id: &'a str,
}

/// Recommend items.
#[utoipa::path(
    post, path = "/v1/recommend", tag = "recommend", request_body = RecommendRequest,
    params(
        ("x-api-key" = Option<String>, Header, description = "Who asks; chooses a tier if the body names neither tier nor dim"),
        ("x-request-id" = Option<String>, Header, description = "1 to 64 visible ASCII characters, echoed"),
    ),
    responses(
        (status = 200, description = "Ranked items", body = RecommendResponse),
        (status = 400, description = "A wrong field, tier, dim or k", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The API key lacks the scope", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 410, description = "The cursor is not valid any more: the Bundle or the history has changed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "Past the tier's rate; see Retry-After", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Overloaded past the smallest dim, or late; see Retry-After", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn recommend(
    serving: web::Data<Serving>,
    id: RequestId,
    http: HttpRequest,
    body: JsonBody<RecommendRequest>,
) -> Result<HttpResponse, Problem> {
    let view = serving.bundle.of_user(body.0.user_id.as_deref());
    let caller = http.extensions().get::<Caller>().copied().unwrap_or_default();
    let note = |labels: Labels| drop(http.extensions_mut().insert(labels));
    let found = one(&serving, &view, body.0, caller, http.headers(), &note).await?;
    Ok(HttpResponse::Ok().json(response(&view, &found.choice, found.ranked, found.next, &id)))
}

/// Recommend items for several users or histories.
#[utoipa::path(
    post, path = "/v1/recommend/batch", tag = "recommend", request_body = BatchRequest,
    params(("x-api-key" = Option<String>, Header, description = "Who asks; each request counts against the rate")),
    responses(
        (status = 200, description = "One answer or problem a request", body = BatchResponse),
        (status = 400, description = "No list of requests, or too many", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn recommend_batch(
    serving: web::Data<Serving>,
    id: RequestId,
    http: HttpRequest,
    body: JsonBody<BatchRequest>,
) -> Result<HttpResponse, Problem> {
    let (requests, most) = (body.0.requests, serving.limits.batch);
    if !(1..=most).contains(&requests.len()) {
        let count = requests.len();
        return Err(Problem::bad_request(format!("requests has {count} entries; send 1 to {most}")));
    }
    // What no tier and no Bundle would take refuses the whole call, as a wrong type does.
    if let Some((index, wrong)) = requests.iter().enumerate().find_map(|(at, one)| Some((at, out_of_range(one)?))) {
        return Err(Problem::bad_request(format!("requests[{index}].{wrong}")));
    }
    let views: Vec<_> = requests.iter().map(|request| serving.bundle.of_user(request.user_id.as_deref())).collect();
    let caller = http.extensions().get::<Caller>().copied().unwrap_or_default();
    let nowhere = |_: Labels| ();
    // All at once, so that the compute threads can take them as batches.
    let one = |(request, view)| one(&serving, view, request, caller, http.headers(), &nowhere);
    let found = futures::future::join_all(requests.into_iter().zip(&views).map(one)).await;
    // The tiers outlive the answers that borrow their names.
    let choices: Vec<Option<Choice>> =
        found.iter().map(|one| one.as_ref().ok().map(|found| found.choice.clone())).collect();
    let answers = found.into_iter().zip(&choices).zip(&views).map(|((one, choice), view)| match (one, choice) {
        (Ok(found), Some(choice)) => BatchAnswer::Items(response(view, choice, found.ranked, found.next, &id)),
        (Err(problem), _) => BatchAnswer::Problem(problem.with_request_id(&id.0).document()),
        (Ok(_), None) => unreachable!("every success has its choice"),
    });
    Ok(HttpResponse::Ok().json(BatchResponse { answers: answers.collect(), request_id: &id.0 }))
}

/// One request's answer.
struct Found {
    choice: Choice,
    ranked: crate::compute::Ranked,
    next: Option<String>,
}

/// Checks, admits and ranks one request; `note` is told tier and dim.
async fn one(
    serving: &Serving,
    view: &View,
    request: RecommendRequest,
    caller: Caller,
    headers: &HeaderMap,
    note: &dyn Fn(Labels),
) -> Result<Found, Problem> {
    check(&request, serving)?;
    let asked = asked(&request);
    let page = page(&request, asked, view)?;
    let wish = Wish { tier: request.tier.as_deref(), dim: request.dim, key: caller.0 };
    let choice = serving.tiers.current().choose(wish, headers, view.dims())?;
    note(Labels::of(&choice, choice.dim));
    let k = check_k(request.k, &serving.limits, &choice.tier)?;
    if request.diversity > 0.0 && k > MAX_DIVERSE_K {
        return Err(Problem::bad_request(format!("k is {k}; with diversity ask for 1 to {MAX_DIVERSE_K}")));
    }
    let k = page.map_or(k, |page| k.min(retrieval::MAX_K - page.offset));
    let pages = request.diversity == 0.0;
    admit(serving, &choice, caller.0)?;
    let source = match (request.user_id, request.history) {
        (Some(user), _) => Source::User(user),
        (None, history) => Source::Inline(history.unwrap_or_default()),
    };
    serving.recent.note(|| match &source {
        Source::User(user) => Asked::User(user.clone()),
        Source::Inline(keys) => Asked::Inline(keys.clone()),
        Source::Item(_) => unreachable!("made above from a user or a history"),
    });
    let ask = Ask {
        source,
        dim: choice.dim,
        k,
        exclude: known_ids(view, &request.exclude),
        only: request.only.map(|keys| known_ids(view, &keys)),
        filter: request.filter.map(|filter| filter.predicate(view)).transpose()?,
        include_seen: request.include_seen,
        diversity: request.diversity,
        explain: request.explain,
        page,
    };
    let found = ranked(serving, view, &choice, ask).await?;
    note(Labels::of(&choice, found.dim));
    serving.metrics.unknown_items.inc_by(found.unknown.len() as u64);
    let cursor = RankingCursor {
        bundle: fingerprint([view.bundle.id()]),
        asked,
        history: found.history,
        dim: found.dim as u32,
        offset: (page.map_or(0, |page| page.offset) + found.items.len()) as u32,
    };
    let more = pages && !found.approximate && found.items.len() == k && (cursor.offset as usize) < retrieval::MAX_K;
    Ok(Found { choice, ranked: found, next: more.then(|| cursor.encode()) })
}

/// What all pages of a ranking ask alike.
fn asked(request: &RecommendRequest) -> u64 {
    let settled =
        format!("{:?}", (request.include_seen, request.dim, &request.tier, &request.filter, request.only.is_some()));
    let lists = request.exclude.iter().chain(request.only.iter().flatten()).map(String::as_str);
    let count = request.exclude.len().to_string();
    fingerprint([settled.as_str(), request.user_id.as_deref().unwrap_or_default(), &count].into_iter().chain(lists))
}

/// The page that a cursor names, if it still can be had.
fn page(request: &RecommendRequest, asked: u64, view: &View) -> Result<Option<Page>, Problem> {
    let Some(text) = &request.cursor else { return Ok(None) };
    let cursor = RankingCursor::parse(text)?;
    if request.diversity > 0.0 {
        return Err(Problem::bad_request("cursor and diversity are both given; leave one of them out"));
    }
    if cursor.bundle != fingerprint([view.bundle.id()]) {
        return Err(expired("another bundle is served"));
    }
    if cursor.asked != asked {
        return Err(Problem::bad_request("cursor is of another request; send everything but k as on the page before"));
    }
    let (dim, offset) = (cursor.dim as usize, cursor.offset as usize);
    if !view.dims().contains(&dim) || offset >= retrieval::MAX_K {
        return Err(Problem::bad_request("cursor is none that this call gave; leave it out"));
    }
    Ok(Some(Page { dim, offset, history: cursor.history }))
}

/// A number that the schema forbids whatever is served.
fn out_of_range(request: &RecommendRequest) -> Option<String> {
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
    request.only.as_ref().map_or(Ok(()), |only| check_list("only", only, limits.exclude, limits))
}

fn response<'a>(
    view: &'a View,
    choice: &'a Choice,
    found: crate::compute::Ranked,
    next: Option<String>,
    id: &'a RequestId,
) -> RecommendResponse<'a> {
    RecommendResponse {
        items: ranked_items(view, &found),
        dim: found.dim,
        degraded: found.dim < choice.dim,
        tier: choice.by_tier.then_some(&*choice.tier.name),
        bundle_id: view.bundle.id(),
        request_id: &id.0,
        unknown_items: found.unknown,
        history_len: found.history_len,
        next,
    }
}

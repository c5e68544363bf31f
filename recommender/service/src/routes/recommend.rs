//! `POST /v1/recommend`: the best next items for a user or an inline history. `/v1/recommend/batch`:
//! several of them in one call. `/v1/tiers/{tier}/recommend`: at a tier that the path names.

use crate::access::Caller;
use crate::asking::{out_of_range, recommend_one};
use crate::compute::Ranked;
use crate::filter::ItemFilter;
use crate::json_body::JsonBody;
use crate::lookup::{RankedItem, ranked_items};
use crate::metrics::Labels;
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;
use crate::serving::Serving;
use crate::tiers::Choice;
use crate::view::View;
use actix_web::{HttpMessage, HttpRequest, HttpResponse, web};
use serde::{Deserialize, Serialize};

/// Who is asking, for how many items, at which tier or dim. Exactly one of `user_id` and `history`.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"history": ["1", "3114", "2355"], "k": 5, "tier": "premium"}))]
pub(crate) struct RecommendRequest {
    /// User key; a user without events is served from the learned start token.
    pub(crate) user_id: Option<String>,
    /// Item keys, oldest first; unknown keys are skipped and reported. An empty list is a new user.
    pub(crate) history: Option<Vec<String>>,
    /// Items to answer; the service's default if absent.
    #[schema(minimum = 1)]
    pub(crate) k: Option<usize>,
    /// Tier by name. Not together with `dim`.
    pub(crate) tier: Option<String>,
    /// A trained dim. Not together with `tier`.
    pub(crate) dim: Option<usize>,
    /// Item keys that must not be answered; unknown keys are ignored.
    #[serde(default)]
    pub(crate) exclude: Vec<String>,
    /// If there, only these item keys may be answered; unknown keys are ignored.
    pub(crate) only: Option<Vec<String>>,
    /// If there, only items whose attributes satisfy it may be answered; `/v1/bundle` lists the attributes.
    pub(crate) filter: Option<ItemFilter>,
    /// Whether items of the history may be answered again; by default they are left out.
    #[serde(default)]
    pub(crate) include_seen: bool,
    /// 0 (the default) for the best items, towards 1 for items unlike each other, at some cost of score.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1)]
    pub(crate) diversity: f32,
    /// Whether each item comes with the history items that pushed it, and by how much of its score; the newest ten
    /// are looked at. It costs another reading of the history and up to 54 model steps.
    #[serde(default)]
    pub(crate) explain: bool,
    /// `next` of the page before, with everything else as it was but `k`: gives the items that follow.
    /// Not together with `diversity`.
    pub(crate) cursor: Option<String>,
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
    /// as long as the Bundle, the history and the depth of the tier are what they were, and its dim is no smaller; then the answer is 410.
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
    params(("x-request-id" = Option<String>, Header, description = "1 to 64 visible ASCII characters, echoed")),
    responses(
        (status = 200, description = "Ranked items", body = RecommendResponse),
        (status = 400, description = "A wrong field, tier, dim or k", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The API key lacks the scope", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 410, description = "The cursor is not valid any more: the Bundle, the history or the tier has changed", body = ProblemDocument, content_type = "application/problem+json"),
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
    answer(&serving, &id, &http, body.0).await
}

/// Recommend items at a tier, for who gives each tier a route of its own: a proxy's limits, a client's base URL.
#[utoipa::path(
    post, path = "/v1/tiers/{tier}/recommend", tag = "recommend", request_body = RecommendRequest,
    params(("tier" = String, Path, description = "Tier by name; the body names neither tier nor dim")),
    responses(
        (status = 200, description = "Ranked items", body = RecommendResponse),
        (status = 400, description = "A wrong field or k, or a tier or dim in the body", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The API key lacks the scope, or has another tier alone", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 404, description = "There is no such tier", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 410, description = "The cursor is not valid any more: the Bundle, the history or the tier has changed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 429, description = "Past the tier's rate; see Retry-After", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Overloaded past the smallest dim, or late; see Retry-After", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn recommend_in_tier(
    serving: web::Data<Serving>,
    id: RequestId,
    http: HttpRequest,
    path: web::Path<String>,
    body: JsonBody<RecommendRequest>,
) -> Result<HttpResponse, Problem> {
    let (tier, mut request) = (path.into_inner(), body.0);
    if !serving.tiers.current().tiers().iter().any(|live| *live.name == *tier) {
        return Err(Problem::not_found("there is no tier of this name; GET /v1/bundle lists them"));
    }
    if request.tier.is_some() || request.dim.is_some() {
        return Err(Problem::bad_request("the path names the tier; leave tier and dim out of the body"));
    }
    request.tier = Some(tier);
    answer(&serving, &id, &http, request).await
}

async fn answer(
    serving: &web::Data<Serving>,
    id: &RequestId,
    http: &HttpRequest,
    request: RecommendRequest,
) -> Result<HttpResponse, Problem> {
    let view = serving.bundle.of_user(request.user_id.as_deref());
    let caller = http.extensions().get::<Caller>().copied().unwrap_or_default();
    let note = |labels: Labels| drop(http.extensions_mut().insert(labels));
    let found = recommend_one(serving, &view, request, caller, http.headers(), &note).await?;
    Ok(HttpResponse::Ok().json(response(&view, &found.choice, found.ranked, found.next, id)))
}

/// Recommend items for several users or histories; each counts against its tier's rate.
#[utoipa::path(
    post, path = "/v1/recommend/batch", tag = "recommend", request_body = BatchRequest,
    responses(
        (status = 200, description = "One answer or problem a request", body = BatchResponse),
        (status = 400, description = "No list of requests, or too many", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The API key lacks the scope", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Late; see Retry-After", body = ProblemDocument, content_type = "application/problem+json"),
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
    let one = |(request, view)| recommend_one(&serving, view, request, caller, http.headers(), &nowhere);
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

fn response<'a>(
    view: &'a View,
    choice: &'a Choice,
    found: Ranked,
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

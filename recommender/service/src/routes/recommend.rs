//! `POST /v1/recommend`: the best next items for a user or an inline history.

use crate::lookup::{RankedItem, Resolved, answer, check_k, check_key, check_list, resolve};
use crate::metrics::Labels;
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;
use crate::serving::{Serving, blocking};
use crate::tier::Choice;
use actix_web::{HttpMessage, HttpRequest, web};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

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
    /// Whether items of the history may be answered again; by default they are left out.
    #[serde(default)]
    include_seen: bool,
}

/// The items, best first, and how they were chosen.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct RecommendResponse {
    /// Best first; fewer than k only if the catalogue has no more that may be answered.
    items: Vec<RankedItem>,
    /// Dim that ranked them.
    dim: usize,
    /// Tier that chose the dim; null if the request named a dim.
    tier: Option<String>,
    /// Bundle that ranked them.
    bundle_id: String,
    /// As in the `x-request-id` header.
    request_id: String,
    /// Keys of the history that the Bundle does not know, each once.
    unknown_items: Vec<String>,
    /// Items of the history that were read: known ones, the newest that the model takes.
    history_len: usize,
}

/// Recommend items.
#[utoipa::path(
    post, path = "/v1/recommend", tag = "recommend", request_body = RecommendRequest,
    params(
        ("x-api-key" = Option<String>, Header, description = "Chooses a tier if the body names neither tier nor dim"),
        ("x-request-id" = Option<String>, Header, description = "1 to 64 visible ASCII characters, echoed"),
    ),
    responses(
        (status = 200, description = "Ranked items", body = RecommendResponse),
        (status = 400, description = "A wrong field, tier, dim or k", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Busy or late; try again", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn recommend(
    serving: web::Data<Serving>,
    id: RequestId,
    http: HttpRequest,
    body: web::Json<RecommendRequest>,
) -> Result<web::Json<RecommendResponse>, Problem> {
    let request = body.into_inner();
    let (source, k) = check(&request, &serving)?;
    let choice = serving.tiers.choose(request.tier.as_deref(), request.dim, http.headers())?;
    http.extensions_mut().insert(Labels::from(&choice));
    let work = move |serving: &Serving| rank(serving, source, k, choice, &request, id);
    blocking(&serving, work).await.map(web::Json)
}

/// Where the history comes from.
enum Source {
    User(String),
    Inline(Vec<String>),
}

fn check(request: &RecommendRequest, serving: &Serving) -> Result<(Source, usize), Problem> {
    let limits = &serving.limits;
    let source = match (&request.user_id, &request.history) {
        (Some(user), None) => {
            check_key("user_id", user, limits)?;
            Source::User(user.clone())
        }
        (None, Some(history)) => {
            check_list("history", history, limits.history, limits)?;
            Source::Inline(history.clone())
        }
        (Some(_), Some(_)) => return Err(Problem::bad_request("user_id and history are both given; send one of them")),
        (None, None) => return Err(Problem::bad_request("neither user_id nor history is given; send one of them")),
    };
    check_list("exclude", &request.exclude, limits.exclude, limits)?;
    Ok((source, check_k(request.k, limits)?))
}

/// Blocking: reads the state, runs the model, scans the table.
fn rank(
    serving: &Serving,
    source: Source,
    k: usize,
    choice: Choice,
    request: &RecommendRequest,
    id: RequestId,
) -> Result<RecommendResponse, Problem> {
    let bundle = &serving.bundle;
    let Resolved { ids, unknown } = match &source {
        Source::Inline(keys) => resolve(bundle.vocabulary(), keys.iter().map(String::as_str)),
        Source::User(user) => {
            let history = serving.store.history(user)?;
            resolve(bundle.vocabulary(), history.iter().map(|entry| entry.item_id.as_str()))
        }
    };
    let read = &ids[ids.len().saturating_sub(bundle.max_history())..];
    let query = bundle.user_vector(read, choice.dim)?;
    let excluded = request.exclude.iter().filter_map(|key| bundle.vocabulary().id(key));
    let seen = ids.iter().copied().filter(|_| !request.include_seen);
    let hidden: HashSet<u32> = excluded.chain(seen).collect();
    let ranked = serving.table.top_k(&query, k, &|item| !hidden.contains(&item))?;
    serving.metrics.unknown_items.inc_by(unknown.len() as u64);
    Ok(RecommendResponse {
        items: answer(bundle, ranked),
        dim: choice.dim,
        tier: choice.tier,
        bundle_id: bundle.id().to_string(),
        request_id: id.0,
        unknown_items: unknown,
        history_len: read.len(),
    })
}

//! `/admin/v1/bundle`: serving another Bundle without a restart, and going back.

use crate::json_body::JsonBody;
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;
use crate::serving::Serving;
use crate::swap::{self, SwapReport, SwapWish};
use actix_web::web;
use serde::{Deserialize, Serialize};

/// Which Bundle to serve.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadRequest {
    /// Name of a folder beside the configured one; the configured one itself, read anew, if absent.
    bundle: Option<String>,
    /// Refuse if, over the requests of late, the mean share of the first ten items that both Bundles
    /// answer is below this; 0 to 1.
    #[serde(default)]
    min_overlap: f64,
    /// Users in a thousand that get it. Below 1000 (the default) it is a trial: the same users get it at
    /// every request, and requests without a user id stay with the Bundle of now. Ended by a rollback, or
    /// by serving a Bundle to all.
    #[serde(default = "all")]
    #[schema(minimum = 1, maximum = 1000)]
    share_permille: u32,
    /// Whether it only ranks, unseen, what the Bundle of now answers to that share (1000: to all): how far
    /// they agree is in the metric `recommender_shadow_overlap`. Ended by a rollback.
    #[serde(default)]
    shadow: bool,
    /// Load and compare without switching.
    #[serde(default)]
    dry_run: bool,
}

fn all() -> u32 {
    swap::ALL
}

/// What is served and what could be gone back to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct BundlesResponse {
    /// Bundle that is served.
    bundle_id: String,
    /// Folder it came from.
    folder: String,
    /// Bundle that a rollback would serve; it is kept in memory.
    previous_bundle_id: Option<String>,
    /// Bundle on trial.
    trial_bundle_id: Option<String>,
    /// Users in a thousand that get it; 0 without a trial.
    trial_permille: u32,
    /// Whether it ranks unseen.
    trial_in_shadow: bool,
    /// Users whose vectors are kept.
    kept_users: usize,
    /// Bytes of them, about.
    kept_bytes: u64,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// Show which Bundles are in memory.
#[utoipa::path(
    get, path = "/admin/v1/bundle", tag = "admin",
    security(("api_key" = [])),
    responses(
        (status = 200, description = "The Bundles in memory", body = BundlesResponse),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope, or admin calls are off", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(serving: web::Data<Serving>, id: RequestId) -> web::Json<BundlesResponse> {
    web::Json(describe(&serving, id))
}

fn describe(serving: &Serving, id: RequestId) -> BundlesResponse {
    let (current, (kept_users, kept_bytes)) = (serving.bundle.current(), serving.store.cached());
    let trial = serving.bundle.trial();
    BundlesResponse {
        bundle_id: current.bundle.id().to_string(),
        folder: current.folder.display().to_string(),
        previous_bundle_id: serving.bundle.previous().map(|previous| previous.bundle.id().to_string()),
        trial_bundle_id: trial.as_ref().map(|trial| trial.served.bundle.id().to_string()),
        trial_permille: trial.as_ref().map_or(0, |trial| trial.permille),
        trial_in_shadow: trial.is_some_and(|trial| trial.shadow),
        kept_users,
        kept_bytes,
        request_id: id.0,
    }
}

/// Load a Bundle, verify it, compare it on requests of late, and serve it.
#[utoipa::path(
    post, path = "/admin/v1/bundle", tag = "admin", request_body = LoadRequest,
    security(("api_key" = [])),
    responses(
        (status = 200, description = "Loaded, and served unless it was a dry run", body = SwapReport),
        (status = 400, description = "A wrong field", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope, or admin calls are off", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "Another load is running", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 422, description = "The Bundle is refused; the old one keeps serving", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn load(
    serving: web::Data<Serving>,
    body: JsonBody<LoadRequest>,
) -> Result<web::Json<SwapReport>, Problem> {
    let LoadRequest { bundle: name, min_overlap, share_permille, shadow, dry_run } = body.0;
    if !(0.0..=1.0).contains(&min_overlap) {
        return Err(Problem::bad_request(format!("min_overlap is {min_overlap}; send 0 to 1")));
    }
    if !(1..=swap::ALL).contains(&share_permille) {
        return Err(Problem::bad_request(format!("share_permille is {share_permille}; send 1 to {}", swap::ALL)));
    }
    swap::load(serving, SwapWish { name, min_overlap, share_permille, shadow, dry_run }).await.map(web::Json)
}

/// End a trial; without one, serve the Bundle before this one again, once: a second call is refused.
#[utoipa::path(
    post, path = "/admin/v1/bundle/rollback", tag = "admin",
    security(("api_key" = [])),
    responses(
        (status = 200, description = "Switched back", body = BundlesResponse),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope, or admin calls are off", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "There is nothing to go back to", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn roll_back(
    serving: web::Data<Serving>,
    id: RequestId,
) -> Result<web::Json<BundlesResponse>, Problem> {
    swap::roll_back(serving.clone()).await?;
    Ok(web::Json(describe(&serving, id)))
}

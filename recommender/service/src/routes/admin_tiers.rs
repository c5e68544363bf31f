//! `/admin/v1/tiers`: the live tiers, and changing them without a restart.

use crate::access::Caller;
use crate::json_body::JsonBody;
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;
use crate::serving::{Serving, blocking};
use crate::tiers::{Change, TierConfig, validate_tiers};
use actix_web::{HttpMessage, HttpRequest, web};
use fmrlrec::Bundle;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Longest note, in bytes.
const MAX_NOTE_BYTES: usize = 500;

/// A new table of tiers.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TiersRequest {
    /// All tiers, in place of those of now.
    tiers: Vec<TierConfig>,
    /// Version that the change was made from; one that is not live any more is answered 409.
    version: u64,
    /// Why; kept in the history.
    #[serde(default)]
    note: String,
    /// Validate and say what would change, without changing it.
    #[serde(default)]
    dry_run: bool,
}

/// The tiers of now.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct TiersResponse {
    /// Goes up with every change.
    version: u64,
    /// As written down.
    tiers: Vec<TierConfig>,
    /// How each is doing.
    live: Vec<LiveTier>,
    /// The newest changes, newest first.
    history: Vec<Change>,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// A tier at work.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct LiveTier {
    name: String,
    /// Steps below the tier's own dim.
    level: usize,
    /// Dim that requests get now.
    dim_now: usize,
    /// Requests that wait for a compute thread.
    queued: usize,
}

/// What a change does, or would do.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct TiersChanged {
    /// Version that is live after the call.
    version: u64,
    /// Whether nothing was changed.
    dry_run: bool,
    /// Field by field.
    changes: Vec<String>,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// Show the live tiers and their history.
#[utoipa::path(
    get, path = "/admin/v1/tiers", tag = "admin",
    security(("api_key" = [])),
    responses(
        (status = 200, description = "The live tiers", body = TiersResponse),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope, or admin calls are off", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn show(serving: web::Data<Serving>, id: RequestId) -> web::Json<TiersResponse> {
    let (table, served) = (serving.tiers.current(), serving.bundle.current());
    let live = table.tiers().iter().map(|tier| LiveTier {
        name: tier.config.name.clone(),
        level: tier.level(),
        dim_now: tier.dim_now(served.bundle.dims(), tier.config.dim),
        queued: serving.queued(tier),
    });
    web::Json(TiersResponse {
        version: table.version,
        tiers: table.configs(),
        live: live.collect(),
        history: serving.tiers.history(),
        request_id: id.0,
    })
}

/// Change the tiers, at once and for every restart to come.
#[utoipa::path(
    put, path = "/admin/v1/tiers", tag = "admin", request_body = TiersRequest,
    security(("api_key" = [])),
    responses(
        (status = 200, description = "Changed, or what would change", body = TiersChanged),
        (status = 400, description = "A broken rule; nothing changed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope, or admin calls are off", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "Another change came first, or a Bundle is being loaded", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Busy or late; try again", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn change(
    serving: web::Data<Serving>,
    id: RequestId,
    http: HttpRequest,
    body: JsonBody<TiersRequest>,
) -> Result<web::Json<TiersChanged>, Problem> {
    let TiersRequest { tiers, version, note, dry_run } = body.0;
    if note.len() > MAX_NOTE_BYTES {
        return Err(Problem::bad_request(format!("note has {} bytes; at most {MAX_NOTE_BYTES}", note.len())));
    }
    // A Bundle on its way was checked against the tiers of now.
    let Ok(no_load) = Arc::clone(&serving.loading).try_lock_owned() else {
        return Err(Problem::conflict("another admin change is running; try again when it is done"));
    };
    let live = serving.tiers.current().version;
    if version != live {
        return Err(crate::ServiceError::Conflict { live }.into());
    }
    let changes = serving.tiers.plan(&tiers, &serving.bundle.current().bundle.shape())?;
    if let Some(trial) = serving.bundle.trial() {
        serving.tiers.plan(&tiers, &trial.served.bundle.shape())?;
    }
    let tiers = blocking(&serving, |serving| fit_after_restart(serving, tiers)).await?;
    if dry_run || changes.is_empty() {
        return Ok(web::Json(TiersChanged { version, dry_run, changes, request_id: id.0 }));
    }
    let caller = http.extensions().get::<Caller>().copied().unwrap_or_default();
    let by = serving.access.name(caller).to_string();
    let change =
        Change { version: version + 1, at_ms: (serving.clock)(), by: by.clone(), note, changes: changes.clone() };
    let logged = changes.clone();
    let version = blocking(&serving, move |serving| {
        // Until the change is done, also if the caller is gone by then.
        let _no_load = no_load;
        let version = serving.tiers.commit(tiers, change)?;
        serving.metrics.forget_tiers();
        // Here, not after the wait: a caller that is gone by then has changed them all the same.
        tracing::info!(by, version, changes = ?logged, "tiers changed");
        Ok(version)
    });
    let version = version.await?;
    Ok(web::Json(TiersChanged { version, dry_run, changes, request_id: id.0 }))
}

/// Gives the tiers back if a restart could serve them: it opens the Bundle of the config, whatever was swapped in since.
///
/// # Errors
/// 409 with the rule that they would break there.
fn fit_after_restart(serving: &Serving, tiers: Vec<TierConfig>) -> Result<Vec<TierConfig>, Problem> {
    let (configured, live) = (&serving.bundle_folder, serving.bundle.current());
    if live.folder == *configured {
        return Ok(tiers);
    }
    // One that cannot be opened keeps the service from starting, whatever the tiers are.
    let Ok(bundle) = Bundle::open(configured) else { return Ok(tiers) };
    validate_tiers(&tiers, &bundle.shape(), serving.limits.max_k).map_err(|error| {
        let (configured, live) = (configured.display(), live.folder.display());
        Problem::conflict(format!(
            "a restart serves the Bundle of the config, {configured}, which these tiers do not fit: {error}; set \
             bundle = {live} in the config and restart first"
        ))
    })?;
    Ok(tiers)
}

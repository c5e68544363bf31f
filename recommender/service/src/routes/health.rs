//! `/livez`: the process answers. `/readyz`: it can also serve.

use crate::checks::{Checks, STOPPING};
use crate::problem::{Problem, ProblemDocument};
use crate::serving::{Serving, blocking};
use crate::stream::StreamStatus;
use actix_web::{HttpRequest, web};
use serde::Serialize;

/// State of the process.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct LiveResponse {
    /// `live`.
    status: &'static str,
}

/// State of the service.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct ReadyResponse {
    /// `ready`.
    status: &'static str,
    /// Bundle that is served.
    bundle_id: String,
    /// Users with state.
    users: u64,
    /// With `?verbose`, of a service with a stream: how far behind its consumer is.
    #[serde(skip_serializing_if = "Option::is_none")]
    stream: Option<StreamStatus>,
    /// With `?verbose`: each part of the service by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Checks>,
}

/// Whether the process answers at all.
#[utoipa::path(
    get, path = "/livez", tag = "operations",
    responses((status = 200, description = "The process answers", body = LiveResponse))
)]
pub(crate) async fn live() -> web::Json<LiveResponse> {
    web::Json(LiveResponse { status: "live" })
}

/// Whether a Bundle is loaded, the state store can be read, and no stop was asked for. A stream that lags
/// does not make it unready, nor does a tier that is stepped down: recommendations go on.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    params(("verbose" = Option<String>, Query, description = "Also name each part of the service and how it is doing, and how far behind the stream is; any value")),
    responses(
        (status = 200, description = "Ready for traffic", body = ReadyResponse),
        (status = 503, description = "Not ready, or busy; with verbose `checks` says which part is failing", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn ready(
    serving: web::Data<Serving>,
    request: HttpRequest,
) -> Result<web::Json<ReadyResponse>, Problem> {
    let verbose = request.query_string().split('&').any(|part| part.split('=').next() == Some("verbose"));
    if serving.draining() && !verbose {
        // At once: a store that hangs must not hold up the word that turns a load balancer away.
        return Err(Problem::unavailable(STOPPING));
    }
    let users = |serving: &Serving| {
        serving.store.users().map_err(|error| {
            tracing::error!(%error, "the user state store cannot be read");
            Problem::unavailable("the user state store cannot be read; the service's log says why")
        })
    };
    let users = blocking(&serving, users).await.map_err(|problem| problem.detail);
    let stream = serving.stream.as_ref().filter(|_| verbose).map(|stream| stream.status());
    let checks = Checks::look(&serving, users, stream.as_ref());
    if let Some(why) = checks.failing() {
        let problem = Problem::unavailable(why);
        return Err(if verbose { problem.with_checks(checks) } else { problem });
    }
    Ok(web::Json(ReadyResponse {
        status: "ready",
        bundle_id: checks.bundle_id().to_owned(),
        // Not known is failing.
        users: checks.users().unwrap_or_default(),
        stream,
        checks: verbose.then_some(checks),
    }))
}

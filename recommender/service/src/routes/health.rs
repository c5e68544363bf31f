//! `/livez`: the process answers. `/readyz`: it can also serve.

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
/// does not make it unready: recommendations go on from the state as it is.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    params(("verbose" = Option<String>, Query, description = "Also say how far behind the stream is; any value")),
    responses(
        (status = 200, description = "Ready for traffic", body = ReadyResponse),
        (status = 503, description = "Not ready, or busy", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn ready(
    serving: web::Data<Serving>,
    request: HttpRequest,
) -> Result<web::Json<ReadyResponse>, Problem> {
    if serving.draining() {
        return Err(Problem::unavailable("the service is stopping; send requests to another one"));
    }
    let users = |serving: &Serving| {
        serving.store.users().map_err(|error| {
            tracing::error!(%error, "the user state store cannot be read");
            Problem::unavailable("the user state store cannot be read; the service's log says why")
        })
    };
    let users = blocking(&serving, users).await?;
    let verbose = request.query_string().split('&').any(|part| part.split('=').next() == Some("verbose"));
    let stream = serving.stream.as_ref().filter(|_| verbose).map(|stream| stream.status());
    let bundle_id = serving.bundle.current().bundle.id().to_string();
    Ok(web::Json(ReadyResponse { status: "ready", bundle_id, users, stream }))
}

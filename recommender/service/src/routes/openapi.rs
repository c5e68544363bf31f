//! `GET /openapi.json`: the document that Swagger UI shows.

use crate::serving::Serving;
use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, web};
use utoipa::OpenApi;

/// Every route that the service answers.
#[derive(OpenApi)]
#[openapi(
    info(title = "recommender", description = "Recommendations at a dim set per request. A tier is a dim as deployed."),
    paths(
        super::recommend::recommend,
        super::events::append,
        super::similar::similar,
        super::bundle::describe,
        super::health::live,
        super::health::ready,
        super::metrics::expose,
        document,
    ),
    tags(
        (name = "recommend", description = "Ranked items"),
        (name = "events", description = "User state"),
        (name = "operations", description = "Health, metrics, metadata"),
    )
)]
struct Document;

/// The OpenAPI document as JSON text.
///
/// # Errors
/// Only if the document cannot be written as JSON, which is a fault of this crate.
pub fn openapi_json() -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&Document::openapi())
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations",
    responses((status = 200, description = "OpenAPI document", body = Object, content_type = "application/json"))
)]
pub(crate) async fn document(serving: web::Data<Serving>) -> HttpResponse {
    HttpResponse::Ok().content_type(ContentType::json()).body(serving.openapi.clone())
}

//! `GET /openapi.json`: the document that Swagger UI shows.

use crate::access::API_KEY_HEADER;
use crate::serving::Serving;
use actix_web::http::header::ContentType;
use actix_web::{HttpResponse, web};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, SecurityScheme};
use utoipa::{Modify, OpenApi};

/// Every route that the service answers.
#[derive(OpenApi)]
#[openapi(
    info(title = "recommender", description = "Recommendations at a dim set per request. A tier is a dim as deployed."),
    paths(
        super::recommend::recommend,
        super::recommend::recommend_batch,
        super::recommend::recommend_in_tier,
        super::events::append,
        super::event_batch::append_batch,
        super::items::search,
        super::item::show,
        super::item::put,
        super::item::delete,
        super::similar::similar,
        super::bundle::describe,
        super::health::live,
        super::health::ready,
        super::metrics::expose,
        super::ui::page,
        super::admin_tiers::show,
        super::admin_tiers::change,
        super::admin_bundle::show,
        super::admin_bundle::load,
        super::admin_bundle::roll_back,
        document,
    ),
    tags(
        (name = "recommend", description = "Ranked items"),
        (name = "events", description = "User state"),
        (name = "items", description = "Items that came after training; need an API key with the scope items"),
        (name = "operations", description = "Health, metrics, metadata"),
        (name = "admin", description = "Live changes; need an API key with the scope admin"),
    ),
    modifiers(&ApiKeyHeader),
    security((), ("api_key" = []))
)]
struct Document;

/// How a key is sent, which the derive has no words for.
struct ApiKeyHeader;

impl Modify for ApiKeyHeader {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let description = "Who asks: where the service asks for keys, the key needs the scope of the call. It may choose \
                           the tier of a request that names neither tier nor dim.";
        let header = ApiKeyValue::with_description(API_KEY_HEADER.as_str(), description);
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("api_key", SecurityScheme::ApiKey(ApiKey::Header(header)));
    }
}

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

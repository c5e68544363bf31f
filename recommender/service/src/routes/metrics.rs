//! `GET /metrics`: Prometheus text.

use crate::problem::Problem;
use crate::serving::Serving;
use actix_web::{HttpResponse, web};

/// Media type of the text exposition format.
const EXPOSITION: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics for Prometheus.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "Text exposition format", body = String, content_type = "text/plain"))
)]
pub(crate) async fn expose(serving: web::Data<Serving>) -> Result<HttpResponse, Problem> {
    let mut text = serving.metrics.text().map_err(Problem::internal)?;
    if let Some(stream) = &serving.stream {
        text += &stream.exposition();
    }
    Ok(HttpResponse::Ok().content_type(EXPOSITION).body(text))
}

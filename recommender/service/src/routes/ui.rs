//! `GET /ui`: a page to look at recommendations at two dims side by side. One file without external
//! assets; what it shows comes from the public routes.

use actix_web::HttpResponse;
use actix_web::http::header;

const PAGE: &str = include_str!("ui.html");
/// The page runs its own inline script and talks to its own service only.
const POLICY: &str =
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:";

/// A page to try recommendations in a browser.
#[utoipa::path(
    get, path = "/ui", tag = "operations",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"))
)]
pub(crate) async fn page() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(PAGE)
}

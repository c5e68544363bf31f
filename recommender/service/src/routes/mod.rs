//! The routes: one file each, listed once here and once in the OpenAPI document.

mod admin_bundle;
mod admin_tiers;
mod bundle;
mod event_batch;
mod events;
mod health;
mod item;
mod items;
mod metrics;
mod openapi;
mod recommend;
mod similar;
mod ui;

pub use openapi::openapi_json;
pub(crate) use recommend::RecommendRequest;
pub(crate) use ui::wrong_picture_url;

use crate::problem::Problem;
use actix_web::http::Method;
use actix_web::{Resource, Route, web};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Adds every route to an app; anything else is a 404 problem, a wrong method a 405.
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    app.service(post("/v1/recommend", web::post().to(recommend::recommend)))
        .service(post("/v1/recommend/batch", web::post().to(recommend::recommend_batch)))
        .service(post("/v1/tiers/{tier}/recommend", web::post().to(recommend::recommend_in_tier)))
        .service(post("/v1/events", web::post().to(events::append)))
        .service(post("/v1/events/batch", web::post().to(event_batch::append_batch)))
        .service(get("/v1/items", || web::to(items::search)))
        .service(
            resource("/v1/items/{id}", "GET, PUT, DELETE")
                .route(web::get().to(item::show))
                .route(web::head().to(item::show))
                .route(web::put().to(item::put))
                .route(web::delete().to(item::delete)),
        )
        .service(get("/v1/items/{id}/similar", || web::to(similar::similar)))
        .service(get("/v1/bundle", || web::to(bundle::describe)))
        .service(
            resource("/admin/v1/tiers", "GET, PUT")
                .route(web::get().to(admin_tiers::show))
                .route(web::head().to(admin_tiers::show))
                .route(web::put().to(admin_tiers::change)),
        )
        .service(
            resource("/admin/v1/bundle", "GET, POST")
                .route(web::get().to(admin_bundle::show))
                .route(web::head().to(admin_bundle::show))
                .route(web::post().to(admin_bundle::load)),
        )
        .service(post("/admin/v1/bundle/rollback", web::post().to(admin_bundle::roll_back)))
        .service(get("/livez", || web::to(health::live)))
        .service(get("/readyz", || web::to(health::ready)))
        .service(get("/metrics", || web::to(metrics::expose)))
        .service(get("/openapi.json", || web::to(openapi::document)))
        .service(get("/ui", || web::to(ui::page)))
        // Relative links of the page need the slash.
        .service(web::redirect("/swagger-ui", "/swagger-ui/"))
        .service(SwaggerUi::new("/swagger-ui/{_:.*}").config(Config::new(["/openapi.json"])))
        .default_service(web::to(unknown_path));
}

/// A path that answers GET and, without the body, HEAD.
fn get(path: &str, handler: impl Fn() -> Route) -> Resource {
    resource(path, "GET").route(handler().method(Method::GET)).route(handler().method(Method::HEAD))
}

fn post(path: &str, route: Route) -> Resource {
    resource(path, "POST").route(route)
}

fn resource(path: &str, allow: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || async move { Err::<&str, _>(Problem::method(allow)) }))
}

async fn unknown_path() -> Result<&'static str, Problem> {
    Err(Problem::not_found("there is nothing at this path; GET /openapi.json lists every route"))
}

//! The routes: one file each, listed once here and once in the OpenAPI document.

mod bundle;
mod events;
mod health;
mod metrics;
mod openapi;
mod recommend;
mod similar;

pub use openapi::openapi_json;

use crate::problem::Problem;
use actix_web::{Resource, Route, web};
use utoipa_swagger_ui::{Config, SwaggerUi};

/// Adds every route to an app; anything else is a 404 problem, a wrong method a 405.
pub(crate) fn configure(app: &mut web::ServiceConfig) {
    app.service(resource("/v1/recommend", "POST", web::post().to(recommend::recommend)))
        .service(resource("/v1/events", "POST", web::post().to(events::append)))
        .service(resource("/v1/items/{id}/similar", "GET", web::get().to(similar::similar)))
        .service(resource("/v1/bundle", "GET", web::get().to(bundle::describe)))
        .service(resource("/livez", "GET", web::get().to(health::live)))
        .service(resource("/readyz", "GET", web::get().to(health::ready)))
        .service(resource("/metrics", "GET", web::get().to(metrics::expose)))
        .service(resource("/openapi.json", "GET", web::get().to(openapi::document)))
        // Relative links of the page need the slash.
        .service(web::redirect("/swagger-ui", "/swagger-ui/"))
        .service(SwaggerUi::new("/swagger-ui/{_:.*}").config(Config::new(["/openapi.json"])))
        .default_service(web::to(unknown_path));
}

fn resource(path: &str, allow: &'static str, route: Route) -> Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(move || async move { Err::<&str, _>(Problem::method(allow)) }))
}

async fn unknown_path() -> Result<&'static str, Problem> {
    Err(Problem::not_found("there is nothing at this path; GET /openapi.json lists every route"))
}

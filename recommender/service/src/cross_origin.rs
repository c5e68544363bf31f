//! Calls of the API from web pages of other origins: what `cors.rs` allows, done by actix-cors.
//!
//! It lies around everything else, so that a page can read refusals as well as answers, and so that a preflight,
//! which cannot carry an API key, needs none and counts against no rate. It lies around `/v1/` alone: whatever else is
//! asked for passes as if it were not there.

use crate::access::API_KEY_HEADER;
use crate::cors::{ANY, CorsConfig};
use crate::metrics::{Labels, Metrics};
use crate::problem::Problem;
use crate::request_id::{REQUEST_ID_HEADER, RequestId};
use crate::trace_context::TRACEPARENT;
use actix_cors::{Cors, CorsError, CorsMiddleware};
use actix_web::body::BoxBody;
use actix_web::dev::{Service, ServiceRequest, ServiceResponse, Transform};
use actix_web::http::{Method, header, header::HeaderValue};
use actix_web::{Error, ResponseError as _};
use futures::future::LocalBoxFuture;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Instant;

/// What pages of other origins may call lies under this path.
const API: &str = "/v1/";
/// Methods that the API answers.
const METHODS: [&str; 5] = ["GET", "HEAD", "POST", "PUT", "DELETE"];
/// What preflights are counted as, in place of a route.
const PREFLIGHT: &str = "preflight";

/// [`Cors`] around the API and nothing around the rest; without a config nothing at all.
pub(crate) struct CrossOrigin {
    rules: Option<Cors>,
    metrics: Metrics,
}

impl CrossOrigin {
    /// Takes a config that [`CorsConfig::validate`] accepted and a tier header that is a header's name.
    pub(crate) fn new(config: Option<&CorsConfig>, tier_header: &str, metrics: Metrics) -> CrossOrigin {
        CrossOrigin { rules: config.map(|config| rules(config, tier_header)), metrics }
    }
}

/// A call from an origin that is not listed is answered all the same, without the headers that would let the page
/// read it: `/ui` and clients that are no browsers send an origin too.
fn rules(config: &CorsConfig, tier_header: &str) -> Cors {
    let rules = Cors::default()
        .allowed_methods(METHODS)
        .allowed_headers([header::CONTENT_TYPE, API_KEY_HEADER, REQUEST_ID_HEADER, TRACEPARENT])
        .allowed_header(tier_header)
        .expose_headers([REQUEST_ID_HEADER, header::RETRY_AFTER])
        .max_age(config.max_age_s as usize);
    if config.origins == [ANY] {
        return rules.allow_any_origin().send_wildcard();
    }
    config.origins.iter().fold(rules, |rules, origin| rules.allowed_origin(origin))
}

impl<S> Transform<S, ServiceRequest> for CrossOrigin
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
    S::Future: 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Transform = CrossOriginService<S>;
    type InitError = ();
    type Future = LocalBoxFuture<'static, Result<Self::Transform, ()>>;

    fn new_transform(&self, service: S) -> Self::Future {
        let (service, metrics) = (Rc::new(service), self.metrics.clone());
        let api = self.rules.as_ref().map(|rules| rules.new_transform(Rc::clone(&service)));
        Box::pin(async move {
            let api = match api {
                Some(api) => Some(api.await?),
                None => None,
            };
            Ok(CrossOriginService { service, api, metrics })
        })
    }
}

/// What [`CrossOrigin`] makes of the service within it.
pub(crate) struct CrossOriginService<S> {
    service: Rc<S>,
    /// The same service with the rules around it.
    api: Option<CorsMiddleware<Rc<S>>>,
    metrics: Metrics,
}

impl<S> Service<ServiceRequest> for CrossOriginService<S>
where
    S: Service<ServiceRequest, Response = ServiceResponse<BoxBody>, Error = Error> + 'static,
    S::Future: 'static,
{
    type Response = ServiceResponse<BoxBody>;
    type Error = Error;
    type Future = LocalBoxFuture<'static, Result<ServiceResponse<BoxBody>, Error>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        S::poll_ready(&self.service, context)
    }

    fn call(&self, request: ServiceRequest) -> Self::Future {
        // As routes and scopes see the path: with percent-encoding undone.
        let of_api = request.match_info().as_str().starts_with(API);
        let Some(api) = self.api.as_ref().filter(|_| of_api) else {
            return Box::pin(S::call(&self.service, request));
        };
        if !is_preflight(&request) {
            let answer = api.call(request);
            return Box::pin(async move { Ok(answer.await?.map_into_boxed_body()) });
        }
        let (begun, id, metrics) = (Instant::now(), RequestId::from_headers(request.headers()), self.metrics.clone());
        let answer = api.call(request);
        Box::pin(async move {
            let answer = told(answer.await?.map_into_boxed_body(), &id);
            metrics.answered(Some(PREFLIGHT), answer.status(), &Labels::default(), begun.elapsed());
            Ok(answer)
        })
    }
}

/// Whether actix-cors answers it itself: OPTIONS that says which method is to come.
fn is_preflight(request: &ServiceRequest) -> bool {
    let to_come = request.headers().get(header::ACCESS_CONTROL_REQUEST_METHOD);
    request.method() == Method::OPTIONS && to_come.is_some_and(|value| Method::from_bytes(value.as_bytes()).is_ok())
}

/// A refused preflight becomes a problem document, as every other refusal is one.
fn told(answer: ServiceResponse<BoxBody>, id: &RequestId) -> ServiceResponse<BoxBody> {
    let refused = answer.response().error().and_then(|error| error.as_error::<CorsError>()).map(problem_of);
    let mut answer = match refused {
        None => answer,
        Some(problem) => {
            tracing::warn!(request_id = %id.0, detail = problem.detail, "a preflight was refused");
            answer.into_response(problem.with_request_id(&id.0).error_response())
        }
    };
    if let Ok(value) = HeaderValue::from_str(&id.0) {
        answer.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    answer
}

fn problem_of(refused: &CorsError) -> Problem {
    match refused {
        CorsError::OriginNotAllowed => Problem::forbidden(
            "pages of this origin may not call the API; the config lists those that may in cors.origins",
        ),
        CorsError::MethodNotAllowed => {
            Problem::forbidden(format!("the API does not answer this method; use one of {METHODS:?}"))
        }
        CorsError::HeadersNotAllowed => Problem::forbidden(
            "a page may not send one of these headers; send content-type, x-api-key, x-request-id, traceparent, or the \
             one that the config names in tier_header",
        ),
        refused => Problem::bad_request(format!("the preflight is wrong: {refused}")),
    }
}

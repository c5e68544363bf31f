//! What every request passes: request id, trace, API key, time limit, metrics, log line, the end of the
//! connection during a stop, and the promise that every error leaves as a problem document. Only preflights of other origins are answered before it (`cross_origin.rs`).

use crate::metrics::Labels;
use crate::problem::Problem;
use crate::request_id::{REQUEST_ID_HEADER, RequestId};
use crate::serving::Serving;
use crate::spans::RequestSpan;
use crate::trace_context::{TRACEPARENT, TraceContext};
use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, Method, StatusCode, header::HeaderValue};
use actix_web::middleware::Next;
use actix_web::{Error, HttpMessage, ResponseError, web};
use std::time::{Duration, Instant};
use tracing::Instrument as _;

/// Longest admin call: loading a large Bundle takes a while.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(600);

/// What is told of a request, whatever becomes of it.
struct Seen {
    id: RequestId,
    method: Method,
    /// As routes are matched with it: percent-encoding is undone, so that no spelling of a path goes around the scope
    /// that it needs.
    path: String,
    /// Pattern of the route, known before it is gone to: of a request that comes too late nothing else is left.
    route: Option<String>,
    begun: Instant,
}

impl Seen {
    fn of(request: &ServiceRequest) -> Seen {
        let path = request.match_info().as_str().to_owned();
        Seen {
            id: RequestId::from_headers(request.headers()),
            method: request.method().clone(),
            route: request.resource_map().match_pattern(&path),
            path,
            begun: Instant::now(),
        }
    }
}

/// Wraps every request.
pub(crate) async fn observe(
    serving: web::Data<Serving>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let seen = Seen::of(&request);
    request.extensions_mut().insert(seen.id.clone());
    let trace = TraceContext::from_headers(request.headers(), serving.spans.as_deref());
    // Everything that is logged while the request is handled names its trace and id.
    let span = tracing::info_span!("request", trace_id = trace.trace_id(), request_id = %seen.id.0);
    let sink = serving.spans.clone().filter(|_| trace.sampled());
    let answer = handled(serving.clone(), request, next, &seen).instrument(span).await;
    if let Some(sink) = sink {
        sink.put(request_span(&trace, &answer, seen));
    }
    // A client that keeps its connection would be told of the stop by nothing but its end.
    let closing = serving.draining();
    let mut answer = answer.map_err(|error| problem_of(&error).with_trace(&trace).closing(closing))?;
    if closing {
        answer.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    if let Ok(value) = HeaderValue::from_str(&trace.header()) {
        answer.headers_mut().insert(TRACEPARENT, value);
    }
    Ok(answer)
}

fn request_span(
    trace: &TraceContext,
    answer: &Result<ServiceResponse<BoxBody>, Error>,
    Seen { id, method, route, begun, .. }: Seen,
) -> RequestSpan {
    let (status, labels) = match answer {
        Ok(response) => {
            let labels = response.request().extensions().get::<Labels>().cloned();
            (response.status(), labels.unwrap_or_default())
        }
        Err(error) => (problem_of(error).status, Labels::default()),
    };
    let (trace_id, span_id, parent_id) = trace.ids();
    RequestSpan {
        trace_id,
        span_id,
        parent_id,
        method: method.to_string(),
        route,
        status: status.as_u16(),
        request_id: id.0,
        tier: labels.tier.as_deref().map(str::to_owned),
        dim: labels.dim,
        took: begun.elapsed(),
        phases: labels.moments.map_or_else(Vec::new, |moments| moments.phases(begun)),
    }
}

async fn handled(
    serving: web::Data<Serving>,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
    seen: &Seen,
) -> Result<ServiceResponse<BoxBody>, Error> {
    // Counts down when dropped, also when the client goes away in the middle.
    let _in_flight = InFlight::new(&serving);
    let caller = match serving.access.check(&seen.method, &seen.path, request.headers()) {
        Ok(caller) => caller,
        Err(problem) => return Err(failed(&serving, problem, seen)),
    };
    request.extensions_mut().insert(caller);
    let limit = if seen.path.starts_with("/admin/") { ADMIN_TIMEOUT } else { serving.request_timeout };
    let answer = tokio::time::timeout(limit, next.call(request)).await;
    let mut response = match answer {
        Ok(Ok(response)) => as_problem(response.map_into_boxed_body(), &seen.id),
        Ok(Err(error)) => return Err(failed(&serving, problem_of(&error), seen)),
        Err(_) => {
            let limit_s = limit.as_secs();
            let late = Problem::unavailable(format!(
                "the request was not answered within {limit_s} s; try again, or send the body faster"
            ));
            return Err(failed(&serving, late, seen));
        }
    };
    if let Ok(value) = HeaderValue::from_str(&seen.id.0) {
        response.headers_mut().insert(REQUEST_ID_HEADER, value);
    }
    let labels = response.request().extensions().get::<Labels>().cloned().unwrap_or_default();
    let (route, status, took) = (seen.route.as_deref(), response.status(), seen.begun.elapsed());
    serving.metrics.answered(route, status, &labels, took);
    let (status, took_us) = (status.as_u16(), took.as_micros() as u64);
    let tier = labels.tier.as_deref();
    tracing::debug!(request_id = %seen.id.0, route, status, tier, dim = labels.dim, took_us, "answered");
    Ok(response)
}

/// An error response becomes a problem document with the request's id.
fn as_problem(response: ServiceResponse<BoxBody>, id: &RequestId) -> ServiceResponse<BoxBody> {
    let status = response.status();
    if !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let problem = match response.response().error() {
        Some(error) => problem_of(error),
        None => Problem::new(status, status.canonical_reason().unwrap_or("error").to_lowercase()),
    };
    let (request, _) = response.into_parts();
    ServiceResponse::new(request, problem.with_request_id(&id.0).error_response())
}

fn problem_of(error: &Error) -> Problem {
    if let Some(problem) = error.as_error::<Problem>() {
        return problem.clone();
    }
    match error.as_response_error().status_code() {
        StatusCode::INTERNAL_SERVER_ERROR => Problem::internal(error),
        status => Problem::new(status, error.to_string()),
    }
}

/// There is no request left to make a response with: the error itself answers.
fn failed(serving: &Serving, problem: Problem, seen: &Seen) -> Error {
    let route = seen.route.as_deref();
    serving.metrics.answered(route, problem.status, &Labels::default(), seen.begun.elapsed());
    tracing::warn!(request_id = %seen.id.0, route, status = problem.status.as_u16(), detail = problem.detail, "not answered");
    problem.with_request_id(&seen.id.0).into()
}

struct InFlight(web::Data<Serving>);

impl InFlight {
    fn new(serving: &web::Data<Serving>) -> InFlight {
        serving.metrics.in_flight.inc();
        InFlight(serving.clone())
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.metrics.in_flight.dec();
    }
}

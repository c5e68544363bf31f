//! What a request got wrong, as a problem document (RFC 9457): one sentence that names the field and
//! the way out.

use crate::ServiceError;
use crate::added::AddedError;
use crate::checks::Checks;
use crate::request_id::REQUEST_ID_HEADER;
use crate::trace_context::{TRACEPARENT, TraceContext};
use actix_web::error::{PathError, QueryPayloadError};
use actix_web::http::{StatusCode, header};
use actix_web::{HttpResponse, ResponseError};
use feature_store::StoreError;
use fmrlrec::BundleError;
use retrieval::RetrievalError;
use std::time::Duration;

/// Media type of a problem document.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// Longest time that a refused client is told to wait.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);
/// When to try again after the server of user state did not answer.
const STORE_RETRY: Duration = Duration::from_secs(1);

/// A refused request or a failure while answering it.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    pub(crate) status: StatusCode,
    pub(crate) detail: String,
    /// Methods that would work, for 405.
    allow: Option<&'static str>,
    /// Seconds after which the request may be sent again.
    retry_after_s: Option<u64>,
    /// Known only to the middleware, which fills it in.
    request_id: Option<String>,
    /// As the request id.
    trace: Option<Box<TraceContext>>,
    /// Of a service that is not ready: each part by name.
    checks: Option<Box<Checks>>,
    /// Whether the connection ends with this answer.
    closing: bool,
}

/// The document as sent.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
#[schema(as = Problem, example = json!({
    "type": "about:blank", "title": "Bad Request", "status": 400,
    "detail": "dim 7 was not trained; use one of [8, 16, 32, 64, 128]", "request_id": "0198c0de"
}))]
pub(crate) struct ProblemDocument {
    /// `about:blank`: the status says the kind.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The status in words.
    title: String,
    /// The HTTP status.
    status: u16,
    /// What is wrong with this request and what would work.
    detail: String,
    /// As in the `x-request-id` header.
    request_id: String,
    /// As in the `retry-after` header, which one of a batch's answers has not: seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after_s: Option<u64>,
    /// Of `/readyz?verbose`: each part of the service by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    checks: Option<Box<Checks>>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Problem {
        Problem {
            status,
            detail: detail.into(),
            allow: None,
            retry_after_s: None,
            request_id: None,
            trace: None,
            checks: None,
            closing: false,
        }
    }

    /// 400.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::BAD_REQUEST, detail)
    }

    /// 404.
    pub(crate) fn not_found(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::NOT_FOUND, detail)
    }

    /// 405, naming the methods that work.
    pub(crate) fn method(allow: &'static str) -> Problem {
        let detail = format!("this path does not answer the method used; use {allow}");
        Problem { allow: Some(allow), ..Problem::new(StatusCode::METHOD_NOT_ALLOWED, detail) }
    }

    /// 401: a key is needed.
    pub(crate) fn unauthorized(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// 403: the key does not open this.
    pub(crate) fn forbidden(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::FORBIDDEN, detail)
    }

    /// 409: the state of now is in the way.
    pub(crate) fn conflict(detail: impl Into<String>) -> Problem {
        Problem::new(StatusCode::CONFLICT, detail)
    }

    /// 503: the client may try again after a second.
    pub(crate) fn unavailable(detail: impl Into<String>) -> Problem {
        Problem::overloaded(detail, Duration::ZERO)
    }

    /// 503 for as long as the queue needs.
    pub(crate) fn overloaded(detail: impl Into<String>, wait: Duration) -> Problem {
        Problem { retry_after_s: Some(retry_after_s(wait)), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
    }

    /// 429: the caller's rate has room again after `wait`.
    pub(crate) fn too_many(detail: impl Into<String>, wait: Duration) -> Problem {
        Problem { retry_after_s: Some(retry_after_s(wait)), ..Problem::new(StatusCode::TOO_MANY_REQUESTS, detail) }
    }

    /// 500: the cause goes to the log, not to the client.
    pub(crate) fn internal(cause: impl std::fmt::Display) -> Problem {
        tracing::error!(%cause, "a request failed inside the service");
        Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "the service failed on this request; its log has the cause under the request id",
        )
    }

    /// As sent.
    pub(crate) fn document(&self) -> ProblemDocument {
        ProblemDocument {
            kind: "about:blank",
            title: self.status.canonical_reason().unwrap_or("Error").to_string(),
            status: self.status.as_u16(),
            detail: self.detail.clone(),
            request_id: self.request_id.clone().unwrap_or_default(),
            retry_after_s: self.retry_after_s,
            checks: self.checks.clone(),
        }
    }

    pub(crate) fn with_trace(mut self, trace: &TraceContext) -> Problem {
        self.trace = Some(Box::new(*trace));
        self
    }

    pub(crate) fn closing(mut self, closing: bool) -> Problem {
        self.closing = closing;
        self
    }

    pub(crate) fn with_checks(mut self, checks: Checks) -> Problem {
        self.checks = Some(Box::new(checks));
        self
    }

    pub(crate) fn with_request_id(mut self, id: &str) -> Problem {
        self.request_id = Some(id.to_string());
        self
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponse::build(self.status);
        if let Some(allow) = self.allow {
            response.insert_header((header::ALLOW, allow));
        }
        if let Some(seconds) = self.retry_after_s {
            response.insert_header((header::RETRY_AFTER, seconds));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.insert_header((header::WWW_AUTHENTICATE, "ApiKey header=\"x-api-key\""));
        }
        if self.closing {
            response.force_close();
        }
        if let Some(trace) = &self.trace {
            response.insert_header((TRACEPARENT, trace.header()));
        }
        if let Some(id) = &self.request_id {
            response.insert_header((REQUEST_ID_HEADER, id.as_str()));
        }
        // `json` keeps a content type that is already set.
        response.insert_header((header::CONTENT_TYPE, PROBLEM_JSON)).json(self.document())
    }
}

/// Whole seconds, at least one: a client that tries again at once only adds to the load.
fn retry_after_s(wait: Duration) -> u64 {
    wait.min(MAX_RETRY_AFTER).as_millis().div_ceil(1_000).max(1) as u64
}

/// Configs sent by an admin call; everything else is the service's own failure.
impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Problem {
        match error {
            ServiceError::Config { .. } => Problem::bad_request(error.to_string()),
            ServiceError::Conflict { .. } => Problem::conflict(error.to_string()),
            failure => Problem::internal(failure),
        }
    }
}

impl Problem {
    /// An event that the store did not take: where the disk is full or failed, that is nothing the request can mend, and
    /// the same one may be stored later.
    pub(crate) fn unwritten(error: StoreError) -> Problem {
        match error {
            StoreError::Io { .. } | StoreError::State { .. } => {
                tracing::error!(%error, "events cannot be stored");
                Problem::overloaded("not stored: user state takes no writes", STORE_RETRY)
            }
            other => other.into(),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Problem {
        match error {
            StoreError::Invalid { .. } => Problem::bad_request(error.to_string()),
            error if error.passes() => {
                tracing::error!(%error, "user state cannot be read or written");
                Problem::overloaded("user state is not available", STORE_RETRY)
            }
            failure => Problem::internal(failure),
        }
    }
}

/// Nothing that a request can mend.
impl From<AddedError> for Problem {
    fn from(error: AddedError) -> Problem {
        match error {
            AddedError::Store(error) => error.into(),
            failure => Problem::internal(failure),
        }
    }
}

/// Handlers check dims and ids before they ask the Bundle, so what is left is our failure.
impl From<BundleError> for Problem {
    fn from(error: BundleError) -> Problem {
        Problem::internal(error)
    }
}

impl From<RetrievalError> for Problem {
    fn from(error: RetrievalError) -> Problem {
        match error {
            RetrievalError::Untrained { .. } | RetrievalError::K { .. } => Problem::bad_request(error.to_string()),
            RetrievalError::Column { .. } | RetrievalError::Predicate { .. } | RetrievalError::Bound { .. } => {
                Problem::bad_request(format!("filter: {error}"))
            }
            // What is left names no field of a request: vectors and sets that the service made itself.
            failure => Problem::internal(failure),
        }
    }
}

impl From<QueryPayloadError> for Problem {
    fn from(error: QueryPayloadError) -> Problem {
        let QueryPayloadError::Deserialize(reason) = error else { return Problem::bad_request(error.to_string()) };
        Problem::bad_request(format!("the query string is wrong: {reason}"))
    }
}

impl From<PathError> for Problem {
    fn from(error: PathError) -> Problem {
        let PathError::Deserialize(reason) = error else { return Problem::bad_request(error.to_string()) };
        Problem::bad_request(format!("the path is wrong: {reason}"))
    }
}

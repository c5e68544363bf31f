//! `POST /v1/events`: what a user did; the user's next recommendation reflects it.

use crate::json_body::JsonBody;
use crate::lookup::check_key;
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;
use crate::serving::{Serving, blocking};
use actix_web::web;
use feature_store::Event;
use serde::{Deserialize, Serialize};

/// One event.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user_id": "ada", "item_id": "1", "event_id": "9f1c"}))]
pub(crate) struct EventRequest {
    /// User key.
    user_id: String,
    /// Item key. It is stored even if the Bundle does not know it: the next Bundle may.
    item_id: String,
    /// Milliseconds since the Unix epoch; the service's clock if absent.
    #[schema(minimum = 0)]
    timestamp_ms: Option<i64>,
    /// Producer's id: a second event of the user with this id is dropped, so a retry is safe.
    event_id: Option<String>,
}

/// What became of the event. It is on disk when this arrives.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EventResponse {
    /// The event is in the user's history (or is older than a full history keeps).
    applied: bool,
    /// An event with this id was there already.
    duplicate: bool,
    /// Whether the Bundle knows the item; if not, the item does not move recommendations.
    known_item: bool,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// Append an event to a user's history.
#[utoipa::path(
    post, path = "/v1/events", tag = "events", request_body = EventRequest,
    responses(
        (status = 200, description = "Stored, or a duplicate", body = EventResponse),
        (status = 400, description = "A wrong field", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Busy or late; try again with the same event_id", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn append(
    serving: web::Data<Serving>,
    id: RequestId,
    body: JsonBody<EventRequest>,
) -> Result<web::Json<EventResponse>, Problem> {
    let EventRequest { user_id, item_id, timestamp_ms, event_id } = body.0;
    check_key("user_id", &user_id, &serving.limits)?;
    check_key("item_id", &item_id, &serving.limits)?;
    if let Some(event_id) = &event_id {
        check_key("event_id", event_id, &serving.limits)?;
    }
    let timestamp_ms = timestamp_ms.unwrap_or_else(|| (serving.clock)());
    let event = Event { user_id, item_id, timestamp_ms, event_id };
    blocking(&serving, move |serving| store(serving, event, id)).await.map(web::Json)
}

/// Blocking: one durable transaction.
fn store(serving: &Serving, event: Event, id: RequestId) -> Result<EventResponse, Problem> {
    let known_item = serving.bundle.view().id(&event.item_id).is_some();
    let done = serving.store.append(std::slice::from_ref(&event))?;
    let (applied, duplicate) = (done.applied > 0, done.duplicates > 0);
    let outcome = match (duplicate, known_item) {
        (true, _) => "duplicate",
        (false, true) => "applied",
        (false, false) => "applied_unknown_item",
    };
    serving.metrics.events.with_label_values(&[outcome]).inc();
    Ok(EventResponse { applied, duplicate, known_item, request_id: id.0 })
}

//! `POST /v1/events`: what a user did; the user's next recommendation reflects it.
//!
//! Without a stream the event is written to the state and is on disk when 200 arrives. With one
//! (`serve --stream`) it goes into the stream: 200 says that it is durable there and applied, 202 that it
//! is durable and the consumer has not come that far within the configured wait.

use crate::json_body::JsonBody;
use crate::lookup::check_key;
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;
use crate::serving::{Serving, blocking};
use crate::stream::{EventPlace, EventStream, PutError};
use actix_web::http::StatusCode;
use actix_web::{CustomizeResponder, Responder as _, web};
use feature_store::{Applied, Event, StreamEvent};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// When a client may send an event again that the stream did not take.
const STREAM_RETRY: Duration = Duration::from_secs(5);

/// One event.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"user_id": "ada", "item_id": "1", "event_id": "9f1c"}))]
pub(crate) struct EventRequest {
    /// User key.
    user_id: String,
    /// Item key. It is stored even if the Bundle does not know it: the next Bundle may.
    item_id: String,
    /// Milliseconds since the Unix epoch, at most a day ahead of the service's clock, which is taken if
    /// this is absent.
    #[schema(minimum = 0)]
    timestamp_ms: Option<i64>,
    /// Producer's id: a second event of the user with this id is dropped, so a retry is safe.
    event_id: Option<String>,
}

/// What became of the event. It is on disk, or acknowledged by the stream's broker, when this arrives.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EventResponse {
    /// This request put the event into the user's history (or it is older than a full history keeps): the next
    /// recommendation reflects it. Without a stream false for a duplicate, which is there already; with one false with 202: it will be.
    applied: bool,
    /// An event with this id was there already. Absent with a stream, whose consumer tells later.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    /// Whether the Bundle knows the item; if not, the item does not move recommendations.
    known_item: bool,
    /// With a stream: where the event lies in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    place: Option<EventPlace>,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// Append an event to a user's history.
#[utoipa::path(
    post, path = "/v1/events", tag = "events", request_body = EventRequest,
    responses(
        (status = 200, description = "Stored and applied, or a duplicate", body = EventResponse),
        (status = 202, description = "Durable in the stream; it will be applied", body = EventResponse),
        (status = 400, description = "A wrong field", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The API key lacks the scope", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "The stream carries another format; send events there", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Busy or late, or the stream's broker does not answer; try again with the same event_id", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn append(
    serving: web::Data<Serving>,
    id: RequestId,
    body: JsonBody<EventRequest>,
) -> Result<CustomizeResponder<web::Json<EventResponse>>, Problem> {
    let now_ms = (serving.clock)();
    let event = checked(&serving, "", body.0, now_ms)?;
    let response = match &serving.stream {
        Some(stream) => streamed(&serving, &**stream, event, id).await?,
        None => blocking(&serving, move |serving| store(serving, event, id)).await?,
    };
    let status =
        if response.applied || response.duplicate == Some(true) { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(web::Json(response).customize().with_status(status))
}

/// An event that neither the store nor a stream's consumer would refuse. `place` is where it stands in
/// the body, for errors.
pub(super) fn checked(serving: &Serving, place: &str, request: EventRequest, now_ms: i64) -> Result<Event, Problem> {
    let EventRequest { user_id, item_id, timestamp_ms, event_id } = request;
    let check = |field: &str, key: &str| check_key(&format!("{place}{field}"), key, &serving.limits);
    check("user_id", &user_id)?;
    check("item_id", &item_id)?;
    if let Some(event_id) = &event_id {
        check("event_id", event_id)?;
    }
    let event =
        StreamEvent::Interaction(Event { user_id, item_id, timestamp_ms: timestamp_ms.unwrap_or(now_ms), event_id });
    let valid = event.validate().and_then(|()| event.check_ahead(now_ms));
    valid.map_err(|error| Problem::bad_request(format!("{place}{error}")))?;
    match event {
        StreamEvent::Interaction(event) => Ok(event),
        _ => unreachable!("it was made as an interaction"),
    }
}

/// Into the stream, and a bounded wait until its consumer has applied it.
async fn streamed(
    serving: &Serving,
    stream: &dyn EventStream,
    event: Event,
    id: RequestId,
) -> Result<EventResponse, Problem> {
    let known_item = serving.bundle.view().id(&event.item_id).is_some();
    let places = stream.put(vec![event]).await.map_err(|error| {
        counted(serving, "refused_by_stream", 1);
        refused(error)
    })?;
    let applied = stream.applied(&places).await;
    let outcome = match (applied, known_item) {
        (false, _) => "streamed",
        (true, true) => "applied",
        (true, false) => "applied_unknown_item",
    };
    counted(serving, outcome, 1);
    Ok(EventResponse { applied, duplicate: None, known_item, place: places.first().copied(), request_id: id.0 })
}

pub(super) fn refused(error: PutError) -> Problem {
    match error {
        PutError::Busy(reason) => Problem::unavailable(format!("{reason}; try again after a second")),
        PutError::Unacknowledged(reason) => {
            let detail = format!("the stream did not acknowledge ({reason}); send the same again, event_id included");
            Problem::overloaded(detail, STREAM_RETRY)
        }
        PutError::Foreign(reason) => Problem::conflict(reason),
    }
}

/// Blocking: one durable transaction.
fn store(serving: &Serving, event: Event, id: RequestId) -> Result<EventResponse, Problem> {
    let known_item = serving.bundle.view().id(&event.item_id).is_some();
    let done = append_to_state(serving, std::slice::from_ref(&event))?;
    let (applied, duplicate) = (done.applied > 0, done.duplicates > 0);
    let outcome = match (duplicate, known_item) {
        (true, _) => "duplicate",
        (false, true) => "applied",
        (false, false) => "applied_unknown_item",
    };
    counted(serving, outcome, 1);
    Ok(EventResponse { applied, duplicate: Some(duplicate), known_item, place: None, request_id: id.0 })
}

/// Into the state; what it does not take is counted too.
pub(super) fn append_to_state(serving: &Serving, events: &[Event]) -> Result<Applied, Problem> {
    serving.store.append(events).map_err(|error| {
        counted(serving, "unwritten", events.len());
        Problem::unwritten(error)
    })
}

pub(super) fn counted(serving: &Serving, outcome: &str, events: usize) {
    serving.metrics.events.with_label_values(&[outcome]).inc_by(events as u64);
}

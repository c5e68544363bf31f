//! `POST /v1/events/batch`: several events, of any users, in order; all of them or none.
//!
//! They are checked before the first is stored, so a wrong one changes nothing. Without a stream they are one
//! durable transaction. A stream's broker may take some of a batch and then fail: with event ids the same batch
//! may be sent again, and what was taken is dropped as a duplicate.

use super::events::{EventRequest, append_to_state, checked, counted, refused};
use crate::json_body::JsonBody;
use crate::problem::{Problem, ProblemDocument};
use crate::request_id::RequestId;
use crate::serving::{Serving, blocking};
use crate::stream::EventPlace;
use actix_web::http::StatusCode;
use actix_web::{CustomizeResponder, Responder as _, web};
use feature_store::Event;
use serde::{Deserialize, Serialize};

/// Several events.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"events": [{"user_id": "ada", "item_id": "1"}, {"user_id": "bo", "item_id": "2"}]}))]
pub(crate) struct EventBatchRequest {
    /// From 1 to `limits.batch` of them; events of one user and time keep this order.
    #[schema(min_items = 1)]
    events: Vec<EventRequest>,
}

/// What became of the events. They are on disk, or acknowledged by the stream's broker, when this arrives.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EventBatchResponse {
    /// Events that are in a history now, or were there already. With a stream all of them or, with 202, none
    /// yet.
    applied: usize,
    /// Of these, events whose id was there already. Absent with a stream, whose consumer tells later.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicates: Option<usize>,
    /// Events whose item the Bundle does not know; they are stored and do not move recommendations.
    unknown_items: usize,
    /// With a stream: where each event lies in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    places: Option<Vec<EventPlace>>,
    /// As in the `x-request-id` header.
    request_id: String,
}

/// Append events to the histories of their users.
#[utoipa::path(
    post, path = "/v1/events/batch", tag = "events", request_body = EventBatchRequest,
    responses(
        (status = 200, description = "Stored and applied, or duplicates", body = EventBatchResponse),
        (status = 202, description = "Durable in the stream; they will be applied", body = EventBatchResponse),
        (status = 400, description = "A wrong field; nothing was stored", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 401, description = "A known API key is needed", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 403, description = "The API key lacks the scope", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 409, description = "The stream carries another format; send events there", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 413, description = "The body is too large", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 415, description = "The content type is not JSON", body = ProblemDocument, content_type = "application/problem+json"),
        (status = 503, description = "Busy or late, or the stream's broker does not answer; try again with the same event ids", body = ProblemDocument, content_type = "application/problem+json"),
    )
)]
pub(crate) async fn append_batch(
    serving: web::Data<Serving>,
    id: RequestId,
    body: JsonBody<EventBatchRequest>,
) -> Result<CustomizeResponder<web::Json<EventBatchResponse>>, Problem> {
    let (requests, most) = (body.0.events, serving.limits.batch);
    if !(1..=most).contains(&requests.len()) {
        return Err(Problem::bad_request(format!("events has {} entries; send 1 to {most}", requests.len())));
    }
    let now_ms = (serving.clock)();
    let numbered = requests.into_iter().enumerate();
    let events: Vec<Event> = numbered
        .map(|(at, request)| checked(&serving, &format!("events[{at}]."), request, now_ms))
        .collect::<Result<_, _>>()?;
    let response = match serving.stream.clone() {
        None => blocking(&serving, move |serving| store(serving, &events, id)).await?,
        Some(stream) => {
            let (count, unknown_items) = (events.len(), unknown(&serving, &events));
            let places = stream.put(events).await.map_err(|error| {
                counted(&serving, "refused_by_stream", count);
                refused(error)
            })?;
            let applied = if stream.applied(&places).await { count } else { 0 };
            counted(&serving, if applied > 0 { "applied" } else { "streamed" }, count - unknown_items);
            counted(&serving, if applied > 0 { "applied_unknown_item" } else { "streamed" }, unknown_items);
            EventBatchResponse { applied, duplicates: None, unknown_items, places: Some(places), request_id: id.0 }
        }
    };
    let status = if response.applied > 0 { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok(web::Json(response).customize().with_status(status))
}

/// Blocking: one durable transaction.
fn store(serving: &Serving, events: &[Event], id: RequestId) -> Result<EventBatchResponse, Problem> {
    let unknown_items = unknown(serving, events);
    let done = append_to_state(serving, events)?;
    // The store says how many were duplicates and not which: unknown items count among the applied first.
    let of_unknown = unknown_items.min(done.applied);
    counted(serving, "applied", done.applied - of_unknown);
    counted(serving, "applied_unknown_item", of_unknown);
    counted(serving, "duplicate", done.duplicates);
    let applied = done.applied + done.duplicates;
    let duplicates = Some(done.duplicates);
    Ok(EventBatchResponse { applied, duplicates, unknown_items, places: None, request_id: id.0 })
}

fn unknown(serving: &Serving, events: &[Event]) -> usize {
    let view = serving.bundle.view();
    events.iter().filter(|event| view.id(&event.item_id).is_none()).count()
}

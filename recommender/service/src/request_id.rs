//! The id of a request: the client's if it is sane, else a new one.

use actix_web::http::header::{HeaderMap, HeaderName};
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload};
use std::convert::Infallible;
use std::future::{Ready, ready};

/// Header that carries the id, in both directions.
pub(crate) const REQUEST_ID_HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longest id taken over from a client, in bytes: ids go into logs.
const MAX_REQUEST_ID_BYTES: usize = 64;

/// A request's id, 1 to 64 visible ASCII characters.
#[derive(Debug, Clone)]
pub(crate) struct RequestId(pub(crate) String);

impl RequestId {
    /// The client's id if it is 1 to 64 visible ASCII characters, else a new UUID v7.
    pub(crate) fn from_headers(headers: &HeaderMap) -> RequestId {
        let sane =
            |id: &&str| (1..=MAX_REQUEST_ID_BYTES).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic());
        let given = headers.get(REQUEST_ID_HEADER).and_then(|value| value.to_str().ok()).filter(sane);
        RequestId(given.map_or_else(|| uuid::Uuid::now_v7().to_string(), str::to_string))
    }
}

/// The id that the `observe` middleware put on the request.
impl FromRequest for RequestId {
    type Error = Infallible;
    type Future = Ready<Result<RequestId, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.extensions().get::<RequestId>().cloned();
        ready(Ok(id.unwrap_or_else(|| RequestId::from_headers(request.headers()))))
    }
}

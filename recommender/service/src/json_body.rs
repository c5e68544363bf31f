//! The body of a request as JSON, with an error that names the field: `exclude[2]: invalid type: ...`.

use crate::config::LimitsConfig;
use crate::problem::Problem;
use actix_web::http::{StatusCode, header};
use actix_web::{FromRequest, HttpMessage, HttpRequest, dev::Payload, web};
use futures::future::LocalBoxFuture;
use serde::de::DeserializeOwned;

/// A body of type `T`.
pub(crate) struct JsonBody<T>(pub(crate) T);

impl<T: DeserializeOwned + 'static> FromRequest for JsonBody<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<JsonBody<T>, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let head = check_head(request);
        let bytes = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            let limit = head?;
            let bytes = bytes.await.map_err(|error| unread(&error, limit))?;
            parse(&bytes).map(JsonBody)
        })
    }
}

/// The size limit, if type and length are right.
fn check_head(request: &HttpRequest) -> Result<usize, Problem> {
    if request.mime_type().ok().flatten().is_none_or(|mime| mime.essence_str() != "application/json") {
        return Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the content type is absent or not JSON; send content-type: application/json",
        ));
    }
    let limit = request.app_data::<LimitsConfig>().map_or(0, |limits| limits.body_bytes);
    let length: Option<usize> =
        request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    match length {
        Some(length) if length > limit => {
            let detail = format!("the body has {length} bytes; at most {limit} are accepted");
            Err(Problem::new(StatusCode::PAYLOAD_TOO_LARGE, detail))
        }
        _ => Ok(limit),
    }
}

fn unread(error: &actix_web::Error, limit: usize) -> Problem {
    match error.as_response_error().status_code() {
        StatusCode::PAYLOAD_TOO_LARGE => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("the body has more than {limit} bytes, which is the most accepted"),
        ),
        _ => Problem::bad_request(format!("the body could not be read: {error}")),
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let wrong = |at: &str, error: &serde_json::Error| {
        let place = if at.is_empty() || at == "." { String::new() } else { format!("{at}: ") };
        Problem::bad_request(format!("the body is not the JSON expected here: {place}{error}"))
    };
    let value =
        serde_path_to_error::deserialize(&mut json).map_err(|error| wrong(&error.path().to_string(), error.inner()))?;
    json.end().map_err(|error| wrong("", &error))?;
    Ok(value)
}

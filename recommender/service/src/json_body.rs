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
    // serde takes a list for an object, field by field in the order of the program.
    if bytes.trim_ascii_start().starts_with(b"[") {
        return Err(Problem::bad_request("the body is not the JSON expected here: it is a list; send an object"));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let wrong = |at: &str, error: &serde_json::Error| {
        let place = if at.is_empty() || at == "." { String::new() } else { format!("{at}: ") };
        Problem::bad_request(format!("the body is not the JSON expected here: {place}{}", in_json_words(error)))
    };
    let value =
        serde_path_to_error::deserialize(&mut json).map_err(|error| wrong(&error.path().to_string(), error.inner()))?;
    json.end().map_err(|error| wrong("", &error))?;
    Ok(value)
}

/// serde names what it expected by its type in Rust, which means nothing to who sent the body.
fn in_json_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    // The last one is serde's: what was found may quote the body.
    let Some((found, expected)) = text.rsplit_once(", expected ") else { return text };
    let (name, place) = expected.split_once(' ').unwrap_or((expected, ""));
    let (words, place) = match name {
        "usize" | "u64" => ("a whole number of at least 0", place),
        "u32" => ("a whole number from 0 to 4294967295", place),
        "i64" => ("a whole number", place),
        "f32" | "f64" => ("a number", place),
        // Its name follows.
        "struct" => ("an object", place.split_once(' ').map_or("", |(_, place)| place)),
        _ => return text,
    };
    format!("{found}, expected {words} {place}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[derive(Debug, serde::Deserialize)]
    struct Body {
        #[serde(default)]
        _count: Option<usize>,
        #[serde(default)]
        _share: u32,
        #[serde(default)]
        _time: i64,
        #[serde(default)]
        _weight: f32,
        #[serde(default)]
        _name: String,
    }

    #[test]
    fn what_was_expected_is_said_without_a_type_of_rust() {
        let check = |body: &str, expect: &str| {
            let detail = parse::<Body>(body.as_bytes()).unwrap_err().detail;
            assert!(detail.contains(expect), "{detail:?} lacks {expect:?}");
            let names = ["usize", "u32", "i64", "f32", "struct", "Body"];
            assert!(names.iter().all(|name| !detail.contains(name)), "{detail:?}");
        };
        check(
            r#"{"_count": -1}"#,
            "_count: invalid value: integer `-1`, expected a whole number of at least 0 at line 1",
        );
        check(
            r#"{"_share": 4294967296}"#,
            "_share: invalid value: integer `4294967296`, expected a whole number from 0",
        );
        check(r#"{"_time": "now"}"#, "_time: invalid type: string \"now\", expected a whole number at line 1 column");
        check(r#"{"_weight": [1]}"#, "_weight: invalid type: sequence, expected a number at line 1");
        check(r#"{"_name": 1}"#, "_name: invalid type: integer `1`, expected a string");
        check(r#"{"_time": ", expected u8 "}"#, "string \", expected u8 \", expected a whole number");
        check("3", "invalid type: integer `3`, expected an object at line 1 column 1");
        check("{", "EOF while parsing");
        check(" [1, 2, 3, 4.0, \"x\"]", "it is a list; send an object");
    }
}

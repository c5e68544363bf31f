//! `GET /ui`: a page to look at recommendations at two dims side by side. One file; what it shows comes from the
//! public routes, and pictures from where the config says that they are.

use crate::serving::Serving;
use actix_web::http::header;
use actix_web::{HttpResponse, web};

const PAGE: &str = include_str!("ui.html");
/// Where the page finds out about pictures.
const PICTURES: &str = "data-pictures=\"\"";
/// The page runs its own inline script and talks to its own service only; pictures may come from one more host.
const POLICY: &str =
    "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:";

/// A page to try recommendations in a browser.
#[utoipa::path(
    get, path = "/ui", tag = "operations",
    responses((status = 200, description = "The page", body = String, content_type = "text/html"))
)]
pub(crate) async fn page(serving: web::Data<Serving>) -> HttpResponse {
    let (page, policy) = with_pictures(&serving.picture_url);
    HttpResponse::Ok()
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, policy))
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(page)
}

/// The page and its policy, for pictures at a checked address; empty: none.
fn with_pictures(picture_url: &str) -> (String, String) {
    let quoted = picture_url.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;");
    let page = PAGE.replacen(PICTURES, &format!("data-pictures=\"{quoted}\""), 1);
    match origin(picture_url) {
        Some(origin) => (page, format!("{POLICY} {origin}")),
        None => (page, POLICY.to_owned()),
    }
}

/// Scheme, host and port of an address; none unless it is `http://` or `https://` and a host that a policy can name.
fn origin(url: &str) -> Option<&str> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    let good = matches!(scheme, "http" | "https") && !host.is_empty() && host.chars().all(plain);
    good.then(|| &url[..scheme.len() + 3 + host.len()])
}

/// What is wrong with an address of pictures, if something is.
pub(crate) fn wrong_picture_url(url: &str) -> Option<&'static str> {
    if url.is_empty() {
        return None;
    }
    if origin(url).is_none() {
        return Some("is not http:// or https:// and a host; write one such as https://cdn.shop/{item}.jpg, or \"\"");
    }
    (!url.contains("{item}")).then_some("has no {item}, where each item's key goes")
}

#[cfg(test)]
mod tests {
    use super::{with_pictures, wrong_picture_url};

    #[test]
    fn an_address_of_pictures_is_checked() {
        let check = |url: &str, part: Option<&str>| {
            let wrong = wrong_picture_url(url);
            assert_eq!(wrong.is_some(), part.is_some(), "{url}: {wrong:?}");
            assert!(wrong.zip(part).is_none_or(|(wrong, part)| wrong.contains(part)), "{url}: {wrong:?}");
        };
        check("", None);
        check("https://cdn.shop/{item}.jpg?w=80", None);
        check("http://[::1]:9000/{item}", None);
        check("https://cdn.shop/x.jpg", Some("{item}"));
        check("ftp://cdn.shop/{item}", Some("http://"));
        check("/pictures/{item}", Some("http://"));
        check("https://cdn; script-src *//{item}", Some("host"));
        check("https:///{item}", Some("host"));
    }

    #[test]
    fn the_policy_names_the_pictures_host_and_nothing_else() {
        let (page, policy) = with_pictures("https://cdn.shop/{item}.jpg?a=\"&b=<");
        assert!(policy.ends_with("img-src data: https://cdn.shop"), "{policy}");
        assert!(page.contains(r#"<body data-pictures="https://cdn.shop/{item}.jpg?a=&quot;&amp;b=&lt;">"#));
        let (page, policy) = with_pictures("");
        assert!(policy.ends_with("img-src data:") && page.contains(r#"<body data-pictures="">"#), "{policy}");
    }
}

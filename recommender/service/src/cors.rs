//! Web pages of other origins that may call the API from a browser (CORS), as the config lists them. `cross_origin.rs`
//! does what is written here.
//!
//! Origins are compared with what browsers send, byte for byte. So one that no browser would send is refused at
//! the start, rather than never matched.

use crate::ServiceError;
use crate::config::{at_most, broken};
use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

/// Stands for every origin there is.
pub(crate) const ANY: &str = "*";
/// Most origins.
const MAX_ORIGINS: usize = 100;
/// Longest time that a browser is told to keep a preflight's answer, in seconds: a day, more than which none does.
const MAX_AGE_S: u64 = 86_400;

/// Who may call from where. Without this table no page of another origin may.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CorsConfig {
    /// Origins as browsers send them, such as `https://shop.example`; `*` alone is every page there is.
    pub origins: Vec<String>,
    /// Seconds for which a browser may keep a preflight's answer; with 0 it asks before every call.
    pub max_age_s: u64,
}

impl CorsConfig {
    /// # Errors
    /// An origin that no browser sends, one that is listed twice or beside `*`, none or too many, or too long a time.
    pub(crate) fn validate(&self) -> Result<(), ServiceError> {
        at_most("cors.max_age_s", self.max_age_s, MAX_AGE_S)?;
        let refused = |reason: String| Err(broken("cors.origins", reason));
        match self.origins.len() {
            0 => return refused("none is listed; list one or more, or leave [cors] out".to_owned()),
            count if count > MAX_ORIGINS => {
                return refused(format!("{count} are listed; at most {MAX_ORIGINS} are accepted"));
            }
            1 if self.origins[0] == ANY => return Ok(()),
            _ => {}
        }
        let mut seen = BTreeSet::new();
        for origin in &self.origins {
            if let Some(wrong) = wrong_origin(origin) {
                return refused(format!("{origin:?} {wrong}"));
            }
            if !seen.insert(origin) {
                return refused(format!("{origin:?} is listed twice; list it once"));
            }
        }
        Ok(())
    }
}

/// What is wrong with an origin, if something is.
fn wrong_origin(origin: &str) -> Option<&'static str> {
    if origin == ANY {
        return Some("is every origin; list it alone, or leave it out");
    }
    let schemed = origin.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
    let Some((scheme, place)) = schemed else {
        return Some("does not begin with http:// or https://; write one such as \"https://shop.example\"");
    };
    if place.contains(['/', '?', '#']) {
        return Some("has more than a scheme, a host and a port; leave path and last slash out");
    }
    let (host, port) = host_and_port(place);
    if !is_host(host) {
        return Some("names no host as browsers send it; write a whole one, in lower case, without a wildcard");
    }
    match (scheme, port) {
        (_, None) => None,
        ("http", Some("80")) | ("https", Some("443")) => {
            Some("names the port that its scheme has anyway, which browsers leave out; leave it out too")
        }
        (_, Some(port)) => (!is_port(port)).then_some("names no port; write 1 to 65535, or leave it out"),
    }
}

/// The colons of an IPv6 address are in brackets.
fn host_and_port(place: &str) -> (&str, Option<&str>) {
    let after = place.rfind(']').unwrap_or(0);
    match place[after..].find(':') {
        Some(colon) => (&place[..after + colon], Some(&place[after + colon + 1..])),
        None => (place, None),
    }
}

fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        // Browsers send its shortest form, in hexadecimal digits throughout.
        return address.parse::<Ipv6Addr>().is_ok_and(|parsed| parsed.to_string() == address && !address.contains('.'));
    }
    if host.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        return host.parse::<Ipv4Addr>().is_ok();
    }
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
    (1..=253).contains(&host.len()) && host.bytes().all(plain)
}

fn is_port(port: &str) -> bool {
    port.parse::<u16>().is_ok_and(|number| number > 0 && number.to_string() == port)
}

#[cfg(test)]
mod tests {
    use super::wrong_origin;

    #[test]
    fn an_origin_is_what_a_browser_sends() {
        let check = |origin: &str, part: Option<&str>| {
            let wrong = wrong_origin(origin);
            assert_eq!(wrong.is_some(), part.is_some(), "{origin}: {wrong:?}");
            assert!(wrong.zip(part).is_none_or(|(wrong, part)| wrong.contains(part)), "{origin}: {wrong:?}");
        };
        for good in [
            "https://shop.example",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "http://[::1]:3000",
            "https://[2001:db8::1]",
            "https://xn--bcher-kva.example",
        ] {
            check(good, None);
        }
        check("*", Some("list it alone"));
        for no_scheme in ["", "null", "shop.example", "//shop.example", "htps://shop.example", "HTTPS://shop.example"] {
            check(no_scheme, Some("http:// or https://"));
        }
        for more in ["https://shop.example/", "https://shop.example/path", "https://shop.example?a", "https:///"] {
            check(more, Some("leave path and last slash out"));
        }
        for no_host in [
            "https://",
            "https://*.shop.example",
            "https://Shop.example",
            "https://bücher.example",
            "https://me@shop.example",
            "https://[::1",
            "https://[0:0::1]",
            "https://[::ffff:127.0.0.1]",
            "http://127.1",
            "https://:8080",
            "https://shop example",
        ] {
            check(no_host, Some("names no host"));
        }
        for no_port in
            ["https://shop.example:", "https://shop.example:0", "http://a:65536", "http://a:080", "http://a:b:1"]
        {
            check(no_port, Some("names no port"));
        }
        check("https://shop.example:443", Some("leave it out too"));
        check("http://shop.example:80", Some("leave it out too"));
        check("http://shop.example:443", None);
    }
}

//! Who may ask what: API keys with scopes, held as SHA-256 digests and compared in constant time.
//!
//! Without `access.required` a request without a known key is served as anybody, so that a first try
//! needs no key. Admin calls need a key with the scope `admin` in any case, and so do changes of items the
//! scope `items`: they change what everybody is recommended. It is a scope of its own, since who keeps the
//! catalogue has no business with Bundles and tiers.

use crate::ServiceError;
use crate::config::broken;
use crate::hex::bytes_of_hex;
use crate::problem::Problem;
use crate::tiers::is_tier_name;
use actix_web::http::Method;
use actix_web::http::header::{HeaderMap, HeaderName};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeSet;
use subtle::ConstantTimeEq as _;

/// Header with an API key.
pub(crate) const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// Most API keys: each request with a key is compared with all of them.
const MAX_KEYS: usize = 1_000;
/// SHA-256 of the keys whose values stand in the example config, for everybody to read.
const PUBLISHED: [&str; 2] = [
    "3d382ce783775aaedf0e106558e6e01fb781cccebb549e6950b789de8464564e",
    "806647bb62d32253b6797dad9d71d211d172005a6564317a920e9ba78322a338",
];
/// Bytes of a SHA-256 digest.
const DIGEST: usize = 32;

/// Who may ask.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessConfig {
    /// Whether a request needs a known key; if not, one without is served as anybody.
    pub required: bool,
    /// The keys.
    pub keys: Vec<KeyConfig>,
}

/// An API key. The key itself is nowhere in the config.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// Name in logs; who has the key.
    pub name: String,
    /// SHA-256 of the key as 64 hex digits: `printf %s KEY | sha256sum`.
    pub sha256: String,
    /// What the key opens.
    pub scopes: Vec<Scope>,
    /// Tier of its requests that name none; empty leaves it to the header and the default.
    pub tier: String,
    /// Whether its requests may name another tier, or a dim above their tier's; true if left out.
    #[serde(default = "yes")]
    pub may_choose: bool,
}

fn yes() -> bool {
    true
}

/// What a key says about tiers.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyTier {
    /// The tier; empty for none.
    pub(crate) tier: String,
    /// Whether requests may name another one.
    pub(crate) may_choose: bool,
}

/// A part of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Recommendations, similar items, the catalogue.
    Recommend,
    /// Writing events.
    Events,
    /// Adding and removing items.
    Items,
    /// `/admin/`.
    Admin,
}

impl Scope {
    /// The scope that a call needs; none for health, metrics and documents.
    pub(crate) fn of(method: &Method, path: &str) -> Option<Scope> {
        let changes = [Method::PUT, Method::DELETE].contains(method);
        match path {
            path if changes && is_item(path) => Some(Scope::Items),
            "/v1/events" | "/v1/events/batch" => Some(Scope::Events),
            "/v1/bundle" => None,
            path if path.starts_with("/v1/") => Some(Scope::Recommend),
            path if path.starts_with("/admin/") => Some(Scope::Admin),
            _ => None,
        }
    }

    /// As it is written in the config.
    fn name(self) -> &'static str {
        match self {
            Scope::Recommend => "recommend",
            Scope::Events => "events",
            Scope::Items => "items",
            Scope::Admin => "admin",
        }
    }

    /// What is off without a key that has this scope; none if anybody may ask.
    fn guarded(self) -> Option<&'static str> {
        match self {
            Scope::Admin => Some("admin calls"),
            Scope::Items => Some("item changes"),
            Scope::Recommend | Scope::Events => None,
        }
    }
}

/// Whether a path is that of one item, and not of something under it.
fn is_item(path: &str) -> bool {
    path.strip_prefix("/v1/items/").is_some_and(|rest| !rest.contains('/'))
}

/// The key of a request, by its index in the config; the `observe` middleware puts it there.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Caller(pub(crate) Option<usize>);

/// The keys, ready to be compared.
pub(crate) struct Access {
    required: bool,
    keys: Vec<([u8; DIGEST], KeyConfig)>,
}

impl AccessConfig {
    /// # Errors
    /// A digest that is none, a key or name listed twice, or a tier that does not exist.
    pub(crate) fn validate(&self, tiers: &[&str]) -> Result<(), ServiceError> {
        if self.keys.len() > MAX_KEYS {
            let count = self.keys.len();
            return Err(broken("access.keys", format!("{count} are listed; at most {MAX_KEYS} are accepted")));
        }
        let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
        for key in &self.keys {
            let name = key.name.as_str();
            if !is_tier_name(name) || !names.insert(name) {
                let reason = format!("{name:?} is used twice or is no name; use 1 to 64 of a-z, 0-9, - and _");
                return Err(broken("access.keys.name", reason));
            }
            let digest = digest_of_hex(&key.sha256).ok_or_else(|| {
                broken("access.keys.sha256", format!("that of key {name:?} is not 64 hex digits; use sha256sum"))
            })?;
            if !digests.insert(digest) {
                return Err(broken("access.keys.sha256", format!("that of key {name:?} is listed twice")));
            }
            if !key.tier.is_empty() && !tiers.contains(&key.tier.as_str()) {
                let reason = format!("{:?} of key {name:?} is no tier; use one of {tiers:?} or \"\"", key.tier);
                return Err(broken("access.keys.tier", reason));
            }
        }
        Ok(())
    }

    /// What is accepted and hardly meant.
    pub(crate) fn cautions(&self) -> Vec<String> {
        let mut cautions = Vec::new();
        if self.required && self.keys.is_empty() {
            cautions.push("access.required = true and no access.keys: nobody may ask anything".to_owned());
        }
        if let Some(key) = self.keys.iter().find(|key| !key.may_choose && !self.required) {
            cautions.push(format!(
                "key {:?} may not choose its tier, but with access.required = false whoever leaves the key out may",
                key.name
            ));
        }
        cautions
    }

    /// Name of a key that is no secret.
    pub(crate) fn published(&self) -> Option<&str> {
        let known = |key: &&KeyConfig| PUBLISHED.iter().any(|known| key.sha256.eq_ignore_ascii_case(known));
        self.keys.iter().find(known).map(|key| key.name.as_str())
    }
}

impl Access {
    /// Takes a config that [`AccessConfig::validate`] accepted.
    pub(crate) fn new(config: &AccessConfig) -> Access {
        let ready = |key: &KeyConfig| Some((digest_of_hex(&key.sha256)?, key.clone()));
        Access { required: config.required, keys: config.keys.iter().filter_map(ready).collect() }
    }

    /// Each key's tier, in order.
    pub(crate) fn tiers(&self) -> Vec<KeyTier> {
        let tier = |key: &KeyConfig| KeyTier { tier: key.tier.clone(), may_choose: key.may_choose };
        self.keys.iter().map(|(_, key)| tier(key)).collect()
    }

    /// Name of a caller, for logs.
    pub(crate) fn name(&self, caller: Caller) -> &str {
        caller.0.and_then(|index| self.keys.get(index)).map_or("anybody", |(_, key)| key.name.as_str())
    }

    /// Who asks, if they may.
    ///
    /// # Errors
    /// 401 for a key that is needed and absent or unknown, 403 for one without the scope.
    pub(crate) fn check(&self, method: &Method, path: &str, headers: &HeaderMap) -> Result<Caller, Problem> {
        let caller = Caller(self.key_of(headers));
        let Some(scope) = Scope::of(method, path) else { return Ok(caller) };
        let has = |key: &KeyConfig| key.scopes.contains(&scope);
        match (caller.0, scope.guarded()) {
            (Some(index), _) if has(&self.keys[index].1) => Ok(caller),
            (Some(_), _) => Err(Problem::forbidden(format!("the API key lacks the scope {}", scope.name()))),
            (None, Some(what)) if !self.keys.iter().any(|(_, key)| has(key)) => {
                let name = scope.name();
                Err(Problem::forbidden(format!("{what} are off: the config lists no key with the scope {name:?}")))
            }
            (None, guarded) if self.required || guarded.is_some() => {
                Err(Problem::unauthorized("send a known API key in the header x-api-key"))
            }
            (None, _) => Ok(caller),
        }
    }

    /// Compares with every key, whichever matches, so that time tells nothing.
    fn key_of(&self, headers: &HeaderMap) -> Option<usize> {
        let given: [u8; DIGEST] = Sha256::digest(headers.get(API_KEY_HEADER)?.as_bytes()).into();
        let mut found = None;
        for (index, (digest, _)) in self.keys.iter().enumerate() {
            if bool::from(digest.ct_eq(&given)) {
                found = Some(index);
            }
        }
        found
    }
}

fn digest_of_hex(hex: &str) -> Option<[u8; DIGEST]> {
    bytes_of_hex(hex)?.try_into().ok()
}

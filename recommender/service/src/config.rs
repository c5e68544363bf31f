//! The service's configuration: one TOML file in which every value is stated.
//!
//! `recommender/service/configs/serve.toml` is the commented example. A missing, unknown or mistyped
//! field is refused when the file is parsed; [`ServiceConfig::validate`] checks what types cannot say.

use crate::ServiceError;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// Most tiers a config may name: each is a label of every metric.
const MAX_TIERS: usize = 32;
/// Most API keys, and most header values, of one tier.
const MAX_KEYS_PER_TIER: usize = 1_000;
/// Largest request body that may be configured, in bytes.
const MAX_BODY_BYTES: usize = 16 << 20;
/// Longest inline history and exclude list that may be configured, in items.
const MAX_LIST: usize = 100_000;
/// Most threads of one kind.
const MAX_THREADS: usize = 1_024;
/// Most requests in work at once.
const MAX_IN_FLIGHT: usize = 100_000;
/// Most connections of a worker.
const MAX_CONNECTIONS: usize = 1_000_000;
/// Longest timeout, in seconds.
const MAX_TIMEOUT_S: u64 = 3_600;
/// Longest tier name, API key or header value, in bytes.
const MAX_NAME_BYTES: usize = 256;

/// What `serve` reads. Relative paths are for the caller to resolve.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Address and port to listen on, such as `127.0.0.1:8080`.
    pub bind: String,
    /// Folder of the Bundle to serve.
    pub bundle: PathBuf,
    /// User state.
    pub state: StateConfig,
    /// Threads, queues and timeouts.
    pub server: ServerConfig,
    /// Largest accepted requests.
    pub limits: LimitsConfig,
    /// Request header whose value may choose a tier, such as `x-tier`.
    pub tier_header: String,
    /// The tiers; exactly one is the default.
    pub tiers: Vec<TierConfig>,
}

/// Where histories are kept.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    /// The embedded store's file.
    pub path: PathBuf,
    /// Newest events kept for a user.
    pub max_history: usize,
}

/// Threads, queues and timeouts.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Threads that read and write HTTP.
    pub workers: usize,
    /// Threads of each worker that run the model, the top-k scan and the state store.
    pub blocking_threads: usize,
    /// Requests in model, scan or store at once over all workers; one more is answered 503.
    pub max_in_flight: usize,
    /// Open connections of each worker; one more waits to be accepted.
    pub max_connections: usize,
    /// Longest time from a request's head to its answer, in seconds; past it the answer is 503.
    pub request_timeout_s: u64,
    /// Longest time for running requests to finish after a stop signal, in seconds.
    pub shutdown_timeout_s: u64,
}

/// Largest accepted requests: each is answered with a 4xx problem when exceeded.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsConfig {
    /// Body of a request, in bytes.
    pub body_bytes: usize,
    /// Items of one answer, at most [`retrieval::MAX_K`].
    pub max_k: usize,
    /// Items of an answer to a request that states no `k`.
    pub default_k: usize,
    /// Items of an inline history.
    pub history: usize,
    /// Items of an exclude list.
    pub exclude: usize,
    /// A user, item or event key, in bytes; at most [`feature_store::MAX_KEY_BYTES`].
    pub key_bytes: usize,
}

/// A tier: a dim as deployed, and who gets it.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierConfig {
    /// Name in requests, answers and metrics.
    pub name: String,
    /// Nesting dim served: one that the Bundle was trained at.
    pub dim: usize,
    /// Whether requests that choose nothing get this tier.
    pub default: bool,
    /// Values of the `x-api-key` header that get this tier.
    pub api_keys: Vec<String>,
    /// Values of the header named by `tier_header` that get this tier.
    pub header_values: Vec<String>,
}

impl ServiceConfig {
    /// Checks ranges, the tier table, and the tiers' dims against the dims a Bundle was trained at.
    ///
    /// # Errors
    /// The first broken rule, as one sentence that names the field, its value and the way out.
    pub fn validate(&self, trained_dims: &[usize]) -> Result<(), ServiceError> {
        self.validate_sizes()?;
        if !is_header_name(&self.tier_header) {
            return Err(broken(
                "tier_header",
                format!("{:?} is no header name; use one such as \"x-tier\"", self.tier_header),
            ));
        }
        self.validate_tiers(trained_dims)
    }

    fn validate_sizes(&self) -> Result<(), ServiceError> {
        let (server, limits) = (&self.server, &self.limits);
        let sizes = [
            ("state.max_history", self.state.max_history, 10_000),
            ("server.workers", server.workers, MAX_THREADS),
            ("server.blocking_threads", server.blocking_threads, MAX_THREADS),
            ("server.max_in_flight", server.max_in_flight, MAX_IN_FLIGHT),
            ("server.max_connections", server.max_connections, MAX_CONNECTIONS),
            ("limits.body_bytes", limits.body_bytes, MAX_BODY_BYTES),
            ("limits.max_k", limits.max_k, retrieval::MAX_K),
            ("limits.default_k", limits.default_k, limits.max_k),
            ("limits.history", limits.history, MAX_LIST),
            ("limits.exclude", limits.exclude, MAX_LIST),
            ("limits.key_bytes", limits.key_bytes, feature_store::MAX_KEY_BYTES),
        ];
        for (field, value, most) in sizes {
            in_range(field, value as u64, most as u64)?;
        }
        in_range("server.request_timeout_s", server.request_timeout_s, MAX_TIMEOUT_S)?;
        in_range("server.shutdown_timeout_s", server.shutdown_timeout_s, MAX_TIMEOUT_S)
    }

    fn validate_tiers(&self, trained_dims: &[usize]) -> Result<(), ServiceError> {
        in_range("the number of tiers", self.tiers.len() as u64, MAX_TIERS as u64)?;
        let defaults: Vec<&str> = self.tiers.iter().filter(|t| t.default).map(|t| t.name.as_str()).collect();
        if defaults.len() != 1 {
            let found = if defaults.is_empty() { "no tier".to_string() } else { defaults.join(" and ") };
            return Err(broken("tiers", format!("default = true is on {found}; mark exactly one tier as the default")));
        }
        let (mut names, mut keys, mut values) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for tier in &self.tiers {
            let name = tier.name.as_str();
            if !is_tier_name(name) {
                return Err(broken(
                    "tiers.name",
                    format!("{name:?} is no tier name; use 1 to 64 of a-z, 0-9, - and _"),
                ));
            }
            if !names.insert(name) {
                return Err(broken("tiers.name", format!("{name:?} is used by two tiers; give each its own name")));
            }
            if !trained_dims.contains(&tier.dim) {
                let dim = tier.dim;
                let reason = format!(
                    "tier {name:?} asks for dim {dim}, which the Bundle was not trained at; use one of {trained_dims:?}"
                );
                return Err(broken("tiers.dim", reason));
            }
            unique_values("tiers.api_keys", name, &tier.api_keys, &mut keys)?;
            unique_values("tiers.header_values", name, &tier.header_values, &mut values)?;
        }
        Ok(())
    }
}

fn unique_values<'a>(
    field: &'static str,
    tier: &str,
    values: &'a [String],
    seen: &mut BTreeSet<&'a str>,
) -> Result<(), ServiceError> {
    if values.len() > MAX_KEYS_PER_TIER {
        return Err(broken(
            field,
            format!("tier {tier:?} lists {}; at most {MAX_KEYS_PER_TIER} are accepted", values.len()),
        ));
    }
    for (index, value) in values.iter().enumerate() {
        // A key is a secret: the message gives its place, not its text.
        let place = index + 1;
        if value.is_empty() || value.len() > MAX_NAME_BYTES || !value.bytes().all(|b| b.is_ascii_graphic()) {
            let reason = format!(
                "value {place} of tier {tier:?} is not 1 to {MAX_NAME_BYTES} visible ASCII characters, as a header needs"
            );
            return Err(broken(field, reason));
        }
        if !seen.insert(value) {
            return Err(broken(
                field,
                format!("value {place} of tier {tier:?} is already listed; list each value once over all tiers"),
            ));
        }
    }
    Ok(())
}

fn in_range(field: &'static str, value: u64, most: u64) -> Result<(), ServiceError> {
    if (1..=most).contains(&value) { Ok(()) } else { Err(broken(field, format!("{value} is not in 1..={most}"))) }
}

fn is_tier_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

fn is_header_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn broken(field: &'static str, reason: String) -> ServiceError {
    ServiceError::Config { field, reason }
}

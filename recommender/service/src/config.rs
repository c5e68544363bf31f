//! The service's configuration: one TOML file in which every value is stated.
//!
//! `recommender/service/configs/serve.toml` is the commented example. A missing, unknown or mistyped
//! field is refused when the file is parsed; [`ServiceConfig::validate`] checks what types cannot say.

use crate::ServiceError;
use crate::access::AccessConfig;
use crate::cors::CorsConfig;
use crate::routes::wrong_picture_url;
use crate::tiers::{TierConfig, kept_tiers, validate_tiers};
use crate::tls::TlsConfig;
use feature_store::StateLocation;
use fmrlrec::BundleShape;
use std::net::SocketAddr;
use std::path::PathBuf;

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
/// Most requests of a batch on the compute threads.
const MAX_BATCH: usize = 1_024;
/// Longest time that a batch is held open, in microseconds.
const MAX_WAIT_US: u64 = 100_000;
/// Largest cache of user vectors, in MiB.
const MAX_CACHE_MIB: usize = 1 << 20;
/// Most items that came after training.
const MAX_ADDED: u64 = 100_000;
/// Most requests or events of one batch call.
const MAX_REQUESTS: usize = 1_000;

/// What `serve` reads. Relative paths are for the caller to resolve.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceConfig {
    /// Address and port to listen on, such as `127.0.0.1:8080`.
    pub bind: String,
    /// TLS on that port; without it requests and answers are plain text.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// Web pages of other origins that may call `/v1/`; without it none may.
    #[serde(default)]
    pub cors: Option<CorsConfig>,
    /// Folder of the Bundle to serve.
    pub bundle: PathBuf,
    /// User state.
    pub state: StateConfig,
    /// Threads, queues and timeouts.
    pub server: ServerConfig,
    /// Largest accepted requests.
    pub limits: LimitsConfig,
    /// API keys and their scopes.
    pub access: AccessConfig,
    /// The page at `/ui`.
    pub ui: UiConfig,
    /// File that keeps live changes of the tiers; while it exists it wins over `tiers`.
    pub tiers_file: PathBuf,
    /// Request header whose value may choose a tier, such as `x-tier`.
    pub tier_header: String,
    /// The tiers of the first start; exactly one is the default.
    pub tiers: Vec<TierConfig>,
}

/// The page at `/ui`.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UiConfig {
    /// Where a browser finds an item's picture: a URL with `{item}` for the item's key. Empty: tiles are drawn.
    pub picture_url: String,
}

/// Where histories are kept.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateConfig {
    /// A folder, or the URL of a Redis or Valkey server.
    pub path: StateLocation,
    /// Newest events kept for a user.
    pub max_history: usize,
    /// Bound of the cache of user vectors, in MiB.
    pub cache_mib: usize,
}

/// Threads, queues and timeouts.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Threads that read and write HTTP.
    pub workers: usize,
    /// Threads of each worker for what may take a while: events, readiness, item changes, catalogue searches, admin calls.
    pub blocking_threads: usize,
    /// Requests on those threads at once over all workers, catalogue searches not counted; one more is answered 503.
    pub max_in_flight: usize,
    /// Threads that run the model and the search, for all workers.
    pub compute_threads: usize,
    /// Requests of a tier that wait for a compute thread, at a share of 1000; other tiers in proportion.
    pub max_queue: usize,
    /// Most requests that a compute thread takes at once.
    pub max_batch: usize,
    /// Longest time that a request waits for others to share its batch, in microseconds; 0 is none.
    pub max_wait_us: u64,
    /// Open connections of each worker; one more waits to be accepted.
    pub max_connections: usize,
    /// Longest time from a request's head to its answer, in seconds; past it the answer is 503.
    pub request_timeout_s: u64,
    /// Time between a stop signal and the closing of the port, in seconds: `/readyz` already says no,
    /// so that a load balancer turns away first. 0 closes at once.
    pub drain_delay_s: u64,
    /// Longest time for running requests to finish after that, in seconds.
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
    /// Items of an exclude list, and of an only list.
    pub exclude: usize,
    /// Requests or events of one batch call.
    pub batch: usize,
    /// Items that came after training, served from their features; 0 takes none in. Each costs twice the
    /// bytes of an item vector.
    pub added_items: usize,
    /// A user, item or event key, and a text of a filter, in bytes; at most [`feature_store::MAX_KEY_BYTES`].
    pub key_bytes: usize,
}

impl ServiceConfig {
    /// Checks ranges, and the tier table against what a Bundle was trained at: that of `tiers_file` if the
    /// file is there, which wins.
    ///
    /// # Errors
    /// The first broken rule, as one sentence that names the field, its value and the way out.
    pub fn validate(&self, trained: &BundleShape) -> Result<(), ServiceError> {
        self.validate_sizes()?;
        if !is_header_name(&self.tier_header) {
            return Err(broken(
                "tier_header",
                format!("{:?} is no header name; use one such as \"x-tier\"", self.tier_header),
            ));
        }
        if self.bind.rsplit_once(':').is_none_or(|(_, port)| port.parse::<u16>().is_err()) {
            return Err(broken(
                "bind",
                format!("{:?} is no address with a port up to 65535; use one such as \"127.0.0.1:8080\"", self.bind),
            ));
        }
        if let Some(name) = self.access.published().filter(|_| !is_loopback(&self.bind)) {
            let reason = format!(
                "{name:?} is a key of the example config, which everybody knows, and bind = {:?} lets other machines \
                 ask; make a key of your own",
                self.bind
            );
            return Err(broken("access.keys", reason));
        }
        self.cors.as_ref().map_or(Ok(()), CorsConfig::validate)?;
        if let Some(wrong) = wrong_picture_url(&self.ui.picture_url) {
            return Err(broken("ui.picture_url", format!("{:?} {wrong}", self.ui.picture_url)));
        }
        let kept = kept_tiers(&self.tiers_file)?;
        let tiers = kept.as_deref().unwrap_or(&self.tiers);
        validate_tiers(tiers, trained, self.limits.max_k).map_err(|error| match kept {
            Some(_) => ServiceError::Journal { path: self.tiers_file.clone(), reason: error.to_string() },
            None => error,
        })?;
        self.access.validate(&tiers.iter().map(|tier| tier.name.as_str()).collect::<Vec<_>>())
    }

    fn validate_sizes(&self) -> Result<(), ServiceError> {
        let (server, limits) = (&self.server, &self.limits);
        let sizes = [
            ("state.max_history", self.state.max_history, 10_000),
            ("server.workers", server.workers, MAX_THREADS),
            ("server.blocking_threads", server.blocking_threads, MAX_THREADS),
            ("server.max_in_flight", server.max_in_flight, MAX_IN_FLIGHT),
            ("state.cache_mib", self.state.cache_mib, MAX_CACHE_MIB),
            ("server.compute_threads", server.compute_threads, MAX_THREADS),
            ("server.max_queue", server.max_queue, MAX_IN_FLIGHT),
            ("server.max_batch", server.max_batch, MAX_BATCH),
            ("server.max_connections", server.max_connections, MAX_CONNECTIONS),
            ("limits.body_bytes", limits.body_bytes, MAX_BODY_BYTES),
            ("limits.max_k", limits.max_k, retrieval::MAX_K),
            ("limits.default_k", limits.default_k, limits.max_k),
            ("limits.history", limits.history, MAX_LIST),
            ("limits.exclude", limits.exclude, MAX_LIST),
            ("limits.batch", limits.batch, MAX_REQUESTS),
            ("limits.key_bytes", limits.key_bytes, feature_store::MAX_KEY_BYTES),
        ];
        for (field, value, most) in sizes {
            in_range(field, value as u64, most as u64)?;
        }
        if server.blocking_threads < 2 {
            let reason = "1 leaves no thread to events while items change or the catalogue is searched; use 2 or more";
            return Err(broken("server.blocking_threads", reason.to_owned()));
        }
        at_most("limits.added_items", limits.added_items as u64, MAX_ADDED)?;
        at_most("server.max_wait_us", server.max_wait_us, MAX_WAIT_US)?;
        at_most("server.drain_delay_s", server.drain_delay_s, MAX_TIMEOUT_S)?;
        in_range("server.request_timeout_s", server.request_timeout_s, MAX_TIMEOUT_S)?;
        in_range("server.shutdown_timeout_s", server.shutdown_timeout_s, MAX_TIMEOUT_S)
    }
}

/// Whether only this machine can ask at an address.
pub(crate) fn is_loopback(bind: &str) -> bool {
    let host = bind.rsplit_once(':').map_or(bind, |(host, _)| host);
    host == "localhost" || bind.parse::<SocketAddr>().is_ok_and(|address| address.ip().is_loopback())
}

pub(crate) fn in_range(field: &'static str, value: u64, most: u64) -> Result<(), ServiceError> {
    if (1..=most).contains(&value) { Ok(()) } else { Err(broken(field, format!("{value} is not in 1..={most}"))) }
}

pub(crate) fn at_most(field: &'static str, value: u64, most: u64) -> Result<(), ServiceError> {
    if value <= most { Ok(()) } else { Err(broken(field, format!("{value} is not in 0..={most}"))) }
}

fn is_header_name(name: &str) -> bool {
    (1..=64).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

pub(crate) fn broken(field: &'static str, reason: String) -> ServiceError {
    ServiceError::Config { field, reason }
}

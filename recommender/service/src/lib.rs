//! The HTTP service: recommendations at a dim chosen per request, from one Bundle and one store.
//!
//! ```text
//! request -> cross_origin (pages of other origins) -> observe (request id, API key, timeout, metrics)
//!         -> limits (body, lists, keys)
//!         -> tier or dim, rate -> fair queue of the tiers -> compute thread: user vector (kept or
//!            computed) and search of a batch, at the dim of the tier's level -> answer
//! ```
//! One file a handler: request, response, handler and schema together, in `routes/`. HTTP threads
//! neither scan nor wait for the disk: `compute/` has threads for the one, actix for the other.
//! Under load a tier steps down through its dims (`tiers/controller.rs`) before anything is refused.
//! Every error is a problem document (RFC 9457) with the request's id; no request can panic the
//! process or hold a queue without limit (`limits` and `server` in the config).

mod access;
mod added;
mod asking;
mod attributes;
mod checks;
mod clock;
mod compute;
mod config;
mod cors;
mod cross_origin;
mod cursor;
mod error;
mod filter;
mod hex;
mod hidden;
mod json_body;
mod kept;
mod lookup;
mod metrics;
mod observe;
mod plans;
mod problem;
mod recent;
mod request_id;
mod routes;
mod served;
mod server;
mod serving;
mod shadow;
mod spans;
mod stream;
mod swap;
mod tiers;
mod tls;
mod trace_context;
mod tuning;
mod users;
mod view;

pub use access::{AccessConfig, KeyConfig, Scope};
pub use clock::{Clock, system_clock};
pub use config::{LimitsConfig, ServerConfig, ServiceConfig, StateConfig, UiConfig};
pub use cors::CorsConfig;
pub use error::ServiceError;
pub use routes::openapi_json;
pub use server::{Surroundings, run_in};
pub use spans::{Phase, RequestSpan, SpanSink};
pub use stream::{Awaited, EventPlace, EventStream, PutError, StreamStatus};
pub use tiers::{SearchMode, TierConfig};
pub use tls::TlsConfig;
pub use tuning::{TuneError, TuneRequest, tune_bundle};

//! The HTTP service: recommendations at a dim chosen per request, from one Bundle and one store.
//!
//! ```text
//! request -> observe (request id, timeout, metrics) -> limits (body, lists, keys)
//!         -> tier or dim -> user state -> Bundle::user_vector -> NestedTable::top_k -> answer
//! ```
//! One file a handler: request, response, handler and schema together, in `routes/`.
//! Is not: an authenticator. An API key chooses a tier; it opens nothing.
//! Every error is a problem document (RFC 9457) with the request's id; no request can panic the
//! process or hold a queue without limit (`limits` and `server` in the config).

mod clock;
mod config;
mod error;
mod lookup;
mod metrics;
mod observe;
mod problem;
mod request_id;
mod routes;
mod server;
mod serving;
mod tier;

pub use clock::{Clock, system_clock};
pub use config::{LimitsConfig, ServerConfig, ServiceConfig, StateConfig, TierConfig};
pub use error::ServiceError;
pub use routes::openapi_json;
pub use server::{run, run_with_clock};

//! Why the service did not start or stopped: one sentence each. What a request gets wrong is a
//! [`crate::problem::Problem`] instead.

/// A failure of the service as a whole.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// A value of the configuration breaks a rule.
    #[error("{field}: {reason}")]
    Config {
        /// The field, dotted as in the TOML file.
        field: &'static str,
        /// The value, the rule and the way out.
        reason: String,
    },
    /// The Bundle's item table cannot be served.
    #[error("the item table of bundle {bundle_id} cannot be served: {source}")]
    Table {
        /// The Bundle.
        bundle_id: String,
        /// What is wrong with it.
        source: retrieval::RetrievalError,
    },
    /// The file of live tier changes cannot be read or written.
    #[error("tiers_file {path}: {reason}")]
    Journal {
        /// The file.
        path: std::path::PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tiers were changed by somebody else in the meantime.
    #[error("the tiers are at version {live} by now; read them again and send the change anew")]
    Conflict {
        /// The live version.
        live: u64,
    },
    /// The Bundle's search plans do not fit it.
    #[error("bundle {bundle_id} cannot be served: {reason}; run `recommender tune` on it again")]
    Plans {
        /// The Bundle.
        bundle_id: String,
        /// What is wrong with them.
        reason: String,
    },
    /// Items that came after training cannot be taken in from the store.
    #[error("items added to the bundle: {reason}")]
    AddedItems {
        /// What is wrong with the store or the vectors.
        reason: String,
    },
    /// A metric could not be registered: a fault of this crate.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The OpenAPI document could not be written: a fault of this crate.
    #[error("openapi.json: {0}")]
    OpenApi(#[from] serde_json::Error),
    /// The operating system refused the listener or a thread.
    #[error("HTTP server: {0}")]
    Io(#[from] std::io::Error),
}

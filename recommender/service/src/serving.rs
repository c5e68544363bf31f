//! What every handler works on, and the one place that runs blocking work.

use crate::clock::Clock;
use crate::config::{LimitsConfig, ServiceConfig};
use crate::error::ServiceError;
use crate::metrics::Metrics;
use crate::problem::Problem;
use crate::tier::Tiers;
use actix_web::web;
use feature_store::UserStateStore;
use fmrlrec::Bundle;
use retrieval::NestedTable;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// One Bundle as served, the user state, and the limits.
pub(crate) struct Serving {
    pub(crate) bundle: Bundle,
    pub(crate) table: NestedTable,
    pub(crate) store: UserStateStore,
    pub(crate) tiers: Tiers,
    pub(crate) limits: LimitsConfig,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    pub(crate) request_timeout: Duration,
    pub(crate) openapi: String,
    in_flight: Arc<Semaphore>,
}

impl Serving {
    /// Lays out the item table and checks the config against the Bundle.
    ///
    /// # Errors
    /// A broken rule of the config, or a Bundle whose item table cannot be served.
    pub(crate) fn new(
        config: &ServiceConfig,
        bundle: Bundle,
        store: UserStateStore,
        clock: Clock,
    ) -> Result<Serving, ServiceError> {
        config.validate(bundle.dims())?;
        let table = NestedTable::new(bundle.item_table(), bundle.dims())
            .map_err(|source| ServiceError::Table { bundle_id: bundle.id().to_string(), source })?;
        Ok(Serving {
            metrics: Metrics::new(bundle.id())?,
            tiers: Tiers::new(config, bundle.dims()),
            limits: config.limits.clone(),
            request_timeout: Duration::from_secs(config.server.request_timeout_s),
            openapi: crate::openapi_json()?,
            in_flight: Arc::new(Semaphore::new(config.server.max_in_flight)),
            bundle,
            table,
            store,
            clock,
        })
    }
}

/// Runs model, scan and store work on the blocking threads; past `max_in_flight` it is refused, so
/// that the queue before those threads has a limit.
pub(crate) async fn blocking<T: Send + 'static>(
    serving: &web::Data<Serving>,
    work: impl FnOnce(&Serving) -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let busy = |_| Problem::unavailable("the service is busy; try again after a second");
    let permit = Arc::clone(&serving.in_flight).try_acquire_owned().map_err(busy)?;
    let serving = serving.clone();
    let outcome = web::block(move || {
        // Held by the work, not by the request: a client that goes away does not free its thread.
        let _permit = permit;
        work(&serving)
    });
    outcome.await.map_err(Problem::internal)?
}

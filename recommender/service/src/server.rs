//! From a listener, a config, a Bundle and a store to a running server, and to a clean stop.

use crate::clock::Clock;
use crate::compute::TICK;
use crate::config::{LimitsConfig, ServiceConfig, is_loopback};
use crate::cross_origin::CrossOrigin;
use crate::error::ServiceError;
use crate::observe::observe;
use crate::problem::Problem;
use crate::routes;
use crate::serving::Serving;
use crate::spans::SpanSink;
use crate::stream::EventStream;
use crate::tls;
use actix_web::middleware::from_fn;
use actix_web::{App, HttpServer, web};
use feature_store::UserStateStore;
use fmrlrec::Bundle;
use std::future::Future;
use std::net::TcpListener;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

/// How often and how many times the end of the worker threads is looked for: 2 s in all.
const RELEASE_POLL: Duration = Duration::from_millis(5);
const RELEASE_POLLS: usize = 400;

/// What a service takes from its caller beside config, Bundle and state.
pub struct Surroundings {
    /// Dates events that state no time.
    pub clock: Clock,
    /// Where events go instead of the state; its consumer writes to the same store.
    pub stream: Option<Arc<dyn EventStream>>,
    /// Who collects traces.
    pub spans: Option<Arc<dyn SpanSink>>,
    /// Called once everything is accepted and the port is answered.
    pub ready: Box<dyn FnOnce() + Send>,
}

/// Serves until `shutdown` completes, then finishes running requests within the config's
/// `shutdown_timeout_s` and closes the store. Runs on any tokio runtime with time and I/O enabled; it
/// handles no signals itself.
///
/// # Errors
/// The config breaks a rule or does not fit the Bundle, or the operating system refuses.
pub async fn run_in(
    listener: TcpListener,
    config: ServiceConfig,
    bundle: Bundle,
    store: UserStateStore,
    surroundings: Surroundings,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServiceError> {
    let Surroundings { clock, stream, spans, ready } = surroundings;
    let serving = web::Data::new(Serving::new(&config, bundle, store, clock, stream, spans)?);
    let server = start(listener, &config, &serving)?;
    ready();
    let handle = server.handle();
    let mut server = pin!(server);
    let drain_delay = Duration::from_secs(config.server.drain_delay_s);
    let stop_asked = async {
        shutdown.await;
        serving.drain();
        tracing::info!(delay_s = config.server.drain_delay_s, "stopping: not ready any more");
        tokio::time::sleep(drain_delay).await;
    };
    let ended = tokio::select! {
        ended = &mut server => ended,
        () = watch(&serving) => unreachable!("it never ends"),
        () = stop_asked => {
            tracing::info!("stopping: running requests finish first");
            // The stop completes only while the server is polled.
            tokio::join!(server, handle.stop(true)).0
        }
    };
    released(serving).await;
    Ok(ended?)
}

/// How often items that a stream brought are looked for.
const ITEMS_TICKS: u32 = 10;

/// Moves the tiers' levels and takes in items that a stream brought, for ever.
async fn watch(serving: &web::Data<Serving>) {
    let mut ticks = tokio::time::interval(TICK);
    // After a pause, one look is as good as many.
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    let mut refresh: Option<tokio::task::JoinHandle<bool>> = None;
    let mut failing = false;
    loop {
        for _ in 0..ITEMS_TICKS {
            ticks.tick().await;
            serving.tick();
        }
        // Not awaited before it is done: the disk must not hold up the tiers. One at a time, however long it takes.
        match refresh.take() {
            Some(running) if !running.is_finished() => {
                refresh = Some(running);
                continue;
            }
            Some(done) => failing = done.await.unwrap_or(true),
            None => {}
        }
        let shared = serving.clone();
        refresh = Some(tokio::task::spawn_blocking(move || refresh_items(&shared, failing)));
    }
}

/// Takes in items; true if that failed. Says so at the first time of a row, and when it is over.
fn refresh_items(serving: &Serving, failed_before: bool) -> bool {
    match (serving.refresh_items(), failed_before) {
        (Err(error), false) => tracing::error!(%error, "items of the store cannot be taken in; trying on"),
        (Ok(()), true) => tracing::info!("items of the store are taken in again"),
        (Err(_), true) => return true,
        (Ok(()), false) => return false,
    }
    !failed_before
}

/// Worker threads let go of the state a moment after the server ends. Waiting for them means that the
/// store's file is closed when [`run_in`] returns, so that the caller may open it again.
async fn released(serving: web::Data<Serving>) {
    let serving = serving.into_inner();
    for _ in 0..RELEASE_POLLS {
        if Arc::strong_count(&serving) == 1 {
            return;
        }
        tokio::time::sleep(RELEASE_POLL).await;
    }
    tracing::warn!("a request outlived the shutdown timeout; the state store closes when it ends");
}

fn start(
    listener: TcpListener,
    config: &ServiceConfig,
    serving: &web::Data<Serving>,
) -> Result<actix_web::dev::Server, ServiceError> {
    let address = listener.local_addr()?;
    let served = serving.bundle.current();
    let (bundle_id, dims) = (served.bundle.id(), served.bundle.dims());
    tracing::info!(%address, bundle_id, items = served.view().items(), ?dims, "serving");
    if !config.access.required && !is_loopback(&config.bind) {
        tracing::warn!(
            bind = config.bind,
            "other machines may ask and write events for any user without a key; set access.required = true"
        );
    }
    for caution in config.access.cautions() {
        tracing::warn!("{caution}");
    }
    let tls = config.tls.as_ref().map(tls::server_config).transpose()?;
    let (serving, limits) = (serving.clone(), config.limits.clone());
    let (cors, tier_header) = (config.cors.clone(), config.tier_header.clone());
    let app = move || {
        App::new()
            .app_data(serving.clone())
            .configure(|app| extractors(app, &limits))
            .configure(routes::configure)
            .wrap(from_fn(observe))
            .wrap(CrossOrigin::new(cors.as_ref(), &tier_header, serving.metrics.clone()))
    };
    let server = HttpServer::new(app)
        .workers(config.server.workers)
        .worker_max_blocking_threads(config.server.blocking_threads)
        .max_connections(config.server.max_connections)
        .client_request_timeout(Duration::from_secs(config.server.request_timeout_s))
        .shutdown_timeout(config.server.shutdown_timeout_s)
        .disable_signals();
    let server = match tls {
        Some(tls) => server.listen_rustls_0_23(listener, tls)?,
        None => server.listen(listener)?,
    };
    Ok(server.run())
}

/// Limits of the extractors, and their errors as problems.
fn extractors(app: &mut web::ServiceConfig, limits: &LimitsConfig) {
    app.app_data(limits.clone())
        .app_data(web::PayloadConfig::new(limits.body_bytes))
        .app_data(web::QueryConfig::default().error_handler(|error, _| Problem::from(error).into()))
        .app_data(web::PathConfig::default().error_handler(|error, _| Problem::from(error).into()));
}

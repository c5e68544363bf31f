//! `serve`: Bundle + user state -> HTTP, until Ctrl-C or SIGTERM; then requests under way finish.

use crate::arguments::ServeArgs;
use crate::artefacts::{check_outside, open_bundle};
use crate::failure::bad_input;
use crate::interrupt::Interrupt;
use crate::output::{NOTES, notes_to_log, say};
use crate::streamed::RunningStream;
use anyhow::Context as _;
use feature_store::UserStateStore;
use fmrlrec::Bundle;
use service::{ServiceConfig, SpanSink, Surroundings};
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use tracing_subscriber::filter::Directive;

/// Said on the first Ctrl-C, since requests under way are answered first.
pub(crate) const PROMISE: &str = "stopping: requests under way are answered; Ctrl-C again ends at once";

/// Opens everything, prints the address, and serves.
pub(crate) fn run(args: &ServeArgs) -> anyhow::Result<()> {
    init_log("info")?;
    let config = read_config(args)?;
    // Everything that can be refused is, before the port answers anything.
    let bundle = open_bundle(&config.bundle)?;
    config.validate(&bundle.shape()).with_context(|| format!("config {}", args.config.display()))?;
    check_outside("tiers_file", &config.tiers_file)?;
    let store = crate::state::open(&config.state.path, config.state.max_history)?;
    let stream = args.stream.as_deref().map(crate::ingest_stream::read).transpose()?;
    let traces = crate::traces::start()?;
    let listener = listen(&config.bind, "--bind ADDRESS:PORT")?;
    // The consumer shares the store, so what it applies moves the next recommendation.
    let stream = stream.map(|stream| RunningStream::start(stream, store.clone())).transpose()?;
    let interrupt = Interrupt::install(PROMISE)?;
    let line = format!(
        "listening on {}://{} with bundle {} at dims {:?}",
        if config.tls.is_some() { "https" } else { "http" },
        listener.local_addr().context("reading the bound address")?,
        bundle.id(),
        bundle.dims(),
    );
    // Whoever closed our output is served all the same.
    let ready = Box::new(move || drop(say(&line)));
    let stream_events = stream.as_ref().map(RunningStream::events);
    let spans = traces.clone().map(|traces| traces as Arc<dyn SpanSink>);
    let surroundings = Surroundings { clock: service::system_clock(), stream: stream_events, spans, ready };
    serve_in(listener, config, bundle, store, surroundings, &interrupt)?;
    if let Some(traces) = traces {
        traces.stop();
    }
    // Only now: requests under way may wait for their events to be applied.
    stream.map_or(Ok(()), RunningStream::stop)
}

/// Serves until the user asks to stop and the requests under way are answered; no stream, no traces.
pub(crate) fn serve(
    listener: TcpListener,
    config: ServiceConfig,
    bundle: Bundle,
    store: UserStateStore,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let clock = service::system_clock();
    let surroundings = Surroundings { clock, stream: None, spans: None, ready: Box::new(|| ()) };
    serve_in(listener, config, bundle, store, surroundings, interrupt)
}

fn serve_in(
    listener: TcpListener,
    config: ServiceConfig,
    bundle: Bundle,
    store: UserStateStore,
    surroundings: Surroundings,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let running = service::run_in(listener, config, bundle, store, surroundings, interrupt.clone().wait());
    Ok(actix_web::rt::System::new().block_on(running)?)
}

/// Takes the port, or says who could have it and what to do.
pub(crate) fn listen(bind: &str, flag: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(bind).map_err(|error| match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            bad_input(format!("{bind} is in use by another program; stop it or choose another with {flag}"))
        }
        _ => bad_input(format!("{bind} cannot be listened on: {error}; choose another with {flag}")),
    })
}

/// Logs to stderr what `RECOMMENDER_LOG` asks for, else `default`, in the format of
/// `RECOMMENDER_LOG_FORMAT`.
pub(crate) fn init_log(default: &str) -> anyhow::Result<()> {
    let wanted = std::env::var("RECOMMENDER_LOG").ok().filter(|text| !text.is_empty());
    let wanted = wanted.unwrap_or_else(|| default.to_owned());
    let filter = tracing_subscriber::EnvFilter::try_new(&wanted)
        .map_err(|error| bad_input(format!("RECOMMENDER_LOG={wanted:?} is no filter ({error}); use info or debug")))?;
    // What a port scan sends is no error of ours: it is answered 400 and counted.
    let scans: Directive = "actix_http::h1::dispatcher=off".parse().context("the filter of port scans")?;
    let filter = if wanted.contains("actix_http") { filter } else { filter.add_directive(scans) };
    let log = tracing_subscriber::fmt().with_writer(std::io::stderr);
    match std::env::var("RECOMMENDER_LOG_FORMAT").as_deref() {
        Ok("json") => {
            let notes: Directive = format!("{NOTES}=info").parse().context("the filter of notes")?;
            log.with_env_filter(filter.add_directive(notes)).json().flatten_event(true).init();
            notes_to_log();
        }
        Ok("text" | "") | Err(_) => log.with_env_filter(filter).init(),
        Ok(other) => {
            return Err(bad_input(format!("RECOMMENDER_LOG_FORMAT={other:?} is no format; use text or json")));
        }
    }
    Ok(())
}

/// Makes the config's relative paths start at `base`.
pub(crate) fn resolve_paths(config: &mut ServiceConfig, base: &Path) {
    let tls = config.tls.as_mut().map(|tls| [&mut tls.certificate, &mut tls.key]);
    config.state.path = config.state.path.clone().within(base);
    for path in [&mut config.bundle, &mut config.tiers_file].into_iter().chain(tls.into_iter().flatten()) {
        *path = base.join(&*path);
    }
}

/// Relative paths in the config start at the folder it lies in; flags win over the config.
fn read_config(args: &ServeArgs) -> anyhow::Result<ServiceConfig> {
    let mut config: ServiceConfig = crate::config::read(&args.config)?;
    let base_dir = args.config.parent().unwrap_or(Path::new(""));
    resolve_paths(&mut config, base_dir);
    if let Some(bundle) = &args.bundle {
        config.bundle = bundle.clone();
    }
    if let Some(state) = &args.state {
        config.state.path = state.parse()?;
    }
    if let Some(tiers_file) = &args.tiers_file {
        config.tiers_file = tiers_file.clone();
    }
    if let Some(bind) = args.bind {
        config.bind = bind.to_string();
    }
    Ok(config)
}

//! The numbers of `ingest` for Prometheus: one small server with one path, on a thread of its own.

use crate::serve::listen;
use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, rt, web};
use pipeline::stream::StreamMetrics;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

/// Open connections at once.
const MAX_CONNECTIONS: usize = 64;

/// Serves `GET /metrics` until the process ends; gives the address, whose port may have been 0.
///
/// # Errors
/// The address cannot be listened on.
pub(crate) fn start(bind: SocketAddr, metrics: Arc<StreamMetrics>) -> anyhow::Result<SocketAddr> {
    let listener = listen(&bind.to_string(), "metrics_bind")?;
    let address = listener.local_addr()?;
    // The thread ends with the process: numbers are there until the last moment.
    std::thread::spawn(move || {
        if let Err(error) = rt::System::new().block_on(serve(listener, metrics)) {
            tracing::error!(%error, "the metrics port was closed");
        }
    });
    Ok(address)
}

async fn serve(listener: TcpListener, metrics: Arc<StreamMetrics>) -> std::io::Result<()> {
    let app = move || {
        let metrics = web::Data::from(Arc::clone(&metrics));
        App::new().app_data(metrics).route("/metrics", web::get().to(expose))
    };
    HttpServer::new(app).workers(1).max_connections(MAX_CONNECTIONS).disable_signals().listen(listener)?.run().await
}

async fn expose(metrics: web::Data<StreamMetrics>) -> HttpResponse {
    let text = metrics.stats().exposition(service::system_clock()());
    HttpResponse::Ok().content_type(ContentType::plaintext()).body(text)
}

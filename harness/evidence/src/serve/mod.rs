//! The HTTP APIs of Prometheus, Loki and Tempo, and the OTLP receivers, on listeners of the
//! caller's choosing.

mod form;
mod gate;
pub mod loki;
pub mod prometheus;
pub mod tempo;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower_http::catch_panic::CatchPanicLayer;

use crate::Evidence;
use crate::receive::otlp;

/// The listeners to serve on, already bound, so that a caller may bind port 0 and know the port
/// before anything is served. An API without a listener is not served.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Prometheus' HTTP API.
    pub prometheus: Option<TcpListener>,
    /// Loki's HTTP API, push included.
    pub loki: Option<TcpListener>,
    /// Tempo's HTTP API.
    pub tempo: Option<TcpListener>,
    /// OTLP over gRPC (HTTP/2 without TLS).
    pub otlp_grpc: Option<TcpListener>,
    /// OTLP over HTTP.
    pub otlp_http: Option<TcpListener>,
}

/// Why serving ended before it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener failed.
    #[error("serving {api}: {source}")]
    Io {
        /// Which API.
        api: &'static str,
        /// What the listener said.
        source: std::io::Error,
    },
    /// A serving task panicked.
    #[error("a serving task ended abnormally: {0}")]
    Task(#[from] tokio::task::JoinError),
}

/// How long requests in flight may take to finish once shutdown is asked for. A client that holds a
/// response open must not keep a finished run from ending.
const DRAIN: Duration = Duration::from_secs(5);

/// Serves until `shutdown` completes, then lets requests in flight finish (for 5 s at most).
///
/// # Errors
/// When a listener fails or a serving task panics; the others are stopped then too.
pub async fn serve(
    evidence: Evidence,
    listeners: Listeners,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let stop = CancellationToken::new();
    let mut tasks: JoinSet<Result<(), ServeError>> = JoinSet::new();
    for (api, listener, router) in apis(evidence, listeners) {
        let stopped = stop.clone().cancelled_owned();
        let service = guarded(router);
        // An answer is several small writes: with Nagle's algorithm the last of them waits for the client's
        // delayed acknowledgement, 40 ms.
        let listener = listener.tap_io(|stream| {
            if let Err(e) = stream.set_nodelay(true) {
                tracing::debug!(error = %e, "TCP_NODELAY is not set");
            }
        });
        tasks.spawn(async move {
            axum::serve(listener, service)
                .with_graceful_shutdown(stopped)
                .await
                .map_err(|source| ServeError::Io { api, source })
        });
    }

    tokio::pin!(shutdown);
    let early = tokio::select! {
        () = &mut shutdown => Ok(()),
        Some(ended) = tasks.join_next() => flatten(ended),
    };
    stop.cancel();
    let drained = tokio::time::timeout(DRAIN, async {
        let mut result = Ok(());
        while let Some(ended) = tasks.join_next().await {
            result = result.and(flatten(ended));
        }
        result
    })
    .await;
    match drained {
        Ok(result) => early.and(result),
        Err(_) => {
            tracing::warn!(seconds = DRAIN.as_secs(), "connections still open, dropped");
            tasks.shutdown().await;
            early
        }
    }
}

fn flatten(
    ended: Result<Result<(), ServeError>, tokio::task::JoinError>,
) -> Result<(), ServeError> {
    ended.map_err(ServeError::from).and_then(|served| served)
}

fn apis(evidence: Evidence, on: Listeners) -> Vec<(&'static str, TcpListener, Router)> {
    let mut all = Vec::new();
    let mut add = |api, listener: Option<TcpListener>, router: &dyn Fn() -> Router| {
        if let Some(listener) = listener {
            all.push((api, listener, router()));
        }
    };
    add("the Prometheus API", on.prometheus, &|| {
        prometheus::router(evidence.metrics.clone())
    });
    add("the Loki API", on.loki, &|| {
        loki::router(evidence.logs.clone())
    });
    add("the Tempo API", on.tempo, &|| {
        tempo::router(evidence.traces.clone())
    });
    add("OTLP over gRPC", on.otlp_grpc, &|| {
        otlp::grpc_services(evidence.clone()).into_axum_router()
    });
    add("OTLP over HTTP", on.otlp_http, &|| {
        otlp::http_router(evidence.clone())
    });
    all
}

/// A panic in a handler is answered 500 and logged; it must neither close the connection without a
/// word nor pass for an empty result.
fn guarded(router: Router) -> Router {
    router
        .layer(DefaultBodyLimit::max(otlp::MAX_PAYLOAD_BYTES))
        .layer(CatchPanicLayer::custom(panicked))
}

fn panicked(panic: Box<dyn Any + Send + 'static>) -> Response {
    let what = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message");
    tracing::error!(panic = what, "a request handler panicked");
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        [(CONTENT_TYPE, "text/plain; charset=utf-8")],
        format!("internal error: {what}\n"),
    )
        .into_response()
}

//! From bound listeners to a clean stop.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connections::serve;
use super::{Service, admin_router, router};
use crate::config::Drain;

/// What is left to send is given this long at the end, spans and log records each.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);
/// Open scrapes are given this long at the end.
const ADMIN_TIMEOUT: Duration = Duration::from_secs(1);

/// Where the service listens.
#[derive(Debug)]
pub struct Listeners {
    /// Requests.
    pub http: TcpListener,
    /// Metrics and faults.
    pub admin: TcpListener,
}

/// How the service stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stopped {
    /// Everyone inside was answered.
    Drained,
    /// This many were not, within the time given.
    Abandoned(usize),
}

/// Serves until `shutdown` resolves, then drains: readiness goes first, then the door closes, those
/// inside are answered, the workers stop, telemetry is sent, and the metrics listener goes last.
///
/// # Errors
/// When a listener breaks.
pub async fn run(
    service: Arc<Service>,
    listeners: Listeners,
    drain: Drain,
    shutdown: impl Future<Output = ()>,
) -> std::io::Result<Stopped> {
    let close_door = CancellationToken::new();
    let close_admin = CancellationToken::new();
    let limits = service.limits.connections;
    let routes = router(service.clone());
    let mut http = tokio::spawn(serve(listeners.http, routes, limits, close_door.clone()));
    let routes = admin_router(service.clone());
    let mut admin = tokio::spawn(serve(listeners.admin, routes, limits, close_admin.clone()));
    tokio::select! {
        () = shutdown => {}
        ended = &mut http => return Err(broken("request", ended)),
        ended = &mut admin => return Err(broken("metrics", ended)),
    }
    service.start_draining();
    if !drain.grace.is_zero() {
        tokio::time::sleep(drain.grace).await;
    }
    close_door.cancel();
    let in_time = tokio::time::timeout(drain.timeout, &mut http).await.is_ok();
    // Read before they are given up: each that ends takes itself off the count.
    let inside = usize::try_from(service.telemetry.metrics.active_requests.get()).unwrap_or(0);
    http.abort();
    // A connection that was opened and never used keeps the server open, but nobody is inside.
    let stopped = if in_time || inside == 0 {
        Stopped::Drained
    } else {
        Stopped::Abandoned(inside)
    };
    let closing = service.clone();
    let closed = tokio::task::spawn_blocking(move || {
        if let Some(loaded) = closing.loaded()
            && stopped == Stopped::Drained
        {
            loaded.close();
        }
        closing.telemetry.shutdown(FLUSH_TIMEOUT);
    });
    // Bounded by what it does; a panic in it leaves nothing to be done.
    let _ = closed.await;
    close_admin.cancel();
    let _ = tokio::time::timeout(ADMIN_TIMEOUT, &mut admin).await;
    admin.abort();
    Ok(stopped)
}

fn broken(
    which: &str,
    ended: Result<std::io::Result<()>, tokio::task::JoinError>,
) -> std::io::Error {
    let why = match ended {
        Ok(Ok(())) => "it ended by itself".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(error) => error.to_string(),
    };
    std::io::Error::other(format!("the {which} listener broke: {why}"))
}

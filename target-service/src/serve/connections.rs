//! Connections: how many, how long they may take to ask, and how they end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::config::ConnectionLimits;

/// Bytes of a request's head, at most; what is longer is answered 431.
const MAX_HEAD: usize = 64 * 1024;
/// Requests that may be open at the same time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;
/// How often, and how many times, the rest of a torn HTTP/2 preface is looked for: a second in all.
const PREFACE_POLL: Duration = Duration::from_millis(5);
const PREFACE_POLLS: u32 = 200;
/// After a failed accept (too many open files), others may close theirs meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts until `close`, then lets every connection finish what it has begun.
///
/// No more than `limits.most` connections are open; more wait in the kernel's backlog until one closes. One
/// that has not sent a whole head within `limits.idle` of when it could is closed, so that slow and silent
/// clients hold no place for long. HTTP/1.1 and HTTP/2 (prior knowledge) come on the same port.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: ConnectionLimits,
    close: CancellationToken,
) -> std::io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.most.min(Semaphore::MAX_PERMITS)));
    let mut open = JoinSet::new();
    loop {
        // Those that ended are forgotten as we go; a panic in one is its own.
        while open.try_join_next().is_some() {}
        let accepted = tokio::select! {
            () = close.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
        };
        match accepted {
            Ok((stream, place)) => {
                let (routes, close) = (routes.clone(), close.clone());
                open.spawn(async move {
                    connection(stream, routes, limits.idle, close).await;
                    drop(place);
                });
            }
            Err(error) if is_the_clients(&error) => {}
            Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    while open.join_next().await.is_some() {}
    Ok(())
}

type Place = tokio::sync::OwnedSemaphorePermit;

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, Place)> {
    let place = places
        .clone()
        .acquire_owned()
        .await
        .map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    Ok((stream, place))
}

/// The client left between its SYN and our accept.
fn is_the_clients(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset
    )
}

/// What a client speaks.
enum Version {
    One,
    Two,
}

/// Looks at the first bytes of a connection without taking them: HTTP/2 begins with a preface of its own
/// (RFC 9113, 3.4). hyper could tell, too, but would wait for these bytes for ever.
async fn version(stream: &TcpStream) -> std::io::Result<Version> {
    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let mut seen = [0; PREFACE.len()];
    for _ in 0..PREFACE_POLLS {
        let seen = match stream.peek(&mut seen).await? {
            0 => return Err(std::io::ErrorKind::UnexpectedEof.into()),
            count => &seen[..count],
        };
        if !PREFACE.starts_with(seen) {
            return Ok(Version::One);
        }
        if seen == PREFACE {
            return Ok(Version::Two);
        }
        // A part of the preface is there and readable for ever; the rest is seen when it has come.
        tokio::time::sleep(PREFACE_POLL).await;
    }
    // Looking does not show that nothing more will come; reading does, and has its own time.
    Ok(Version::One)
}

async fn connection(stream: TcpStream, routes: Router, idle: Duration, close: CancellationToken) {
    // Answers are small: waiting to fill a packet would add the peer's delayed-ack time to them.
    let _ = stream.set_nodelay(true);
    let version = tokio::select! {
        version = tokio::time::timeout(idle, version(&stream)) => version,
        () = close.cancelled() => return,
    };
    let Ok(Ok(version)) = version else { return };
    let mut builder = match version {
        Version::One => Builder::new(TokioExecutor::new()).http1_only(),
        Version::Two => Builder::new(TokioExecutor::new()).http2_only(),
    };
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(idle)
        .max_buf_size(MAX_HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(idle)
        .keep_alive_timeout(idle)
        .max_concurrent_streams(MAX_STREAMS)
        .max_header_list_size(MAX_HEAD as u32);
    let service = service_fn(move |request: http::Request<Incoming>| {
        routes.clone().oneshot(request.map(Body::new))
    });
    let mut served = pin!(builder.serve_connection(TokioIo::new(stream), service));
    tokio::select! {
        // What went wrong with a connection is its client's business; requests tell for themselves.
        _ = served.as_mut() => {}
        () = close.cancelled() => {
            served.as_mut().graceful_shutdown();
            let _ = served.await;
        }
    }
}

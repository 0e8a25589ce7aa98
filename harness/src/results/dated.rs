//! What time it is at the place of results, by the answers of its server or the times of its files.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use futures::future::BoxFuture;
use harness_core::record::clock::ClockSeen;
use harness_core::units::{Nanos, UnixNanos};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

use super::NOTHING;
use crate::backends::clock_of;
use crate::clock::wall_now;

/// Times of files are as coarse as the system's tick: 10 ms at most.
const TICK: u64 = 10_000_000;
/// Some file systems keep whole seconds.
const SECOND: u64 = 1_000_000_000;
/// Readings that are kept for who asked for them.
const KEPT: usize = 64;

type Reading = (ClockSeen, Duration);

/// Makes clients that note the `Date` of answers about nothing, by the path that was asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Dated(Arc<Mutex<BTreeMap<String, Reading>>>);

impl Dated {
    /// The reading of the answer about this key, and how long the answer took.
    pub(super) fn of(&self, key: &str) -> Option<Reading> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let path = kept.keys().find(|path| path.ends_with(key))?.clone();
        kept.remove(&path)
    }
}

impl HttpConnector for Dated {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(Noting {
            inner: ReqwestConnector::default().connect(options)?,
            dates: self.clone(),
        }))
    }
}

#[derive(Debug)]
struct Noting {
    inner: HttpClient,
    dates: Dated,
}

impl HttpService for Noting {
    // As the trait's `async fn` is expanded.
    fn call<'a, 'b>(
        &'a self,
        request: HttpRequest,
    ) -> BoxFuture<'b, Result<HttpResponse, HttpError>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let sent = wall_now();
            let answer = self.inner.execute(request).await?;
            let received = wall_now();
            let asked = path
                .rsplit('/')
                .next()
                .is_some_and(|key| key.starts_with(NOTHING));
            if asked && let Some(clock) = clock_of(answer.headers(), sent, received) {
                let trip = Nanos(received.0.saturating_sub(sent.0)).as_duration();
                let mut kept = self.dates.0.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() >= KEPT {
                    kept.clear();
                }
                kept.insert(path, (clock, trip));
            }
            Ok(answer)
        })
    }
}

/// By the time that a directory's system gives a new file.
pub(super) fn of_directory(dir: &Path) -> std::io::Result<Reading> {
    let sent = wall_now();
    let file = tempfile::Builder::new().prefix(".clock").tempfile_in(dir)?;
    let made = file.as_file().metadata()?.modified()?;
    let received = wall_now();
    let made = made.duration_since(UNIX_EPOCH).unwrap_or_default();
    let read = UnixNanos(Nanos::from_duration(made).0);
    let grain = if read.0.is_multiple_of(SECOND) {
        SECOND
    } else {
        TICK
    };
    let trip = Nanos(received.0.saturating_sub(sent.0)).as_duration();
    Ok((ClockSeen::within(read, grain, sent, received), trip))
}

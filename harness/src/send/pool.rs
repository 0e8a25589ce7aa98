//! Connections to the target, used again where the scenario allows it.

use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use harness_core::observation::Outcome;
use harness_core::units::Nanos;
use http_body_util::Full;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connect::{Connected, Connector, Ended};
use super::exchange::{Seen, Stage};
use super::h1::H1;
use super::options::SendOptions;
use super::outcome::Fault;
use crate::clock::Clock;

/// Requests that share an HTTP/2 connection at most: what servers commonly allow, and the least that
/// the standard recommends to (RFC 9113, section 6.5.2).
pub(crate) const STREAMS: u32 = 100;

/// Waits for a connection because all of `maxConnections` were in use.
#[derive(Debug, Default)]
pub struct ConnectionWaits {
    /// How many requests waited.
    pub count: AtomicU64,
    /// Nanoseconds waited in all.
    pub nanos: AtomicU64,
    /// The longest wait, nanoseconds.
    pub longest: AtomicU64,
}

/// What is known of the protocol that the peer chose.
const UNKNOWN: u8 = 0;
const EXCLUSIVE: u8 = 1;
const SHARED: u8 = 2;

/// The connections of a run.
pub(crate) struct Pool {
    connector: Connector,
    /// A permit for each request that the connections allowed can carry: one a connection, until the
    /// peer turns out to speak HTTP/2.
    limit: Option<Arc<Semaphore>>,
    most: Option<u32>,
    /// The one used last is used next, so that the rest may time out at the peer's leisure.
    #[allow(
        clippy::vec_box,
        reason = "a connection is moved into requests' futures and out again"
    )]
    idle: Mutex<Vec<Box<H1>>>,
    shared: Mutex<Vec<Arc<Shared>>>,
    chosen: AtomicU8,
    /// One opens while the others wait, where what is opened may serve them all.
    opening: tokio::sync::Mutex<()>,
    keep_alive: bool,
    idle_timeout: Nanos,
    pub(crate) waits: ConnectionWaits,
    /// Connections opened so far.
    pub(crate) opened: AtomicU64,
}

/// An HTTP/2 connection.
pub(crate) struct Shared {
    send: SendRequest<Full<Bytes>>,
    ended: Ended,
    out: AtomicU32,
}

/// A connection, or a part of one, for one request.
pub(crate) enum Lease {
    One(Box<H1>),
    Part(Part),
}

/// A stream's place on an HTTP/2 connection; given back when dropped.
pub(crate) struct Part {
    pub(crate) send: SendRequest<Full<Bytes>>,
    of: Arc<Shared>,
}

impl Part {
    /// The reason of a failure: where the peer gave the whole connection up with GOAWAY, that.
    pub(crate) fn reason(&self, fault: Fault) -> Fault {
        match self.of.ended.get() {
            Some(end)
                if end.outcome == Outcome::GoAway && fault.outcome == Outcome::ConnectionClosed =>
            {
                end.clone()
            }
            _ => fault,
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.of.out.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(crate) fn new(connector: Connector, options: &SendOptions) -> Self {
        let most = options.max_connections;
        Self {
            limit: most.map(|most| Arc::new(Semaphore::new(most as usize))),
            most,
            connector,
            idle: Mutex::default(),
            shared: Mutex::default(),
            chosen: AtomicU8::new(UNKNOWN),
            opening: tokio::sync::Mutex::new(()),
            keep_alive: options.keep_alive,
            idle_timeout: Nanos::from_duration(options.idle_timeout),
            waits: ConnectionWaits::default(),
            opened: AtomicU64::new(0),
        }
    }

    /// Waits until one of `maxConnections` is free; hold the permit as long as the connection.
    pub(crate) async fn permit(&self, clock: Clock) -> Option<OwnedSemaphorePermit> {
        let limit = self.limit.as_ref()?;
        if let Ok(permit) = Arc::clone(limit).try_acquire_owned() {
            return Some(permit);
        }
        // Counted also when the request is given up while it waits.
        let _waited = Waited(&self.waits, clock, clock.now());
        Arc::clone(limit).acquire_owned().await.ok()
    }

    /// A connection, opened where none is free.
    pub(crate) async fn lease(&self, clock: Clock, seen: &mut Seen) -> Result<Lease, Fault> {
        if let Some(lease) = self.free(clock) {
            return Ok(lease);
        }
        seen.stage = Stage::Connecting;
        let one_at_a_time =
            self.connector.may_multiplex() && self.chosen.load(Ordering::Relaxed) != EXCLUSIVE;
        let _turn = if one_at_a_time {
            let turn = self.opening.lock().await;
            if let Some(lease) = self.free(clock) {
                return Ok(lease);
            }
            Some(turn)
        } else {
            None
        };
        // Rare, and large: not in every request's future.
        let connected = Box::pin(self.connector.connect()).await?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Ok(match connected {
            Connected::H1(connection) => {
                self.chosen.store(EXCLUSIVE, Ordering::Relaxed);
                Lease::One(connection)
            }
            Connected::H2(send, ended) => {
                if self.chosen.swap(SHARED, Ordering::Relaxed) != SHARED
                    && let (Some(limit), Some(most)) = (&self.limit, self.most)
                {
                    limit.add_permits(most as usize * (STREAMS as usize - 1));
                }
                let out = AtomicU32::new(1);
                let of = Arc::new(Shared { send, ended, out });
                if self.keep_alive {
                    lock(&self.shared).push(Arc::clone(&of));
                }
                Lease::Part(Part {
                    send: of.send.clone(),
                    of,
                })
            }
        })
    }

    fn free(&self, clock: Clock) -> Option<Lease> {
        if !self.keep_alive {
            return None;
        }
        if self.chosen.load(Ordering::Relaxed) == SHARED {
            return self.part();
        }
        let mut idle = lock(&self.idle);
        while let Some(mut connection) = idle.pop() {
            let idle = clock.now().since(connection.last_read());
            if idle <= self.idle_timeout && connection.is_quiet() {
                return Some(Lease::One(connection));
            }
        }
        None
    }

    fn part(&self) -> Option<Lease> {
        let mut shared = lock(&self.shared);
        shared.retain(|connection| !connection.send.is_closed());
        let of = shared
            .iter()
            .find(|connection| connection.out.load(Ordering::Relaxed) < STREAMS)?;
        of.out.fetch_add(1, Ordering::Relaxed);
        Some(Lease::Part(Part {
            send: of.send.clone(),
            of: Arc::clone(of),
        }))
    }

    /// Takes a connection back that may be used again.
    pub(crate) fn give_back(&self, connection: Box<H1>) {
        if self.keep_alive {
            lock(&self.idle).push(connection);
        }
    }
}

struct Waited<'a>(&'a ConnectionWaits, Clock, Nanos);

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        let nanos = self.1.now().since(self.2).0;
        self.0.count.fetch_add(1, Ordering::Relaxed);
        self.0.nanos.fetch_add(nanos, Ordering::Relaxed);
        self.0.longest.fetch_max(nanos, Ordering::Relaxed);
    }
}

//! What is known of an exchange while it goes on. It outlives the exchange's future, so that a
//! request that is cut off (timeout, end of the run) keeps the instants it had reached.

use harness_core::observation::{MOST_GAPS, Outcome};
use harness_core::units::Nanos;
use tokio::time::Instant;

use super::MAX_ANSWER;
use super::events::{Events, Framing};
use super::outcome::Fault;

/// What of a request matters to the exchange.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    /// The method is HEAD.
    pub(crate) head: bool,
    /// Somebody looks at the answer's fields.
    pub(crate) fields: bool,
    /// How the scenario says the body is divided.
    pub(crate) framing: Option<Framing>,
    /// When the first byte of the answer must have come.
    pub(crate) first_byte_by: Option<Instant>,
}

/// Carries out what must be done before the first byte of an answer has come.
pub(crate) async fn within<T>(
    by: Option<Instant>,
    what: impl Future<Output = T>,
) -> Result<T, Fault> {
    let Some(by) = by else { return Ok(what.await) };
    tokio::time::timeout_at(by, what).await.map_err(|_| {
        let why = "not one byte of an answer within the time for it";
        Fault::new(Outcome::FirstByteTimeout, why)
    })
}

pub(crate) fn too_large() -> Fault {
    let mib = MAX_ANSWER >> 20;
    Fault::protocol(format!(
        "the answer has more than {mib} MiB, which is all that is read"
    ))
}

/// How far an exchange has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Waiting for one of `maxConnections`.
    #[default]
    Queued,
    /// Opening a connection.
    Connecting,
    /// Writing the request, or waiting for the first byte of its answer.
    Waiting,
    /// Reading the answer.
    Reading,
}

/// Instants and counts of one exchange so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) stage: Stage,
    pub(crate) sent: Option<Nanos>,
    pub(crate) connected: Option<Nanos>,
    pub(crate) first_byte: Option<Nanos>,
    pub(crate) status: Option<u16>,
    /// Bytes of the body read so far.
    pub(crate) bytes: u64,
    pub(crate) first_event: Option<Nanos>,
    last_event: Nanos,
    pub(crate) gaps: Vec<Nanos>,
    /// How events are told apart; `None`: the answer is not a stream of events.
    events: Option<Events>,
}

impl Seen {
    /// From here on the body is a stream of events.
    pub(crate) fn stream(&mut self, framing: Framing) {
        self.events = Some(Events::new(framing));
    }

    /// A piece of the body, read at `at`. `ends`: a chunk ends with it.
    pub(crate) fn body(&mut self, piece: &[u8], ends: bool, at: Nanos) {
        self.bytes += piece.len() as u64;
        let Some(events) = &mut self.events else {
            return;
        };
        let new = events.feed(piece, ends);
        if new > 0 {
            self.events_at(new, at);
        }
    }

    /// Events that came in one read have one instant: what lies between them no client can see.
    fn events_at(&mut self, new: u32, at: Nanos) {
        for _ in 0..new {
            if self.first_event.is_none() {
                self.first_event = Some(at);
            } else if self.gaps.len() < MOST_GAPS {
                self.gaps.push(at.since(self.last_event));
            }
            self.last_event = at;
        }
    }
}

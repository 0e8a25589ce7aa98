//! What became of one request. A row of the run directory's `requests.jsonl`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Nanos, Phase, RequestId, SpanId, TraceId};

/// How a request ended. Every scheduled request ends in exactly one of these; none is left out.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Answered, and every expectation of the scenario held.
    Expected,
    /// Answered with another status than the one expected.
    UnexpectedStatus,
    /// Answered with the expected status but with content other than the one expected.
    WrongAnswer,
    /// Answered rightly, but later than the scenario's policy for the request allows.
    TooSlow,
    /// No complete answer within the target's timeout, counted from due.
    Timeout,
    /// No connection (name, TCP and TLS together) within the target's connect timeout.
    ConnectTimeout,
    /// Not one byte of an answer within the target's timeout for it, counted from sent.
    FirstByteTimeout,
    /// The connection was refused, or the host cannot be reached.
    ConnectionRefused,
    /// The connection was reset (TCP RST) before the answer was complete.
    ConnectionReset,
    /// The peer closed the connection in good order (TCP FIN) before the answer was complete.
    ConnectionClosed,
    /// The peer ended the request's HTTP/2 stream with RST_STREAM.
    StreamReset,
    /// The peer gave the HTTP/2 connection up with GOAWAY, and did not answer this request.
    GoAway,
    /// The target's name could not be resolved.
    DnsFailure,
    /// TLS could not be agreed on, or the peer's certificate is not to be trusted.
    TlsFailure,
    /// The peer broke the protocol, or its answer is larger than is read.
    ProtocolError,
    /// Never sent: as many requests as `maxInFlight` allows were out already. A failure of the
    /// service to keep up, not of the generator.
    Dropped,
    /// Still out when the run's graceful stop ended.
    Unfinished,
    /// Never sent: an earlier step of its flow failed.
    NotReached,
    /// The generator itself could not send it: no file descriptors or ports left, or a defect of
    /// its own. Any of these makes the run invalid.
    GeneratorFailed,
}

impl Outcome {
    /// Its name in rows, objectives and reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::UnexpectedStatus => "unexpected_status",
            Self::WrongAnswer => "wrong_answer",
            Self::TooSlow => "too_slow",
            Self::Timeout => "timeout",
            Self::ConnectTimeout => "connect_timeout",
            Self::FirstByteTimeout => "first_byte_timeout",
            Self::ConnectionRefused => "connection_refused",
            Self::ConnectionReset => "connection_reset",
            Self::ConnectionClosed => "connection_closed",
            Self::StreamReset => "stream_reset",
            Self::GoAway => "go_away",
            Self::DnsFailure => "dns_failure",
            Self::TlsFailure => "tls_failure",
            Self::ProtocolError => "protocol_error",
            Self::Dropped => "dropped",
            Self::Unfinished => "unfinished",
            Self::NotReached => "not_reached",
            Self::GeneratorFailed => "generator_failed",
        }
    }

    /// Whether the target gave a complete HTTP answer, right or wrong.
    #[must_use]
    pub fn answered(self) -> bool {
        matches!(
            self,
            Self::Expected | Self::UnexpectedStatus | Self::WrongAnswer | Self::TooSlow
        )
    }
}

/// One request, with its instants on the generator's monotonic clock.
///
/// Latency is `done - due`; service time is `done - sent`; the generator's lateness is
/// `sent - due` (for a dropped request `done - due`: the instant at which it was given up).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Observation {
    /// Place in the schedule.
    pub id: RequestId,
    /// Index into the scenario's `requests`.
    pub request: u16,
    /// Index into the scenario's `loads`.
    pub load: u16,
    /// The phase in which the request was due.
    pub phase: Phase,
    /// When it should have been sent: by the schedule in an open load, at the end of the user's
    /// think time in a closed one.
    pub due: Nanos,
    /// When sending began: before a connection was opened where none was free, else when its first
    /// byte was about to be written. `None` for one never sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent: Option<Nanos>,
    /// When the first byte of the answer had been read (HTTP/2: its head).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_byte: Option<Nanos>,
    /// When the outcome was known.
    pub done: Nanos,
    /// How it ended.
    pub outcome: Outcome,
    /// HTTP status, when there was an answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Bytes of the answer's body that were read.
    #[serde(default)]
    pub bytes: u64,
    /// When the first event of a streamed answer had been read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_event: Option<Nanos>,
    /// Times between one event of a streamed answer and the next, in their order: one fewer than
    /// there were events, 100,000 at most.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<Nanos>,
    /// W3C trace id sent in `traceparent`.
    pub trace: TraceId,
    /// W3C parent id sent in `traceparent`: the generator's client span.
    pub span: SpanId,
    /// Whether `traceparent` asked for the trace to be recorded.
    pub sampled: bool,
    /// Whether the answer agreed with the dataset's true label (`score`), where that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correct: Option<bool>,
    /// Short free text on what went wrong, at most 200 bytes. Untrusted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl Observation {
    /// Time from due to done: what users wait.
    #[must_use]
    pub fn latency(&self) -> Nanos {
        self.done.since(self.due)
    }

    /// Time from sent to done: what the service took. `None` for a request never sent.
    #[must_use]
    pub fn service_time(&self) -> Option<Nanos> {
        self.sent.map(|sent| self.done.since(sent))
    }

    /// How late the generator was with this request.
    #[must_use]
    pub fn lateness(&self) -> Nanos {
        self.sent.unwrap_or(self.done).since(self.due)
    }
}

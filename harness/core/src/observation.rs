//! What became of one request. A row of the run directory's `requests.jsonl`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{Nanos, Phase, RequestId, SpanId, TraceId};

mod json;

/// Most gaps between events that are kept of one answer.
pub const MOST_GAPS: usize = 100_000;

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

/// A row of `requests.jsonl`: one request, with its instants on the generator's monotonic clock.
///
/// Latency is `done - due`; service time is `done - sent`; the generator's lateness is
/// `sent - due` (for a dropped request `done - due`: the instant at which it was given up).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Line {
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
    /// When the connection that had to be opened for it was ready, name, TCP and TLS together, or another's
    /// that it waited for. `None` where one was free.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connected: Option<Nanos>,
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

/// One request, as [`Line`] has it, in 88 bytes: what a judge of millions holds in memory. Nothing of
/// the line is lost, but that more than 4 GiB of answer (256 times what is read) count as so many.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "Line", into = "Line")]
pub struct Observation {
    /// Place in the schedule.
    pub id: RequestId,
    /// When it should have been sent.
    pub due: Nanos,
    /// When the outcome was known.
    pub done: Nanos,
    sent: At,
    first_byte: At,
    /// W3C trace id sent in `traceparent`.
    pub trace: TraceId,
    /// W3C parent id sent in `traceparent`: the generator's client span.
    pub span: SpanId,
    /// What few requests have.
    more: Option<Box<More>>,
    /// Bytes of the answer's body that were read.
    pub bytes: u32,
    /// Index into the scenario's `requests`.
    pub request: u16,
    /// Index into the scenario's `loads`.
    pub load: u16,
    /// HTTP status, when there was an answer.
    pub status: Option<u16>,
    /// The phase in which the request was due.
    pub phase: Phase,
    /// How it ended.
    pub outcome: Outcome,
    /// Whether `traceparent` asked for the trace to be recorded.
    pub sampled: bool,
    /// Whether the answer agreed with the dataset's true label (`score`), where that was asked.
    pub correct: Option<bool>,
}

/// An instant that may not have come about; `u64::MAX`, which lies five centuries past the start of
/// the load, stands for that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct At(u64);

impl At {
    fn get(self) -> Option<Nanos> {
        (self.0 != u64::MAX).then_some(Nanos(self.0))
    }
}

impl From<Option<Nanos>> for At {
    fn from(at: Option<Nanos>) -> Self {
        Self(at.map_or(u64::MAX, |at| at.0.min(u64::MAX - 1)))
    }
}

#[derive(Debug, Clone, Default, PartialEq)]
struct More {
    connected: Option<Nanos>,
    first_event: Option<Nanos>,
    gaps: Box<[Nanos]>,
    detail: Option<Box<str>>,
}

impl From<Line> for Observation {
    fn from(line: Line) -> Self {
        let mut row = Self {
            id: line.id,
            due: line.due,
            done: line.done,
            sent: line.sent.into(),
            first_byte: line.first_byte.into(),
            trace: line.trace,
            span: line.span,
            more: None,
            bytes: u32::try_from(line.bytes).unwrap_or(u32::MAX),
            request: line.request,
            load: line.load,
            status: line.status,
            phase: line.phase,
            outcome: line.outcome,
            sampled: line.sampled,
            correct: line.correct,
        };
        if line.connected.is_some()
            || line.first_event.is_some()
            || !line.gaps.is_empty()
            || line.detail.is_some()
        {
            row.more = Some(Box::new(More {
                connected: line.connected,
                first_event: line.first_event,
                gaps: line.gaps.into(),
                detail: line.detail.map(String::into_boxed_str),
            }));
        }
        row
    }
}

impl From<Observation> for Line {
    fn from(row: Observation) -> Self {
        let (sent, first_byte) = (row.sent(), row.first_byte());
        let more = row.more.map(|more| *more).unwrap_or_default();
        Self {
            id: row.id,
            request: row.request,
            load: row.load,
            phase: row.phase,
            due: row.due,
            sent,
            connected: more.connected,
            first_byte,
            done: row.done,
            outcome: row.outcome,
            status: row.status,
            bytes: row.bytes.into(),
            first_event: more.first_event,
            gaps: more.gaps.into_vec(),
            trace: row.trace,
            span: row.span,
            sampled: row.sampled,
            correct: row.correct,
            detail: more.detail.map(String::from),
        }
    }
}

impl Observation {
    /// When sending began; `None` for one never sent. See [`Line::sent`].
    #[must_use]
    pub fn sent(&self) -> Option<Nanos> {
        self.sent.get()
    }

    /// Changes when sending began.
    pub fn set_sent(&mut self, at: Option<Nanos>) {
        self.sent = at.into();
    }

    /// When the first byte of the answer had been read.
    #[must_use]
    pub fn first_byte(&self) -> Option<Nanos> {
        self.first_byte.get()
    }

    /// Changes when the first byte of the answer had been read.
    pub fn set_first_byte(&mut self, at: Option<Nanos>) {
        self.first_byte = at.into();
    }

    /// When the connection opened for it was ready. See [`Line::connected`].
    #[must_use]
    pub fn connected(&self) -> Option<Nanos> {
        self.more.as_ref()?.connected
    }

    /// Changes when the connection opened for it was ready.
    pub fn set_connected(&mut self, at: Option<Nanos>) {
        self.more.get_or_insert_default().connected = at;
    }

    /// When the first event of a streamed answer had been read.
    #[must_use]
    pub fn first_event(&self) -> Option<Nanos> {
        self.more.as_ref()?.first_event
    }

    /// Changes when the events of a streamed answer came: the first, and the times from one to the
    /// next.
    pub fn set_events(&mut self, first: Option<Nanos>, gaps: Vec<Nanos>) {
        let more = self.more.get_or_insert_default();
        (more.first_event, more.gaps) = (first, gaps.into());
    }

    /// Times between one event of a streamed answer and the next, as [`Line::gaps`] has them.
    #[must_use]
    pub fn gaps(&self) -> &[Nanos] {
        self.more.as_ref().map_or(&[], |more| &more.gaps)
    }

    /// Short free text on what went wrong. Untrusted.
    #[must_use]
    pub fn detail(&self) -> Option<&str> {
        self.more.as_ref()?.detail.as_deref()
    }

    /// Changes that text.
    pub fn set_detail(&mut self, text: Option<String>) {
        self.more.get_or_insert_default().detail = text.map(String::into_boxed_str);
    }

    /// Time from due to done: what users wait.
    #[must_use]
    pub fn latency(&self) -> Nanos {
        self.done.since(self.due)
    }

    /// Time from sent to done: what the service took. `None` for a request never sent.
    #[must_use]
    pub fn service_time(&self) -> Option<Nanos> {
        self.sent().map(|sent| self.done.since(sent))
    }

    /// The longest gap between one event of a streamed answer and the next; zero with one event.
    /// `None` without events, and where there were so many that not all gaps are known.
    #[must_use]
    pub fn longest_gap(&self) -> Option<Nanos> {
        self.first_event()?;
        let gaps = self.gaps();
        (gaps.len() < MOST_GAPS).then(|| gaps.iter().copied().max().unwrap_or_default())
    }

    /// How late the generator was with this request.
    #[must_use]
    pub fn lateness(&self) -> Nanos {
        self.sent().unwrap_or(self.done).since(self.due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_small_and_comes_back_as_it_was() {
        assert_eq!(size_of::<Observation>(), 88);
        let mut line = Line {
            id: RequestId(1 << 40 | 7),
            request: 3,
            load: 1,
            phase: Phase::Measure,
            due: Nanos(5),
            sent: None,
            connected: None,
            first_byte: Some(Nanos(0)),
            done: Nanos(9),
            outcome: Outcome::WrongAnswer,
            status: Some(200),
            bytes: 1 << 20,
            first_event: None,
            gaps: Vec::new(),
            trace: TraceId([1; 16]),
            span: SpanId([2; 8]),
            sampled: true,
            correct: Some(false),
            detail: None,
        };
        let back = |line: &Line| Line::from(Observation::from(line.clone()));
        assert_eq!(back(&line), line);
        line.sent = Some(Nanos(6));
        line.detail = Some("why".into());
        assert_eq!(back(&line), line);
        line.connected = Some(Nanos(8));
        assert_eq!(back(&line), line);
        (line.first_event, line.gaps) = (Some(Nanos(7)), vec![Nanos(1), Nanos(2)]);
        assert_eq!(back(&line), line);
        let row = Observation::from(line.clone());
        let text = serde_json::to_string(&row).unwrap();
        assert_eq!(text, serde_json::to_string(&line).unwrap());
        assert_eq!(serde_json::from_str::<Observation>(&text).unwrap(), row);
        assert!(serde_json::from_str::<Observation>("{\"id\": 1, \"x\": 2}").is_err());
    }
}

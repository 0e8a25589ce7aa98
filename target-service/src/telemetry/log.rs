//! Log records: to OTLP, or as JSON lines on stdout, never both.
//!
//! A collector that reads stdout and a backend that receives OTLP would otherwise count every line
//! twice. Emitting never waits: OTLP goes through the SDK's bounded batch, and stdout through a
//! bounded channel to a thread of its own, since whoever reads the pipe may stop reading.

use std::io::Write;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use opentelemetry::logs::{AnyValue, LogRecord as _, Logger as _, Severity};
use opentelemetry::trace::SpanContext;
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::logs::{SdkLogger, SdkLoggerProvider};
use serde_json::{Map, json};

use super::export::Meter;
use super::identity::Identity;
use super::names::{reason, resource};

/// One log record.
#[derive(Debug, Clone)]
pub struct Line {
    /// When it happened.
    pub time: SystemTime,
    /// How bad it is.
    pub severity: Severity,
    /// What happened: one of [`super::names::event`]; body and event name.
    pub event: &'static str,
    /// The span it belongs to, if any.
    pub span: Option<SpanContext>,
    /// Details.
    pub attributes: Vec<KeyValue>,
}

/// Where log records go.
pub trait Sink: Send + Sync {
    /// Hands a record over. Never waits, never fails the caller.
    fn emit(&self, line: Line);

    /// Sends what is left, for at most `timeout`.
    fn shutdown(&self, timeout: Duration);
}

/// Nowhere.
#[derive(Debug, Default)]
pub struct Nowhere;

impl Sink for Nowhere {
    fn emit(&self, _: Line) {}

    fn shutdown(&self, _: Duration) {}
}

/// OTLP, through an SDK provider.
#[derive(Debug)]
pub(super) struct Otlp {
    pub(super) logger: SdkLogger,
    pub(super) provider: SdkLoggerProvider,
}

impl Sink for Otlp {
    fn emit(&self, line: Line) {
        let mut record = self.logger.create_log_record();
        record.set_timestamp(line.time);
        record.set_severity_number(line.severity);
        record.set_severity_text(line.severity.name());
        record.set_event_name(line.event);
        record.set_body(AnyValue::from(line.event));
        if let Some(span) = line.span {
            record.set_trace_context(span.trace_id(), span.span_id(), Some(span.trace_flags()));
        }
        for KeyValue { key, value, .. } in line.attributes {
            record.add_attribute(key, any(value));
        }
        self.logger.emit(record);
    }

    fn shutdown(&self, timeout: Duration) {
        // What could not be sent is already counted where it was lost.
        let _ = self.provider.shutdown_with_timeout(timeout);
    }
}

fn any(value: Value) -> AnyValue {
    match value {
        Value::Bool(v) => AnyValue::Boolean(v),
        Value::I64(v) => AnyValue::Int(v),
        Value::F64(v) => AnyValue::Double(v),
        other => AnyValue::String(other.as_str().into_owned().into()),
    }
}

/// JSON lines, written by a thread of their own.
pub(super) struct Console {
    sender: Mutex<Option<SyncSender<Line>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
    meter: Arc<Meter>,
}

/// Lines between the request path and the pipe, at most.
const CONSOLE_BOUND: usize = 16_384;

impl Console {
    /// Starts the writing thread.
    ///
    /// # Errors
    /// When the system has no more threads to give.
    pub(super) fn start(
        out: impl Write + Send + 'static,
        identity: &Identity,
        meter: Meter,
    ) -> std::io::Result<Console> {
        let (sender, receiver) = sync_channel(CONSOLE_BOUND);
        let service = [resource::SERVICE_NAME, resource::SERVICE_VERSION]
            .map(|key| (key, identity.get(key).to_owned()));
        let meter = Arc::new(meter);
        let counted = meter.clone();
        let writer = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || write_lines(out, &receiver, &service, &counted))?;
        Ok(Console {
            sender: Mutex::new(Some(sender)),
            writer: Mutex::new(Some(writer)),
            meter,
        })
    }
}

impl Sink for Console {
    fn emit(&self, line: Line) {
        if !self.meter.enter() {
            return;
        }
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = match sender.as_ref() {
            Some(sender) => sender.try_send(line),
            None => return self.meter.left(1, Err(reason::EXPORT_FAILED)),
        };
        match sent {
            Ok(()) => {}
            Err(TrySendError::Full(_)) => self.meter.left(1, Err(reason::QUEUE_FULL)),
            Err(TrySendError::Disconnected(_)) => self.meter.left(1, Err(reason::EXPORT_FAILED)),
        }
    }

    fn shutdown(&self, timeout: Duration) {
        drop(
            self.sender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let writer = self
            .writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let Some(writer) = writer else { return };
        // A pipe nobody reads would hold the join for ever: a second thread joins, this one waits
        // for its word no longer than it may.
        let (done, finished) = sync_channel::<()>(1);
        let joiner = std::thread::Builder::new()
            .name("log-joiner".to_owned())
            .spawn(move || {
                let _ = writer.join();
                let _ = done.send(());
            });
        if joiner.is_ok() {
            let _ = finished.recv_timeout(timeout);
        }
    }
}

fn write_lines(
    out: impl Write,
    lines: &Receiver<Line>,
    service: &[(&'static str, String)],
    meter: &Meter,
) {
    let mut out = std::io::BufWriter::new(out);
    while let Ok(first) = lines.recv() {
        // What has gathered meanwhile is written with one flush.
        let mut written = 0;
        let mut result = Ok(());
        for line in std::iter::once(first).chain(lines.try_iter()) {
            result = result.and_then(|()| writeln!(out, "{}", render(&line, service)));
            written += 1;
        }
        result = result.and_then(|()| out.flush());
        meter.left(written, result.map_err(|_| reason::EXPORT_FAILED));
    }
}

/// A record as one line of JSON: the OpenTelemetry field names at the top, attributes beside them.
fn render(line: &Line, service: &[(&'static str, String)]) -> String {
    let mut object = Map::new();
    object.insert("timestamp".to_owned(), json!(rfc3339(line.time)));
    object.insert("severity_text".to_owned(), json!(line.severity.name()));
    object.insert("severity_number".to_owned(), json!(line.severity as i32));
    object.insert("body".to_owned(), json!(line.event));
    if let Some(span) = &line.span {
        object.insert("trace_id".to_owned(), json!(span.trace_id().to_string()));
        object.insert("span_id".to_owned(), json!(span.span_id().to_string()));
    }
    for (key, value) in service {
        object.insert((*key).to_owned(), json!(value));
    }
    for KeyValue { key, value, .. } in &line.attributes {
        let value = match value {
            Value::Bool(v) => json!(v),
            Value::I64(v) => json!(v),
            Value::F64(v) => json!(v),
            other => json!(other.as_str()),
        };
        object.insert(key.as_str().to_owned(), value);
    }
    serde_json::Value::Object(object).to_string()
}

/// UTC with nanoseconds. The calendar is the proleptic Gregorian one, from days since 1970 by way
/// of 400-year eras that begin in March, so that the leap day is the last of its year.
fn rfc3339(time: SystemTime) -> String {
    // Before 1970 there were no log lines.
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let nanos = since.subsec_nanos();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::Faults;
    use crate::telemetry::Metrics;
    use crate::telemetry::names::{event, signal};

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (951_782_400, "2000-02-29T00:00:00.000000000Z"),
            (1_709_251_199, "2024-02-29T23:59:59.000000000Z"),
            (1_735_689_599, "2024-12-31T23:59:59.000000000Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000000000Z"),
        ] {
            assert_eq!(rfc3339(UNIX_EPOCH + Duration::from_secs(seconds)), text);
        }
    }

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn line(n: i64) -> Line {
        let attributes = vec![KeyValue::new("n", n), KeyValue::new("text", "a \"b\"\n")];
        let time = UNIX_EPOCH + Duration::from_nanos(1);
        Line {
            time,
            severity: Severity::Warn,
            event: event::REQUEST,
            span: None,
            attributes,
        }
    }

    fn meter(bound: usize) -> (Meter, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::for_tests());
        let faults = Arc::new(Faults::default());
        (
            Meter::new(signal::LOGS, bound, metrics.clone(), faults),
            metrics,
        )
    }

    #[test]
    fn every_line_is_one_json_object_and_shutdown_writes_the_rest() {
        let out = Shared::default();
        let (meter, metrics) = meter(1000);
        let console = Console::start(out.clone(), &Identity::for_tests(), meter).unwrap();
        for n in 0..100 {
            console.emit(line(n));
        }
        console.shutdown(Duration::from_secs(60));
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<serde_json::Value> = text
            .lines()
            .map(|l| serde_json::from_str(l).unwrap())
            .collect();
        assert_eq!(lines.len(), 100);
        assert_eq!(lines[99]["n"], 99);
        assert_eq!(lines[0]["severity_text"], "WARN");
        assert_eq!(lines[0]["body"], "request completed");
        assert_eq!(lines[0]["service.name"], "target-service");
        assert_eq!(lines[0]["timestamp"], "1970-01-01T00:00:00.000000001Z");
        assert_eq!(
            metrics
                .telemetry_exported
                .with_label_values(&[signal::LOGS])
                .get(),
            100
        );
        console.emit(line(0));
        let lost = [signal::LOGS, reason::EXPORT_FAILED];
        assert_eq!(metrics.telemetry_dropped.with_label_values(&lost).get(), 1);
    }

    /// A pipe nobody reads.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            Err(std::io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_never_time() {
        let (free, stuck) = sync_channel(0);
        let (meter, metrics) = meter(10);
        let console = Console::start(Stuck(stuck), &Identity::for_tests(), meter).unwrap();
        for n in 0..100 {
            console.emit(line(n));
        }
        let full = [signal::LOGS, reason::QUEUE_FULL];
        assert_eq!(metrics.telemetry_dropped.with_label_values(&full).get(), 90);
        console.shutdown(Duration::ZERO);
        drop(free);
    }
}

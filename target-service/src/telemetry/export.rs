//! Between the SDK's batch processors and the wire: bounds, the cut, and the count of what was lost.
//!
//! The SDK drops silently when its queue is full and only logs when an export fails. A harness that
//! counts evidence needs to know, so each signal passes a [`Meter`]: it keeps the number of items
//! between the request path and the wire under the SDK's bound (and therefore never lets the SDK
//! drop unseen), and counts deliveries, failures and what a `telemetry_cut` fault swallowed.
//! Nothing here waits: the request path does two atomic operations and a `try_send`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use opentelemetry::{Context, InstrumentationScope};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::logs::{LogBatch, LogExporter, LogProcessor, SdkLogRecord};
use opentelemetry_sdk::trace::{Span, SpanData, SpanExporter, SpanProcessor};

use super::metrics::Metrics;
use super::names::reason;
use crate::faults::Faults;

/// Items between request path and wire, at most, a signal. At seven spans a request this is several
/// seconds of a thousand requests a second; at about 600 bytes a span, some 20 MB at worst.
pub(super) const QUEUE_BOUND: usize = 32_768;
/// How long an item waits for company before it is sent: fresh evidence at little cost.
pub(super) const EXPORT_DELAY: Duration = Duration::from_millis(500);
/// Items in one export request.
pub(super) const EXPORT_BATCH: usize = 512;

/// Counts one signal on its way out.
#[derive(Clone)]
pub(super) struct Meter {
    signal: &'static str,
    on_the_way: Arc<AtomicUsize>,
    bound: usize,
    metrics: Arc<Metrics>,
    faults: Arc<Faults>,
}

impl fmt::Debug for Meter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Meter")
            .field("signal", &self.signal)
            .finish_non_exhaustive()
    }
}

impl Meter {
    pub(super) fn new(
        signal: &'static str,
        bound: usize,
        metrics: Arc<Metrics>,
        faults: Arc<Faults>,
    ) -> Meter {
        Meter {
            signal,
            on_the_way: Arc::default(),
            bound,
            metrics,
            faults,
        }
    }

    /// Whether an item may go on; counts it either way.
    pub(super) fn enter(&self) -> bool {
        if self.cut() {
            self.lost(reason::CUT, 1);
            return false;
        }
        if self.on_the_way.fetch_add(1, Ordering::AcqRel) >= self.bound {
            self.on_the_way.fetch_sub(1, Ordering::AcqRel);
            self.lost(reason::QUEUE_FULL, 1);
            return false;
        }
        true
    }

    /// Whether telemetry is cut at this moment.
    pub(super) fn cut(&self) -> bool {
        self.faults.telemetry_is_cut(Instant::now())
    }

    /// `n` items have left the way, delivered or not.
    pub(super) fn left(&self, n: usize, outcome: Result<(), &'static str>) {
        self.on_the_way.fetch_sub(n, Ordering::AcqRel);
        match outcome {
            Ok(()) => {
                self.metrics
                    .telemetry_exported
                    .with_label_values(&[self.signal])
                    .inc_by(n as u64);
            }
            Err(reason) => self.lost(reason, n),
        }
    }

    fn lost(&self, reason: &'static str, n: usize) {
        let dropped = &self.metrics.telemetry_dropped;
        dropped
            .with_label_values(&[self.signal, reason])
            .inc_by(n as u64);
    }
}

/// Lets items through to `inner` as the meter allows.
#[derive(Debug)]
pub(super) struct Door<P> {
    pub(super) inner: P,
    pub(super) meter: Meter,
}

impl<P: SpanProcessor> SpanProcessor for Door<P> {
    fn on_start(&self, span: &mut Span, cx: &Context) {
        self.inner.on_start(span, cx);
    }

    fn on_end(&self, span: SpanData) {
        if span.span_context.is_sampled() && self.meter.enter() {
            self.inner.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<P: LogProcessor> LogProcessor for Door<P> {
    fn emit(&self, record: &mut SdkLogRecord, scope: &InstrumentationScope) {
        if self.meter.enter() {
            self.inner.emit(record, scope);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

/// Counts what `inner` delivers. Batches that were queued when the cut began are swallowed too.
#[derive(Debug)]
pub(super) struct Exit<E> {
    pub(super) inner: E,
    pub(super) meter: Meter,
}

impl<E> Exit<E> {
    fn settle(&self, n: usize, result: &OTelSdkResult) {
        let outcome = if result.is_ok() {
            Ok(())
        } else {
            Err(reason::EXPORT_FAILED)
        };
        self.meter.left(n, outcome);
    }
}

impl<E: SpanExporter> SpanExporter for Exit<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let n = batch.len();
        if self.meter.cut() {
            self.meter.left(n, Err(reason::CUT));
            return Ok(());
        }
        let result = self.inner.export(batch).await;
        self.settle(n, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.inner.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

impl<E: LogExporter> LogExporter for Exit<E> {
    async fn export(&self, batch: LogBatch<'_>) -> OTelSdkResult {
        let n = batch.iter().count();
        if self.meter.cut() {
            self.meter.left(n, Err(reason::CUT));
            return Ok(());
        }
        let result = self.inner.export(batch).await;
        self.settle(n, &result);
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.inner.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.inner.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::{Kind, Request};
    use crate::telemetry::names::signal;

    fn dropped(metrics: &Metrics, reason: &str) -> u64 {
        metrics
            .telemetry_dropped
            .with_label_values(&[signal::TRACES, reason])
            .get()
    }

    #[test]
    fn what_does_not_get_through_is_counted_by_reason() {
        let metrics = Arc::new(Metrics::for_tests());
        let faults = Arc::new(Faults::default());
        let meter = Meter::new(signal::TRACES, 2, metrics.clone(), faults.clone());
        assert!(meter.enter() && meter.enter());
        assert!(!meter.enter(), "the bound is two");
        meter.left(1, Ok(()));
        assert!(meter.enter(), "one left, so one may enter");
        meter.left(2, Err(reason::EXPORT_FAILED));
        let cut = Request {
            kind: Kind::TelemetryCut,
            add_ms: None,
            share: None,
            for_ms: 60_000,
        };
        faults.start(Instant::now(), cut).unwrap();
        assert!(!meter.enter());
        assert_eq!(dropped(&metrics, reason::QUEUE_FULL), 1);
        assert_eq!(dropped(&metrics, reason::EXPORT_FAILED), 2);
        assert_eq!(dropped(&metrics, reason::CUT), 1);
        assert_eq!(
            metrics
                .telemetry_exported
                .with_label_values(&[signal::TRACES])
                .get(),
            1
        );
        faults.clear(Instant::now());
        assert!(meter.enter());
    }
}

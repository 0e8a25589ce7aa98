//! What the service tells its observers. Names are in [`names`]; `TELEMETRY.md` is the contract.

#[cfg(test)]
mod contract_tests;
mod export;
mod http;
mod identity;
mod log;
mod metrics;
pub mod names;
mod process;
mod trace;

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::logs::LoggerProvider as _;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{ExporterBuildError, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::logs::{
    BatchConfigBuilder as LogBatchConfig, BatchLogProcessor, SdkLoggerProvider,
};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder as SpanBatchConfig, BatchSpanProcessor, SdkTracer, SdkTracerProvider,
    SpanProcessor,
};

pub use identity::{BadAttribute, Identity};
pub use log::{Line, Nowhere, Sink};
pub use metrics::{CONTENT_TYPE, Metrics};
pub use trace::{Anchor, RequestTrace, Stage};

use crate::config::{Endpoint, LogRoute, Protocol, TelemetryConfig};
use crate::faults::Faults;
use export::{Door, EXPORT_BATCH, EXPORT_DELAY, Exit, Meter, QUEUE_BOUND};

/// Everything through which the service speaks.
pub struct Telemetry {
    /// Numbers, scraped.
    pub metrics: Arc<Metrics>,
    /// Log records.
    pub logs: Arc<dyn Sink>,
    /// Who is speaking.
    pub identity: Identity,
    /// Entries of the callers' baggage that are put on server spans and log lines.
    pub baggage: Vec<String>,
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

/// Why telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// An exporter refused its configuration.
    #[error("OTLP exporter for {signal}: {source}")]
    Exporter {
        /// `traces` or `logs`.
        signal: &'static str,
        /// The exporter's reason.
        source: ExporterBuildError,
    },
    /// A metric cannot be registered.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
    /// The log thread cannot be started.
    #[error("log writer: {0}")]
    Thread(#[from] std::io::Error),
}

impl Telemetry {
    /// Sets up exporters as configured. Must be called within a tokio runtime, which then carries
    /// the exporters' connections; nothing is connected until there is something to send.
    ///
    /// # Errors
    /// [`SetupError`]; a collector that does not answer is no error, now or later.
    pub fn start(
        config: &TelemetryConfig,
        identity: Identity,
        faults: &Arc<Faults>,
    ) -> Result<Telemetry, SetupError> {
        let metrics = Arc::new(Metrics::new(&identity)?);
        let meter = |signal| Meter::new(signal, QUEUE_BOUND, metrics.clone(), faults.clone());
        let mut spans: Option<Box<dyn SpanProcessor>> = None;
        if let Some(endpoint) = &config.traces {
            spans = Some(Box::new(span_pipeline(
                endpoint,
                meter(names::signal::TRACES),
            )?));
        }
        let log_meter = meter(names::signal::LOGS);
        let logs: Arc<dyn Sink> = match &config.logs {
            LogRoute::None => Arc::new(Nowhere),
            LogRoute::Console => Arc::new(log::Console::start(
                std::io::stdout(),
                &identity,
                log_meter,
            )?),
            LogRoute::Otlp(endpoint) => Arc::new(log_pipeline(endpoint, &identity, log_meter)?),
        };
        let telemetry = Telemetry::assemble(metrics, identity, spans, logs);
        Ok(Telemetry {
            baggage: config.baggage.clone(),
            ..telemetry
        })
    }

    /// Puts given parts together; without `spans` no child spans are made, but requests still get
    /// trace ids for their log lines.
    pub fn assemble(
        metrics: Arc<Metrics>,
        identity: Identity,
        spans: Option<Box<dyn SpanProcessor>>,
        logs: Arc<dyn Sink>,
    ) -> Telemetry {
        let mut provider = SdkTracerProvider::builder().with_resource(identity.resource());
        if let Some(spans) = spans {
            provider = provider.with_span_processor(Boxed(spans));
        }
        let provider = provider.build();
        let tracer = provider.tracer(names::SCOPE);
        Telemetry {
            metrics,
            logs,
            identity,
            baggage: Vec::new(),
            provider,
            tracer,
        }
    }

    /// Makes spans.
    pub fn tracer(&self) -> &SdkTracer {
        &self.tracer
    }

    /// Sends what is left, spans and log records each for at most `timeout`. Blocks.
    pub fn shutdown(&self, timeout: Duration) {
        // What could not be sent is counted where it was lost; there is nobody left to tell.
        let _ = self.provider.shutdown_with_timeout(timeout);
        self.logs.shutdown(timeout);
    }
}

/// The SDK takes processors by type; ours is chosen at run time.
#[derive(Debug)]
struct Boxed(Box<dyn SpanProcessor>);

impl SpanProcessor for Boxed {
    fn on_start(&self, span: &mut opentelemetry_sdk::trace::Span, cx: &opentelemetry::Context) {
        self.0.on_start(span, cx);
    }

    fn on_end(&self, span: opentelemetry_sdk::trace::SpanData) {
        self.0.on_end(span);
    }

    fn force_flush(&self) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> opentelemetry_sdk::error::OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &opentelemetry_sdk::Resource) {
        self.0.set_resource(resource);
    }
}

/// Builds an exporter of either kind for an [`Endpoint`].
macro_rules! exporter {
    ($kind:ident, $endpoint:expr, $signal:expr) => {{
        let (builder, endpoint) = (opentelemetry_otlp::$kind::builder(), $endpoint);
        let built = match endpoint.protocol {
            Protocol::Grpc => builder.with_tonic().with_endpoint(&endpoint.url).build(),
            Protocol::Http => builder
                .with_http()
                .with_http_client(http::Client::new(endpoint.timeout))
                .with_protocol(opentelemetry_otlp::Protocol::HttpBinary)
                .with_endpoint(&endpoint.url)
                .build(),
        };
        built.map_err(|source| SetupError::Exporter {
            signal: $signal,
            source,
        })
    }};
}

fn span_pipeline(
    endpoint: &Endpoint,
    meter: Meter,
) -> Result<Door<BatchSpanProcessor>, SetupError> {
    let exporter = exporter!(SpanExporter, endpoint, names::signal::TRACES)?;
    let mut config = SpanBatchConfig::default()
        // One more than the door lets in: what the SDK drops it drops uncounted.
        .with_max_queue_size(QUEUE_BOUND + 1)
        .with_max_export_batch_size(EXPORT_BATCH);
    if std::env::var_os("OTEL_BSP_SCHEDULE_DELAY").is_none() {
        config = config.with_scheduled_delay(EXPORT_DELAY);
    }
    let exit = Exit {
        inner: exporter,
        meter: meter.clone(),
    };
    let inner = BatchSpanProcessor::builder(exit)
        .with_batch_config(config.build())
        .build();
    Ok(Door { inner, meter })
}

fn log_pipeline(
    endpoint: &Endpoint,
    identity: &Identity,
    meter: Meter,
) -> Result<log::Otlp, SetupError> {
    let exporter = exporter!(LogExporter, endpoint, names::signal::LOGS)?;
    let mut config = LogBatchConfig::default()
        .with_max_queue_size(QUEUE_BOUND + 1)
        .with_max_export_batch_size(EXPORT_BATCH);
    if std::env::var_os("OTEL_BLRP_SCHEDULE_DELAY").is_none() {
        config = config.with_scheduled_delay(EXPORT_DELAY);
    }
    let exit = Exit {
        inner: exporter,
        meter: meter.clone(),
    };
    let inner = BatchLogProcessor::builder(exit)
        .with_batch_config(config.build())
        .build();
    let provider = SdkLoggerProvider::builder()
        .with_resource(identity.resource())
        .with_log_processor(Door { inner, meter })
        .build();
    Ok(log::Otlp {
        logger: provider.logger(names::SCOPE),
        provider,
    })
}

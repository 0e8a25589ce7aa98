//! The metrics, in a registry of their own: nothing global, so that tests run side by side.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Encoder, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, Opts,
    Registry, TextEncoder,
};

use super::identity::Identity;
use super::names::{self, Metric, reason, signal};
use super::process::ProcessMetrics;

/// Media type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All metrics of one service.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    process: ProcessMetrics,
    /// [`names::REQUEST_DURATION`]
    pub request_duration: HistogramVec,
    /// [`names::ACTIVE_REQUESTS`]
    pub active_requests: IntGauge,
    /// [`names::QUEUE_DEPTH`]
    pub queue_depth: IntGauge,
    /// [`names::QUEUE_CAPACITY`]
    pub queue_capacity: IntGauge,
    /// [`names::QUEUE_WAIT`]
    pub queue_wait: Histogram,
    /// [`names::BATCH_SIZE`]
    pub batch_size: Histogram,
    /// [`names::BATCH_TOKENS`]
    pub batch_tokens: Histogram,
    /// [`names::INFERENCE_DURATION`]
    pub inference_duration: Histogram,
    /// [`names::REJECTED`]
    pub rejected: IntCounterVec,
    /// [`names::TELEMETRY_DROPPED`]
    pub telemetry_dropped: IntCounterVec,
    /// [`names::TELEMETRY_EXPORTED`]
    pub telemetry_exported: IntCounterVec,
    /// [`names::GEN_AI_DURATION`]
    pub gen_ai_duration: HistogramVec,
    /// [`names::TIME_TO_FIRST_TOKEN`]
    pub time_to_first_token: HistogramVec,
    /// [`names::TIME_PER_OUTPUT_TOKEN`]
    pub time_per_output_token: HistogramVec,
    /// [`names::TOKENS`]
    pub tokens: IntCounterVec,
    /// [`names::SEQUENCES`]
    pub sequences: IntGauge,
    /// [`names::MODEL_LOAD`]
    pub model_load: GaugeVec,
    /// [`names::MODEL_INFO`]
    pub model_info: GaugeVec,
}

impl Metrics {
    /// Registers every metric of [`names::METRICS`]. Series that an observer will subtract or
    /// divide by exist at zero from the first scrape, so that "none yet" is a number.
    ///
    /// # Errors
    /// When a name is registered twice or is no metric name: a defect in [`names`], or a resource
    /// attribute whose key makes no label.
    pub fn new(identity: &Identity) -> Result<Metrics, prometheus::Error> {
        let registry = Registry::new();
        let latency = names::LATENCY_BUCKETS;
        let metrics = Metrics {
            process: ProcessMetrics::register(&registry)?,
            request_duration: histogram_vec(&registry, names::REQUEST_DURATION, latency)?,
            active_requests: gauge(&registry, names::ACTIVE_REQUESTS)?,
            queue_depth: gauge(&registry, names::QUEUE_DEPTH)?,
            queue_capacity: gauge(&registry, names::QUEUE_CAPACITY)?,
            queue_wait: histogram(&registry, names::QUEUE_WAIT, latency)?,
            batch_size: histogram(&registry, names::BATCH_SIZE, names::BATCH_SIZE_BUCKETS)?,
            batch_tokens: histogram(&registry, names::BATCH_TOKENS, names::BATCH_TOKEN_BUCKETS)?,
            inference_duration: histogram(&registry, names::INFERENCE_DURATION, latency)?,
            rejected: counter_vec(&registry, names::REJECTED)?,
            telemetry_dropped: counter_vec(&registry, names::TELEMETRY_DROPPED)?,
            telemetry_exported: counter_vec(&registry, names::TELEMETRY_EXPORTED)?,
            gen_ai_duration: histogram_vec(
                &registry,
                names::GEN_AI_DURATION,
                names::GEN_AI_BUCKETS,
            )?,
            time_to_first_token: histogram_vec(
                &registry,
                names::TIME_TO_FIRST_TOKEN,
                names::FIRST_TOKEN_BUCKETS,
            )?,
            time_per_output_token: histogram_vec(
                &registry,
                names::TIME_PER_OUTPUT_TOKEN,
                names::TOKEN_BUCKETS,
            )?,
            tokens: counter_vec(&registry, names::TOKENS)?,
            sequences: gauge(&registry, names::SEQUENCES)?,
            model_load: gauge_vec(&registry, names::MODEL_LOAD)?,
            model_info: gauge_vec(&registry, names::MODEL_INFO)?,
            registry,
        };
        metrics.show_identity(identity)?;
        metrics
            .request_duration
            .with_label_values(&["POST", crate::serve::PREDICT, "200"]);
        for reason in reason::REJECTIONS {
            metrics.rejected.with_label_values(&[reason]);
        }
        for signal in signal::ALL {
            metrics.telemetry_exported.with_label_values(&[signal]);
            for reason in reason::DROPS {
                metrics
                    .telemetry_dropped
                    .with_label_values(&[signal, reason]);
            }
        }
        Ok(metrics)
    }

    /// Metrics of nobody in particular.
    #[cfg(test)]
    pub(crate) fn for_tests() -> Metrics {
        Metrics::new(&Identity::for_tests()).unwrap()
    }

    fn show_identity(&self, identity: &Identity) -> Result<(), prometheus::Error> {
        let mut info = opts(names::TARGET_INFO);
        for (key, value) in identity.attributes() {
            info = info.const_label(label_name(key), value);
        }
        let info = add(&self.registry, prometheus::Gauge::with_opts(info)?)?;
        info.set(1.0);
        Ok(())
    }

    /// Names the model that answers from now on, and how long it took to be ready.
    /// It is asked for `operation` where it belongs to the `GenAI` conventions.
    pub fn show_model(&self, name: &str, revision: &str, operation: &'static str, load: Duration) {
        self.model_load.reset();
        self.model_load
            .with_label_values(&[name])
            .set(load.as_secs_f64());
        // Series that are divided by are there from the start.
        self.gen_ai_duration
            .with_label_values(&[operation, name, ""]);
        self.tokens
            .with_label_values(&[operation, name, names::token::INPUT]);
        if operation == names::TEXT_COMPLETION {
            let labels = [operation, name];
            self.tokens
                .with_label_values(&[operation, name, names::token::OUTPUT]);
            self.time_to_first_token.with_label_values(&labels);
            self.time_per_output_token.with_label_values(&labels);
        }
        self.model_info.reset();
        self.model_info
            .with_label_values(&[name, revision])
            .set(1.0);
    }

    /// The text exposition of this moment. Reads `/proc`.
    ///
    /// # Errors
    /// When a family cannot be written, which needs a defect in the encoder.
    pub fn render(&self) -> Result<Vec<u8>, prometheus::Error> {
        self.process.refresh();
        let mut text = Vec::with_capacity(16 * 1024);
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// A resource attribute's key as a label name: everything but letters and digits becomes `_`.
fn label_name(key: &str) -> String {
    let clean = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let name: String = key.chars().map(clean).collect();
    if name.starts_with(|c: char| c.is_ascii_digit()) {
        format!("_{name}")
    } else {
        name
    }
}

fn opts(metric: Metric) -> Opts {
    Opts::new(metric.name, metric.help)
}

fn add<C: Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> Result<C, prometheus::Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

pub(super) fn gauge(registry: &Registry, metric: Metric) -> Result<IntGauge, prometheus::Error> {
    add(registry, IntGauge::with_opts(opts(metric))?)
}

fn gauge_vec(registry: &Registry, metric: Metric) -> Result<GaugeVec, prometheus::Error> {
    add(registry, GaugeVec::new(opts(metric), metric.labels)?)
}

fn counter_vec(registry: &Registry, metric: Metric) -> Result<IntCounterVec, prometheus::Error> {
    add(registry, IntCounterVec::new(opts(metric), metric.labels)?)
}

fn histogram_opts(metric: Metric, buckets: &[f64]) -> HistogramOpts {
    HistogramOpts::from(opts(metric)).buckets(buckets.to_vec())
}

fn histogram(
    registry: &Registry,
    metric: Metric,
    buckets: &[f64],
) -> Result<Histogram, prometheus::Error> {
    add(
        registry,
        Histogram::with_opts(histogram_opts(metric, buckets))?,
    )
}

fn histogram_vec(
    registry: &Registry,
    metric: Metric,
    buckets: &[f64],
) -> Result<HistogramVec, prometheus::Error> {
    add(
        registry,
        HistogramVec::new(histogram_opts(metric, buckets), metric.labels)?,
    )
}

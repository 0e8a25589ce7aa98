//! OTLP metrics.

use super::MetricStore;
use crate::Ingested;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, metric::Data};

impl MetricStore {
    /// Takes OTLP metrics. Not supported yet: every data point is refused and said so.
    pub fn ingest_otlp(&self, payload: Vec<ResourceMetrics>) -> Ingested {
        let points = payload
            .iter()
            .flat_map(|r| &r.scope_metrics)
            .flat_map(|s| &s.metrics)
            .map(|m| match &m.data {
                None => 0,
                Some(Data::Gauge(d)) => d.data_points.len(),
                Some(Data::Sum(d)) => d.data_points.len(),
                Some(Data::Histogram(d)) => d.data_points.len(),
                Some(Data::ExponentialHistogram(d)) => d.data_points.len(),
                Some(Data::Summary(d)) => d.data_points.len(),
            })
            .sum::<usize>() as u64;
        Ingested {
            accepted: 0,
            rejected: points,
            message: if points > 0 {
                "OTLP metrics are not supported; expose them for scraping".into()
            } else {
                String::new()
            },
        }
    }
}

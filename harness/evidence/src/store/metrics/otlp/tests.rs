use super::*;
use crate::store::metrics::{MatchOp, Matcher, is_stale};
use opentelemetry_proto::tonic::common::v1::{AnyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, ScopeMetrics, Sum,
};
use opentelemetry_proto::tonic::resource::v1::Resource;

fn attribute(key: &str, value: &str) -> KeyValue {
    KeyValue {
        key: key.into(),
        value: Some(AnyValue {
            value: Some(any_value::Value::StringValue(value.into())),
        }),
        ..KeyValue::default()
    }
}

fn payload(data: Data, name: &str, unit: &str) -> Vec<ResourceMetrics> {
    let metric = Metric {
        name: name.into(),
        unit: unit.into(),
        data: Some(data),
        ..Metric::default()
    };
    vec![ResourceMetrics {
        resource: Some(Resource {
            attributes: vec![
                attribute("service.name", "sut"),
                attribute("service.namespace", "ml"),
                attribute("service.version", "1.2"),
            ],
            ..Resource::default()
        }),
        scope_metrics: vec![ScopeMetrics {
            metrics: vec![metric],
            ..ScopeMetrics::default()
        }],
        ..ResourceMetrics::default()
    }]
}

fn point(t_ms: u64, v: i64) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![attribute("http.route", "/predict")],
        time_unix_nano: t_ms * 1_000_000,
        value: Some(Value::AsInt(v)),
        ..NumberDataPoint::default()
    }
}

fn sum(temporality: AggregationTemporality, points: Vec<NumberDataPoint>) -> Data {
    Data::Sum(Sum {
        data_points: points,
        aggregation_temporality: temporality as i32,
        is_monotonic: true,
    })
}

fn stored(store: &MetricStore) -> Vec<String> {
    let all = Matcher::new("job", MatchOp::Regex, ".+").expect("valid");
    let series = store.read().select(&[all], 0, i64::MAX, &mut 1000);
    let series = series.expect("in budget");
    series
        .iter()
        .map(|s| format!("{} {:?} {:?}", s.labels, s.times, s.values))
        .collect()
}

#[test]
fn a_cumulative_sum_becomes_a_counter_with_its_resource() {
    let store = MetricStore::default();
    let data = sum(
        AggregationTemporality::Cumulative,
        vec![point(1000, 3), point(2000, 5)],
    );
    let out = store.ingest_otlp(payload(data, "requests.served", "1"));
    assert_eq!((out.accepted, out.rejected), (2, 0), "{}", out.message);
    assert_eq!(
        stored(&store),
        [
            r#"{__name__="requests_served_total", http_route="/predict", job="ml/sut"} [1000, 2000] [3.0, 5.0]"#,
            r#"{__name__="target_info", job="ml/sut", service_version="1.2"} [2000] [1.0]"#,
        ]
    );
}

#[test]
fn a_histogram_becomes_cumulative_buckets() {
    let store = MetricStore::default();
    let good = HistogramDataPoint {
        time_unix_nano: 1_000_000_000,
        count: 6,
        sum: Some(1.5),
        bucket_counts: vec![1, 2, 3],
        explicit_bounds: vec![0.1, 1.0],
        ..HistogramDataPoint::default()
    };
    let bad = HistogramDataPoint {
        bucket_counts: vec![1],
        ..good.clone()
    };
    let data = Data::Histogram(Histogram {
        data_points: vec![good, bad],
        aggregation_temporality: AggregationTemporality::Cumulative as i32,
    });
    let out = store.ingest_otlp(payload(data, "latency", "s"));
    assert_eq!((out.accepted, out.rejected), (1, 1));
    assert!(
        out.message.contains("2 bounds need 3 bucket counts, got 1"),
        "{}",
        out.message
    );
    let text = stored(&store).join("\n");
    for want in [
        r#"latency_seconds_bucket", job="ml/sut", le="0.1"} [1000] [1.0]"#,
        r#"latency_seconds_bucket", job="ml/sut", le="1.0"} [1000] [3.0]"#,
        r#"latency_seconds_bucket", job="ml/sut", le="+Inf"} [1000] [6.0]"#,
        r#"latency_seconds_count", job="ml/sut"} [1000] [6.0]"#,
        r#"latency_seconds_sum", job="ml/sut"} [1000] [1.5]"#,
    ] {
        assert!(text.contains(want), "{want} not in\n{text}");
    }
}

#[test]
fn what_is_not_supported_is_refused_by_name_and_counted() {
    let store = MetricStore::default();
    let exponential = Data::ExponentialHistogram(ExponentialHistogram {
        data_points: vec![ExponentialHistogramDataPoint::default(); 2],
        ..ExponentialHistogram::default()
    });
    let no_time = sum(AggregationTemporality::Cumulative, vec![point(0, 1)]);
    let no_value = Data::Gauge(Gauge {
        data_points: vec![NumberDataPoint {
            value: None,
            ..point(1, 1)
        }],
    });
    for (data, n, want) in [
        (
            sum(AggregationTemporality::Delta, vec![point(1, 1)]),
            1,
            "not cumulative",
        ),
        (exponential, 2, "an exponential histogram is not supported"),
        (no_time, 1, "has no time"),
        (no_value, 1, "has no value"),
    ] {
        let out = store.ingest_otlp(payload(data, "m", ""));
        assert_eq!((out.accepted, out.rejected), (0, n));
        assert!(out.message.contains(want), "{want}: {}", out.message);
    }
    assert!(stored(&store).is_empty());
}

#[test]
fn a_point_without_a_recorded_value_ends_its_series() {
    let store = MetricStore::default();
    let gone = NumberDataPoint {
        value: None,
        flags: DataPointFlags::NoRecordedValueMask as u32,
        ..point(2000, 0)
    };
    let data = Data::Gauge(Gauge {
        data_points: vec![point(1000, 7), gone],
    });
    assert_eq!(store.ingest_otlp(payload(data, "depth", "")).accepted, 2);
    let m = Matcher::new("__name__", MatchOp::Equal, "depth").expect("valid");
    let got = store
        .read()
        .select(&[m], 0, 9999, &mut 10)
        .expect("in budget");
    assert!(is_stale(got[0].values[1]));
}

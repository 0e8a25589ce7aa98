//! Prometheus remote write 1.0 (<https://prometheus.io/docs/specs/prw/remote_write_spec/>): snappy's
//! block format around a `prometheus.WriteRequest`.

use crate::store::metrics::Labels;
use prost::Message;

/// The longest body once unpacked, in bytes; a small snappy body can claim any length.
pub const MOST_UNPACKED: usize = 64 << 20;

#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
    // Exemplars (tag 3) are not kept.
    #[prost(bytes = "vec", repeated, tag = "4")]
    histograms: Vec<Vec<u8>>,
}

#[derive(Clone, PartialEq, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    /// Unix milliseconds.
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// Samples of a body: series, Unix milliseconds, value; stale markers are as they came.
///
/// # Errors
/// What is malformed or not supported, naming the series; nothing of such a body is taken.
pub fn samples(body: &[u8]) -> Result<Vec<(Labels, i64, f64)>, String> {
    let length = snap::raw::decompress_len(body).map_err(|e| format!("snappy: {e}"))?;
    if length > MOST_UNPACKED {
        return Err(format!(
            "snappy: the body unpacks to {length} bytes; at most {MOST_UNPACKED} are taken"
        ));
    }
    let bytes = snap::raw::Decoder::new()
        .decompress_vec(body)
        .map_err(|e| format!("snappy: {e}"))?;
    let request = WriteRequest::decode(&*bytes).map_err(|e| format!("protobuf: {e}"))?;
    let mut out = Vec::with_capacity(request.timeseries.iter().map(|s| s.samples.len()).sum());
    for (number, series) in request.timeseries.into_iter().enumerate() {
        let at = |what: &str| format!("series {number} of the request: {what}");
        let labels = Labels::new(series.labels.iter().map(|l| (&l.name, &l.value)))
            .map_err(|e| at(&e.to_string()))?;
        if labels.metric_name().is_empty() {
            return Err(at(&format!("{labels} has no metric name")));
        }
        if !series.histograms.is_empty() {
            let what = format!("{labels} has native histograms, which are not supported");
            return Err(at(&what));
        }
        let samples = series.samples.iter();
        out.extend(samples.map(|s| (labels.clone(), s.timestamp, s.value)));
    }
    Ok(out)
}

#[cfg(test)]
pub(crate) mod testing {
    use super::{Label, Message, Sample, TimeSeries, WriteRequest};

    /// Labels, and samples as Unix milliseconds and value.
    pub(crate) type Series<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, f64)]);

    /// A body with these series.
    pub(crate) fn body(series: &[Series<'_>]) -> Vec<u8> {
        let timeseries = series.iter().map(|(labels, samples)| TimeSeries {
            labels: labels
                .iter()
                .map(|(n, v)| Label {
                    name: (*n).into(),
                    value: (*v).into(),
                })
                .collect(),
            samples: samples
                .iter()
                .map(|(timestamp, value)| Sample {
                    value: *value,
                    timestamp: *timestamp,
                })
                .collect(),
            histograms: Vec::new(),
        });
        pack(&WriteRequest {
            timeseries: timeseries.collect(),
        })
    }

    fn pack(request: &WriteRequest) -> Vec<u8> {
        snap::raw::Encoder::new()
            .compress_vec(&request.encode_to_vec())
            .expect("snappy packs anything")
    }

    /// A body with a native histogram.
    pub(crate) fn native() -> Vec<u8> {
        pack(&WriteRequest {
            timeseries: vec![TimeSeries {
                labels: vec![Label {
                    name: "__name__".into(),
                    value: "h".into(),
                }],
                samples: Vec::new(),
                histograms: vec![vec![8, 1]],
            }],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::testing::{body, native};
    use super::*;
    use crate::store::metrics::{is_stale, stale_nan};

    #[test]
    fn series_and_samples_are_read_stale_markers_too() {
        let got = samples(&body(&[
            (
                &[("job", "x"), ("__name__", "up")],
                &[(1, 1.0), (2, stale_nan())],
            ),
            (&[("__name__", "b"), ("empty", "")], &[(-5, 0.5)]),
        ]))
        .unwrap();
        assert_eq!(got[0].0.to_string(), r#"{__name__="up", job="x"}"#);
        assert!(got[1].1 == 2 && is_stale(got[1].2));
        assert_eq!(
            (got[2].0.to_string(), got[2].1),
            (r#"{__name__="b"}"#.into(), -5)
        );
    }

    #[test]
    fn what_is_malformed_is_refused_whole_by_name() {
        for (bad, why) in [
            (b"\xff\xff".to_vec(), "snappy"),
            (Vec::new(), "snappy"),
            (b"\xff\xff\xff\xff\x0f".to_vec(), "at most"),
            (
                snap::raw::Encoder::new().compress_vec(b"\x0a\xff").unwrap(),
                "protobuf",
            ),
            (body(&[(&[("a", "b")], &[(1, 1.0)])]), "no metric name"),
            (
                body(&[
                    (&[("__name__", "a")], &[(1, 1.0)]),
                    (&[("__name__", "a"), ("x", "1"), ("x", "2")], &[(1, 1.0)]),
                ]),
                "series 1 of the request: label name \"x\" is given twice",
            ),
            (native(), "native histograms"),
        ] {
            let error = samples(&bad).unwrap_err();
            assert!(error.contains(why), "{error}");
        }
    }
}

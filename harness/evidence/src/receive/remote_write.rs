//! Prometheus remote write 1.0 (<https://prometheus.io/docs/specs/prw/remote_write_spec/>): snappy's
//! block format around a `prometheus.WriteRequest`. The messages are here for both sides: [`pack`] makes
//! what a sender posts, [`samples`] reads it.

use crate::store::metrics::Labels;
use prost::Message;

/// The longest body once unpacked, in bytes; a small snappy body can claim any length.
pub const MOST_UNPACKED: usize = 64 << 20;

/// Headers that a sender posts a [`pack`]ed body with.
pub const HEADERS: [(&str, &str); 3] = [
    ("content-type", "application/x-protobuf"),
    ("content-encoding", "snappy"),
    ("x-prometheus-remote-write-version", "0.1.0"),
];

/// `prometheus.WriteRequest`, without the metadata that receivers do not keep.
#[derive(Clone, PartialEq, Message)]
pub struct WriteRequest {
    /// Series, each with its samples.
    #[prost(message, repeated, tag = "1")]
    pub timeseries: Vec<TimeSeries>,
}

/// `prometheus.TimeSeries`, without exemplars.
#[derive(Clone, PartialEq, Message)]
pub struct TimeSeries {
    /// The series' labels, its name under `__name__`, sorted by name.
    #[prost(message, repeated, tag = "1")]
    pub labels: Vec<Label>,
    /// Samples in the order of time.
    #[prost(message, repeated, tag = "2")]
    pub samples: Vec<Sample>,
    // Exemplars (tag 3) are not kept.
    /// Native histograms, each as its bytes: they are seen, so that they can be refused.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub histograms: Vec<Vec<u8>>,
}

impl TimeSeries {
    /// A series of these labels, in any order, and samples as Unix milliseconds and value.
    pub fn new<'a>(
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
        samples: impl IntoIterator<Item = (i64, f64)>,
    ) -> Self {
        let mut labels: Vec<Label> = labels
            .into_iter()
            .map(|(name, value)| Label {
                name: name.to_owned(),
                value: value.to_owned(),
            })
            .collect();
        labels.sort_by(|a, b| a.name.cmp(&b.name));
        let samples = samples
            .into_iter()
            .map(|(timestamp, value)| Sample { value, timestamp })
            .collect();
        Self {
            labels,
            samples,
            histograms: Vec::new(),
        }
    }
}

/// `prometheus.Label`.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Label {
    /// Its name.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Its value.
    #[prost(string, tag = "2")]
    pub value: String,
}

/// `prometheus.Sample`.
#[derive(Clone, Copy, PartialEq, Message)]
pub struct Sample {
    /// The value; a stale marker is the NaN that Prometheus uses for it.
    #[prost(double, tag = "1")]
    pub value: f64,
    /// Unix milliseconds.
    #[prost(int64, tag = "2")]
    pub timestamp: i64,
}

/// The body of a request, to be posted with [`HEADERS`].
///
/// # Errors
/// When it is longer than snappy can pack (4 GiB).
pub fn pack(request: &WriteRequest) -> Result<Vec<u8>, String> {
    snap::raw::Encoder::new()
        .compress_vec(&request.encode_to_vec())
        .map_err(|e| format!("snappy: {e}"))
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
    use super::{TimeSeries, WriteRequest, pack};

    /// Labels, and samples as Unix milliseconds and value.
    pub(crate) type Series<'a> = (&'a [(&'a str, &'a str)], &'a [(i64, f64)]);

    /// A body with these series.
    pub(crate) fn body(series: &[Series<'_>]) -> Vec<u8> {
        let timeseries = series
            .iter()
            .map(|(labels, samples)| {
                TimeSeries::new(labels.iter().copied(), samples.iter().copied())
            })
            .collect();
        pack(&WriteRequest { timeseries }).expect("it is short")
    }

    /// A body with a native histogram.
    pub(crate) fn native() -> Vec<u8> {
        let mut series = TimeSeries::new([("__name__", "h")], []);
        series.histograms.push(vec![8, 1]);
        pack(&WriteRequest {
            timeseries: vec![series],
        })
        .expect("it is short")
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

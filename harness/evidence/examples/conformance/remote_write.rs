//! Prometheus remote-write 1.0: snappy-compressed protobuf to `/api/v1/write`
//! (<https://prometheus.io/docs/specs/prw/remote_write_spec/>).

use crate::feed::Samples;
use crate::replay::Server;
use harness_evidence::store::metrics::Labels;
use prost::Message;
use std::collections::BTreeMap;

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

/// Samples of one request; a receiver may bound the size of a body.
const BATCH: usize = 5_000;

/// Sends samples, which stand in order of time.
///
/// # Errors
/// When the server does not take them.
pub(crate) async fn send(server: &Server, samples: Samples) -> Result<(), String> {
    for batch in samples.chunks(BATCH) {
        let mut series: BTreeMap<&Labels, Vec<Sample>> = BTreeMap::new();
        for (labels, timestamp, value) in batch {
            series.entry(labels).or_default().push(Sample {
                value: *value,
                timestamp: *timestamp,
            });
        }
        let request = WriteRequest {
            timeseries: series
                .into_iter()
                .map(|(labels, samples)| TimeSeries {
                    labels: labels
                        .iter()
                        .map(|(name, value)| Label {
                            name: name.to_owned(),
                            value: value.to_owned(),
                        })
                        .collect(),
                    samples,
                })
                .collect(),
        };
        let body = snap::raw::Encoder::new()
            .compress_vec(&request.encode_to_vec())
            .map_err(|e| e.to_string())?;
        let headers = [
            ("content-type", "application/x-protobuf"),
            ("content-encoding", "snappy"),
            ("x-prometheus-remote-write-version", "0.1.0"),
        ];
        let (status, _, answer) = server.send("POST", "/api/v1/write", &headers, body).await?;
        if !(200..300).contains(&status) {
            let text = String::from_utf8_lossy(&answer).into_owned();
            return Err(format!("remote write answered {status}: {text}"));
        }
    }
    Ok(())
}

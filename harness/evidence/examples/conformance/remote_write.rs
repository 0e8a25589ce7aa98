//! Samples sent to `/api/v1/write`.

use crate::feed::Samples;
use crate::replay::Server;
use harness_evidence::receive::remote_write::{HEADERS, TimeSeries, WriteRequest, pack};
use harness_evidence::store::metrics::Labels;
use std::collections::BTreeMap;

/// Samples of one request; a receiver may bound the size of a body.
const BATCH: usize = 5_000;

/// Sends samples, which stand in order of time.
///
/// # Errors
/// When the server does not take them.
pub(crate) async fn send(server: &Server, samples: Samples) -> Result<(), String> {
    for batch in samples.chunks(BATCH) {
        let mut series: BTreeMap<&Labels, Vec<(i64, f64)>> = BTreeMap::new();
        for (labels, timestamp, value) in batch {
            series.entry(labels).or_default().push((*timestamp, *value));
        }
        let timeseries = series
            .into_iter()
            .map(|(labels, samples)| TimeSeries::new(labels.iter(), samples))
            .collect();
        let body = pack(&WriteRequest { timeseries })?;
        let (status, _, answer) = server.send("POST", "/api/v1/write", &HEADERS, body).await?;
        if !(200..300).contains(&status) {
            let text = String::from_utf8_lossy(&answer).into_owned();
            return Err(format!("remote write answered {status}: {text}"));
        }
    }
    Ok(())
}

//! The recorded data, put into this crate's stores or sent to a server over its own write API.

use crate::remote_write;
use crate::replay::Server;
use harness_evidence::Evidence;
use harness_evidence::receive::exposition::{Format, parse};
use harness_evidence::serve::{loki, prometheus, tempo};
use harness_evidence::store::metrics::Labels;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use std::path::Path;

/// Samples as (labels, Unix milliseconds, value).
pub(crate) type Samples = Vec<(Labels, i64, f64)>;

const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// An API of this crate over the recorded data.
///
/// # Errors
/// When the data cannot be read or is not taken whole.
pub(crate) async fn embedded(backend: &str, data: &Path) -> Result<Server, String> {
    let evidence = Evidence::default();
    match backend {
        "prometheus" => {
            let outcome = evidence.metrics.append_batch(samples(data)?);
            match outcome.first_error {
                Some(e) => Err(e.to_string()),
                None => Ok(Server::Embedded(prometheus::router(evidence.metrics))),
            }
        }
        "loki" => {
            let server = Server::Embedded(loki::router(evidence.logs));
            push_logs(&server, data).await?;
            Ok(server)
        }
        _ => {
            let bytes = read(data, "traces.otlp.json")?;
            let request: ExportTraceServiceRequest =
                serde_json::from_slice(&bytes).map_err(|e| format!("traces.otlp.json: {e}"))?;
            evidence.traces.ingest(request.resource_spans);
            Ok(Server::Embedded(tempo::router(evidence.traces)))
        }
    }
}

/// Sends the recorded data to a server. Spans go to `otlp`, since a Tempo takes them elsewhere than
/// questions.
///
/// # Errors
/// When the data cannot be read or the server does not take it.
pub(crate) async fn send(
    server: &Server,
    backend: &str,
    data: &Path,
    otlp: Option<&Server>,
) -> Result<(), String> {
    match backend {
        "prometheus" => remote_write::send(server, samples(data)?).await,
        "loki" => push_logs(server, data).await,
        _ => {
            let otlp = otlp.ok_or("a Tempo takes spans at another address: give --otlp URL")?;
            let bytes = read(data, "traces.otlp.json")?;
            taken(otlp, "/v1/traces", bytes).await
        }
    }
}

async fn push_logs(server: &Server, data: &Path) -> Result<(), String> {
    taken(server, "/otlp/v1/logs", read(data, "logs.otlp.json")?).await?;
    taken(server, "/loki/api/v1/push", read(data, "logs.push.json")?).await
}

async fn taken(server: &Server, path: &str, body: Vec<u8>) -> Result<(), String> {
    let (status, _, answer) = server.send("POST", path, &JSON, body).await?;
    if (200..300).contains(&status) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&answer).into_owned();
    Err(format!("{path} answered {status}: {text}"))
}

/// The recorded samples in order of time.
fn samples(data: &Path) -> Result<Samples, String> {
    let text = read(data, "metrics.om.txt")?;
    let text = String::from_utf8(text).map_err(|e| e.to_string())?;
    let parsed = parse(&text, Format::OpenMetrics).map_err(|e| format!("metrics.om.txt: {e}"))?;
    let mut all: Samples = parsed
        .into_iter()
        .filter_map(|s| Some((s.labels, s.t_ms?, s.value)))
        .collect();
    all.sort_by_key(|(_, t, _)| *t);
    Ok(all)
}

fn read(data: &Path, file: &str) -> Result<Vec<u8>, String> {
    let path = data.join(file);
    std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()))
}

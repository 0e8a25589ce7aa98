//! What is put under load, how it is reached, and where its telemetry is read.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Dur;

/// What is put under load.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Target {
    /// Base URL, `http://host:port` or `https://host:port`. Left out with `start`: the started
    /// process reports its address.
    #[serde(default)]
    pub url: Option<String>,
    /// A process to start, and to stop at the end.
    #[serde(default)]
    pub start: Option<Start>,
    /// `service.version` that every instance seen in the telemetry must have.
    #[serde(default)]
    pub expect_version: Option<String>,
    /// Longest time from due to a complete answer. Default 30 s.
    #[serde(default = "default_timeout")]
    pub timeout: Dur,
    /// Longest time to a connection, name resolution and TLS included. Default: only `timeout` holds.
    #[serde(default)]
    pub connect_timeout: Option<Dur>,
    /// Longest time from sent to the head of the answer. Default: only `timeout` holds.
    #[serde(default)]
    pub first_byte_timeout: Option<Dur>,
    /// Most connections open at once. Default: as many as requests in flight.
    #[serde(default)]
    pub max_connections: Option<u32>,
    /// Version of HTTP. Default `auto`.
    #[serde(default)]
    pub protocol: Protocol,
    /// Whether a connection carries more than one request. Default true; false opens a new one for
    /// each request.
    #[serde(default = "yes")]
    pub keep_alive: bool,
    /// How long a connection may lie unused before it is closed. Default 90 s.
    #[serde(default)]
    pub idle_timeout: Option<Dur>,
    /// Redirects that are followed for one request. Default 0: a redirect is the answer.
    #[serde(default)]
    pub redirects: u32,
    /// TLS of an https target.
    #[serde(default)]
    pub tls: Option<Tls>,
}

fn yes() -> bool {
    true
}

/// Version of HTTP that requests are sent with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1 without TLS; with TLS what ALPN agrees on, HTTP/2 preferred.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2: with prior knowledge without TLS, else by ALPN, and nothing else.
    Http2,
}

/// TLS of an https target. Files are PEM, relative to the scenario file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Tls {
    /// Certificate authorities to trust beside the system's.
    #[serde(default)]
    pub ca: Option<String>,
    /// The client's certificate chain.
    #[serde(default)]
    pub cert: Option<String>,
    /// Its private key.
    #[serde(default)]
    pub key: Option<String>,
    /// Name that the target's certificate must be for. Default: the URL's host.
    #[serde(default)]
    pub server_name: Option<String>,
    /// Whether the target's certificate is verified. Default true.
    #[serde(default = "yes")]
    pub verify: bool,
}

fn default_timeout() -> Dur {
    Dur(Duration::from_secs(30))
}

/// A target process. Its first line on stdout is JSON with the addresses it listens on:
/// `{"event":"listening","http":"127.0.0.1:PORT","metrics":"127.0.0.1:PORT",…}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Program and arguments. A bare name is looked up beside the harness' own executable, then in `PATH`.
    pub command: Vec<String>,
    /// Path that answers 200 once the target is ready.
    pub ready: String,
    /// How long that may take.
    pub within: Dur,
    /// Environment variables beside the harness' own.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// Where telemetry is read. Either `embedded` or real backends, or both for different signals.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Telemetry {
    /// Embedded Prometheus, Loki and Tempo in the harness' own process.
    #[serde(default)]
    pub embedded: Option<Embedded>,
    /// A real Prometheus.
    #[serde(default)]
    pub prometheus: Option<BackendAddress>,
    /// A real Loki.
    #[serde(default)]
    pub loki: Option<BackendAddress>,
    /// A real Tempo.
    #[serde(default)]
    pub tempo: Option<BackendAddress>,
    /// OTLP/gRPC endpoint that client spans (and a started target's telemetry) go to when the
    /// backends are real, e.g. `http://127.0.0.1:4317`.
    #[serde(default)]
    pub otlp: Option<String>,
    /// The service's name in telemetry. Default: the first scrape job's name, else the file name of
    /// the started command.
    #[serde(default)]
    pub service: Option<String>,
    /// Counter of requests that the service keeps, as a PromQL selector; every series of it is one
    /// instance, route and status. Default
    /// `http_server_request_duration_seconds_count{job="SERVICE",http_route=~"ROUTES"}` with the
    /// routes of the scenario's requests.
    #[serde(default)]
    pub request_counter: Option<String>,
    /// LogQL log query that matches exactly one line per request the service answered. Default
    /// `{service_name="SERVICE"} |= "request completed"`.
    #[serde(default)]
    pub request_log: Option<String>,
    /// A Grafana that shows the same telemetry: reports link into it. Nothing is asked of it.
    #[serde(default)]
    pub grafana: Option<Grafana>,
}

/// A Grafana to link to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Grafana {
    /// Base URL. It is kept and shown as it is, also when it came from the environment; a user and
    /// password in it are not.
    pub url: String,
    /// Organisation, where it is not the user's own.
    #[serde(default)]
    pub org: Option<u64>,
    /// UID of the Prometheus data source. Default `prometheus`.
    #[serde(default = "default_prometheus")]
    pub prometheus: String,
    /// UID of the Loki data source. Default `loki`.
    #[serde(default = "default_loki")]
    pub loki: String,
    /// UID of the Tempo data source. Default `tempo`.
    #[serde(default = "default_tempo")]
    pub tempo: String,
}

fn default_prometheus() -> String {
    "prometheus".into()
}

fn default_loki() -> String {
    "loki".into()
}

fn default_tempo() -> String {
    "tempo".into()
}

impl Grafana {
    /// At this address, with data sources by their usual names.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self {
            url: url.into(),
            org: None,
            prometheus: default_prometheus(),
            loki: default_loki(),
            tempo: default_tempo(),
        }
    }
}

/// The embedded backends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Embedded {
    /// What the embedded Prometheus scrapes.
    #[serde(default)]
    pub scrape: Vec<ScrapeJob>,
    /// Memory that each of the three stores may take, in MiB. Default 1024. What does not fit is
    /// refused, and the evidence incomplete.
    #[serde(default, rename = "memoryMiB")]
    pub memory_mib: Option<NonZeroU32>,
    /// Size that each of the three files in the run's `evidence/` may have, in MiB. Default 1024. What
    /// does not fit is refused, and the evidence incomplete.
    #[serde(default, rename = "diskMiB")]
    pub disk_mib: Option<NonZeroU32>,
}

/// One scrape job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScrapeJob {
    /// Value of the label `job`.
    pub job: String,
    /// Scrape interval.
    pub every: Dur,
    /// What to scrape. Left out: the metrics address that the started target reports.
    #[serde(default)]
    pub url: Option<String>,
}

/// A real backend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BackendAddress {
    /// Base URL.
    pub url: String,
    /// `X-Scope-OrgID`.
    #[serde(default)]
    pub tenant: Option<String>,
    /// Bearer token; write `${NAME}`. Never printed or stored.
    #[serde(default)]
    pub bearer: Option<String>,
    /// PEM file of a certificate authority to trust beside the system's.
    #[serde(default)]
    pub ca: Option<String>,
}

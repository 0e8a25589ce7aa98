//! What must be up for a load: the evidence, the target, the scrapers; brought up in that order and
//! taken down again.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use harness_core::query::Backend;
use harness_core::record::{BackendUsed, RunFacts, Stop, Target};
use harness_core::scenario::{BackendAddress, Scenario};

use crate::backends::{self, Backends};
use crate::embedded::{EVIDENCE_DIR, Embedded};
use crate::progress::Progress;
use crate::target::{self, TargetProcess};

/// How long a backend may take to say that it is ready.
const BACKENDS_READY: Duration = Duration::from_secs(15);
/// How long a target may take that does not say.
const DEFAULT_READY: Duration = Duration::from_secs(60);

/// Everything that is up while the load goes on.
pub struct Stage {
    /// The embedded backends, when any is used.
    pub embedded: Option<Embedded>,
    /// The target, when we started it.
    pub process: Option<TargetProcess>,
    /// All backends, to be asked.
    pub backends: Backends,
    /// What the record says of them.
    pub used: BTreeMap<Backend, BackendUsed>,
    /// What the record says of the target.
    pub target: Target,
    /// Where client spans go.
    pub otlp: Option<String>,
    /// For the target itself: readiness and faults.
    pub http: reqwest::Client,
}
impl Stage {
    /// Nothing is up yet.
    ///
    /// # Errors
    /// When there can be no HTTP client.
    pub fn new() -> Result<Self, String> {
        Ok(Self {
            embedded: None,
            process: None,
            backends: Backends::none(),
            used: BTreeMap::new(),
            target: Target::default(),
            otlp: None,
            http: backends::client("http://127.0.0.1", None)?,
        })
    }

    /// Brings everything up that the load needs.
    ///
    /// # Errors
    /// Why the run must stop before it began: a backend or the target cannot be had.
    pub async fn prepare(
        &mut self,
        scenario: &Scenario,
        dir: &Path,
        progress: &Progress,
    ) -> Result<(), Stop> {
        self.start_evidence(scenario, dir).await?;
        progress.moving("starting the target".into());
        self.start_target(scenario, dir).await?;
        let url = backends::without_credentials(&self.target.url);
        progress.say(&format!("target   {url} is ready"));
        self.start_scraping(scenario)?;
        self.backends_ready().await?;
        for (backend, used) in &self.used {
            let kind = if used.embedded { " (embedded)" } else { "" };
            progress.say(&format!("evidence {backend} at {}{kind}", used.url));
        }
        Ok(())
    }

    /// Waits until all backends say that they are ready.
    pub(crate) async fn backends_ready(&self) -> Result<(), Stop> {
        let ready = self.backends.ready(BACKENDS_READY).await;
        ready.map_err(Stop::BackendUnreachable)
    }

    pub(crate) async fn start_evidence(
        &mut self,
        scenario: &Scenario,
        dir: &Path,
    ) -> Result<(), Stop> {
        let telemetry = &scenario.spec.telemetry;
        let real = BTreeMap::from([
            (Backend::Prometheus, &telemetry.prometheus),
            (Backend::Loki, &telemetry.loki),
            (Backend::Tempo, &telemetry.tempo),
        ]);
        if let Some(embedded) = &telemetry.embedded
            && real.values().any(|address| address.is_none())
        {
            let started = Embedded::start(embedded, &dir.join(EVIDENCE_DIR)).await;
            self.embedded = Some(started.map_err(Stop::BackendUnreachable)?);
        }
        for (backend, address) in real {
            let embedded_url = self
                .embedded
                .as_ref()
                .map(|embedded| embedded.urls[&backend].clone());
            let (address, embedded) = match (address, embedded_url) {
                (Some(address), _) => (address.clone(), false),
                (None, Some(url)) => (
                    BackendAddress {
                        url,
                        tenant: None,
                        bearer: None,
                        ca: None,
                    },
                    true,
                ),
                (None, None) => continue,
            };
            self.backends
                .add(backend, &address)
                .map_err(Stop::BackendUnreachable)?;
            let url = backends::without_credentials(&address.url);
            self.used.insert(
                backend,
                BackendUsed {
                    url,
                    embedded,
                    refused: 0,
                    clock: None,
                },
            );
        }
        let own = self
            .embedded
            .as_ref()
            .filter(|_| self.is_embedded(Backend::Tempo));
        self.otlp = own
            .map(|embedded| embedded.otlp.clone())
            .or_else(|| telemetry.otlp.clone());
        Ok(())
    }

    fn is_embedded(&self, backend: Backend) -> bool {
        self.used.get(&backend).is_some_and(|used| used.embedded)
    }

    /// Standard OpenTelemetry environment of a started target. Logs take one road only: OTLP into the
    /// embedded Loki, else stdout, where a collector reads them; both would count every line twice.
    fn target_env(&self, scenario: &Scenario) -> BTreeMap<String, String> {
        let http = self.otlp.as_deref().is_some_and(crate::trace::is_http);
        let protocol = if http { "http/protobuf" } else { "grpc" };
        let mut env = BTreeMap::from([
            ("OTEL_SERVICE_NAME", service_name(scenario)),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc".into()),
            ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", protocol.into()),
            // Evidence is wanted soon after the request, and none of it lost to a short queue.
            ("OTEL_BSP_SCHEDULE_DELAY", "500".into()),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "32768".into()),
            ("OTEL_BLRP_SCHEDULE_DELAY", "500".into()),
            ("OTEL_BLRP_MAX_QUEUE_SIZE", "32768".into()),
        ]);
        match &self.otlp {
            Some(otlp) => drop(env.insert("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", otlp.clone())),
            // The scenario may tell the target itself.
            None if exports_by_itself(scenario) => {}
            None => drop(env.insert("OTEL_TRACES_EXPORTER", "none".into())),
        }
        match self
            .embedded
            .as_ref()
            .filter(|_| self.is_embedded(Backend::Loki))
        {
            Some(embedded) => {
                drop(env.insert("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", embedded.otlp.clone()))
            }
            None => drop(env.insert("OTEL_LOGS_EXPORTER", "console".into())),
        }
        env.into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect()
    }

    pub(crate) async fn start_target(
        &mut self,
        scenario: &Scenario,
        dir: &Path,
    ) -> Result<(), Stop> {
        let spec = &scenario.spec.target;
        let mut ready = None;
        if let Some(start) = &spec.start {
            let started = TargetProcess::start(start, &self.target_env(scenario), dir).await;
            let process = started.map_err(Stop::TargetUnreachable)?;
            self.target = Target {
                url: spec.url.clone().unwrap_or_else(|| process.url.clone()),
                started: true,
                announced: Some(process.announced.clone()),
                exited: None,
            };
            ready = Some((start.ready.clone(), start.within.0));
            self.process = Some(process);
        } else {
            self.target.url = spec.url.clone().unwrap_or_default();
        }
        let (path, within) = ready.unwrap_or_else(|| (String::new(), DEFAULT_READY));
        if path.is_empty() {
            return reachable(&self.target.url)
                .await
                .map_err(Stop::TargetUnreachable);
        }
        let url = format!("{}{path}", self.target.url.trim_end_matches('/'));
        target::wait_ready(&self.http, &url, within, self.process.as_mut())
            .await
            .map_err(Stop::TargetUnreachable)
    }

    pub(crate) fn start_scraping(&mut self, scenario: &Scenario) -> Result<(), Stop> {
        if !self.is_embedded(Backend::Prometheus) {
            return Ok(());
        }
        let own = self
            .process
            .as_ref()
            .and_then(|process| process.metrics.clone());
        let jobs = scenario
            .spec
            .telemetry
            .embedded
            .iter()
            .flat_map(|embedded| &embedded.scrape);
        for job in jobs {
            let url = job
                .url
                .clone()
                .or_else(|| own.as_ref().map(|own| format!("{own}/metrics")));
            let url = url.ok_or_else(|| {
                let why = "has no url, and no started target reports a metrics address";
                Stop::BackendUnreachable(format!("scrape job {} {why}", job.job))
            })?;
            if let Some(embedded) = &mut self.embedded {
                embedded
                    .scrape(&job.job, &url, job.every.0)
                    .map_err(Stop::BackendUnreachable)?;
            }
        }
        Ok(())
    }

    /// Takes everything down and notes how it ended.
    ///
    /// # Errors
    /// When the embedded evidence cannot be kept.
    pub async fn stop(mut self, facts: &mut RunFacts) -> Result<(), String> {
        if let Some(mut process) = self.process.take() {
            if let Some(status) = process.ended() {
                facts.target.exited = Some(status.to_string());
            }
            process.stop().await;
        }
        if let Some(embedded) = self.embedded.take() {
            let refused = embedded.stop().await?;
            for (backend, used) in facts.backends.iter_mut().filter(|(_, used)| used.embedded) {
                used.refused = refused[backend];
            }
        }
        Ok(())
    }
}

/// Whether anything listens at a URL, where no readiness path is known.
async fn reachable(url: &str) -> Result<(), String> {
    let parsed = url::Url::parse(url).map_err(|error| format!("`{url}` is no URL: {error}"))?;
    let host = parsed
        .host_str()
        .ok_or_else(|| format!("`{url}` has no host"))?
        .trim_matches(['[', ']'])
        .to_owned();
    let port = parsed.port_or_known_default().unwrap_or(80);
    let connect = tokio::net::TcpStream::connect((host.as_str(), port));
    match tokio::time::timeout(Duration::from_secs(5), connect).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(format!("{url}: {error}")),
        Err(_) => Err(format!("{url}: no connection within 5 s")),
    }
}

/// The service's name in telemetry: as the scenario says, else the first scrape job, else the program.
#[must_use]
pub fn service_name(scenario: &Scenario) -> String {
    let telemetry = &scenario.spec.telemetry;
    let job = telemetry
        .embedded
        .as_ref()
        .and_then(|embedded| embedded.scrape.first())
        .map(|job| job.job.clone());
    let program = scenario.spec.target.start.as_ref().and_then(|start| {
        let name = Path::new(start.command.first()?).file_name()?;
        Some(name.to_string_lossy().into_owned())
    });
    telemetry
        .service
        .clone()
        .or(job)
        .or(program)
        .unwrap_or_else(|| "target".into())
}

/// Whether the scenario's own environment for the target names an OTLP endpoint.
#[must_use]
pub fn exports_by_itself(scenario: &Scenario) -> bool {
    let start = scenario.spec.target.start.as_ref();
    start.is_some_and(|start| {
        start
            .env
            .keys()
            .any(|name| name.starts_with("OTEL_EXPORTER_OTLP_"))
    })
}

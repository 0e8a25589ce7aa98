//! The embedded Prometheus, Loki and Tempo of a run, on loopback ports of the system's choosing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness_core::query::Backend;
use harness_core::scenario;
use harness_evidence::receive::scrape::{self, ScrapeTarget};
use harness_evidence::serve::{Listeners, serve};
use harness_evidence::{Evidence, Limits};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest a scrape may take, as Prometheus' default has it.
const MAX_SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a run keeps its embedded evidence, in its directory.
pub const EVIDENCE_DIR: &str = "evidence";

/// A running embedded stack.
pub struct Embedded {
    evidence: Evidence,
    /// Where it is recorded; nowhere when it was opened from there.
    recorded: Option<PathBuf>,
    /// Base URLs of the query APIs.
    pub urls: BTreeMap<Backend, String>,
    /// `http://127.0.0.1:PORT` of OTLP/gRPC.
    pub otlp: String,
    stop: CancellationToken,
    server: JoinHandle<()>,
    scrapers: Vec<JoinHandle<()>>,
}

async fn loopback() -> Result<(TcpListener, String), String> {
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .map_err(|error| format!("no loopback port to be had: {error}"))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    Ok((listener, format!("http://{address}")))
}

impl Embedded {
    /// Begins to record into `dir`, binds and serves.
    ///
    /// # Errors
    /// When the directory cannot be written or no loopback port can be had.
    pub async fn start(of: &scenario::Embedded, dir: &Path) -> Result<Self, String> {
        let mib = |given: Option<NonZeroU32>| u64::from(given.map_or(1024, NonZeroU32::get)) << 20;
        let evidence = Evidence::with_limits(Limits {
            memory_bytes: usize::try_from(mib(of.memory_mib)).unwrap_or(usize::MAX),
            ..Limits::default()
        });
        evidence
            .record(dir, mib(of.disk_mib))
            .map_err(|error| format!("the embedded evidence cannot be kept: {error}"))?;
        let mut started = Self::serve(evidence).await?;
        started.recorded = Some(dir.to_owned());
        Ok(started)
    }

    /// Serves evidence that is there already.
    ///
    /// # Errors
    /// When no loopback port can be had.
    pub async fn serve(evidence: Evidence) -> Result<Self, String> {
        let (prometheus, prometheus_url) = loopback().await?;
        let (loki, loki_url) = loopback().await?;
        let (tempo, tempo_url) = loopback().await?;
        let (otlp_grpc, otlp) = loopback().await?;
        let listeners = Listeners {
            prometheus: Some(prometheus),
            loki: Some(loki),
            tempo: Some(tempo),
            otlp_grpc: Some(otlp_grpc),
            otlp_http: None,
        };
        let stop = CancellationToken::new();
        let served = serve(evidence.clone(), listeners, stop.clone().cancelled_owned());
        let server = tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "the embedded evidence stopped serving");
            }
        });
        let urls = BTreeMap::from([
            (Backend::Prometheus, prometheus_url),
            (Backend::Loki, loki_url),
            (Backend::Tempo, tempo_url),
        ]);
        Ok(Self {
            evidence,
            recorded: None,
            urls,
            otlp,
            stop,
            server,
            scrapers: Vec::new(),
        })
    }

    /// Begins to scrape `url` for `job`.
    ///
    /// # Errors
    /// When the address cannot be scraped (https, no host).
    pub fn scrape(&mut self, job: &str, url: &str, every: Duration) -> Result<(), String> {
        let timeout = every.min(MAX_SCRAPE_TIMEOUT);
        let target = ScrapeTarget::new(job, url, every, timeout)
            .map_err(|error| format!("scrape job {job}: {error}"))?;
        let run = scrape::run(self.evidence.metrics.clone(), target, self.stop.clone());
        self.scrapers.push(tokio::spawn(run));
        Ok(())
    }

    /// Stops scraping and serving and ends the recording. How many items each store has refused: with
    /// any, the evidence is incomplete.
    ///
    /// # Errors
    /// When the recorded files cannot be ended; they then read as cut.
    pub async fn stop(self) -> Result<BTreeMap<Backend, u64>, String> {
        self.stop.cancel();
        for scraper in self.scrapers {
            let _ = scraper.await;
        }
        let _ = self.server.await;
        let refused = BTreeMap::from([
            (Backend::Prometheus, self.evidence.metrics.stats().refused()),
            (Backend::Loki, self.evidence.logs.stats().refused()),
            (Backend::Tempo, self.evidence.traces.stats().refused()),
        ]);
        match self.recorded {
            None => Ok(refused),
            Some(dir) => self
                .evidence
                .close(&dir)
                .map(|()| refused)
                .map_err(|error| format!("the embedded evidence cannot be kept: {error}")),
        }
    }
}

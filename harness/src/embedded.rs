//! The embedded Prometheus, Loki and Tempo of a run, on loopback ports of the system's choosing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use harness_core::query::Backend;
use harness_evidence::Evidence;
use harness_evidence::receive::scrape::{self, ScrapeTarget};
use harness_evidence::serve::{Listeners, serve};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Longest a scrape may take, as Prometheus' default has it.
const MAX_SCRAPE_TIMEOUT: Duration = Duration::from_secs(10);

/// A running embedded stack.
pub struct Embedded {
    evidence: Evidence,
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
    /// Binds and serves.
    ///
    /// # Errors
    /// When no loopback port can be had.
    pub async fn start() -> Result<Self, String> {
        let evidence = Evidence::default();
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

    /// Items each store refused so far: with any, the evidence is incomplete.
    #[must_use]
    pub fn refused(&self, backend: Backend) -> u64 {
        match backend {
            Backend::Prometheus => {
                let stats = self.evidence.metrics.stats();
                stats.over_limit + stats.out_of_order
            }
            Backend::Loki => {
                let stats = self.evidence.logs.stats();
                stats.refused_invalid + stats.refused_memory
            }
            Backend::Tempo => {
                let stats = self.evidence.traces.stats();
                stats.refused_invalid + stats.refused_full
            }
        }
    }

    /// Stops scraping and serving.
    pub async fn stop(self) {
        self.stop.cancel();
        for scraper in self.scrapers {
            let _ = scraper.await;
        }
        let _ = self.server.await;
    }
}

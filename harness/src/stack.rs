//! `harness stack`: the embedded evidence alone, for Grafana, logcli or one's own eyes.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness_evidence::receive::scrape::{self, ScrapeTarget};
use harness_evidence::serve::{Listeners, serve};
use harness_evidence::{Evidence, Limits};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::embedded::EVIDENCE_DIR;
use crate::run::Failure;
use crate::signals::Signals;

/// Scrape interval of the stack.
const EVERY: Duration = Duration::from_secs(1);

/// What `harness stack` was asked.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Address of the Prometheus API.
    pub prometheus: SocketAddr,
    /// Address of the Loki API.
    pub loki: SocketAddr,
    /// Address of the Tempo API.
    pub tempo: SocketAddr,
    /// Address of the OTLP/gRPC receiver.
    pub otlp_grpc: SocketAddr,
    /// Address of the OTLP/HTTP receiver.
    pub otlp_http: SocketAddr,
    /// `URL` or `JOB=URL`.
    pub scrape: Vec<String>,
    /// Old evidence to show, instead of taking new data.
    pub data: Option<PathBuf>,
    /// Where to record what is taken.
    pub record: Option<PathBuf>,
    /// Memory of each store, MiB.
    pub memory_mib: NonZeroU32,
    /// Size of each recorded file, MiB.
    pub disk_mib: NonZeroU32,
}

async fn bind(name: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    let listener = TcpListener::bind(address)
        .await
        .map_err(|error| Failure::Config(format!("--{name} {address}: {error}")))?;
    let bound = listener
        .local_addr()
        .map_err(|error| Failure::Internal(error.to_string()))?;
    eprintln!("{name:11} http://{bound}");
    Ok(listener)
}

/// Serves until a signal comes.
///
/// # Errors
/// When an address is taken, a scrape URL is wrong, or serving breaks.
pub async fn run(options: StackOptions) -> Result<u8, Failure> {
    let signals = Signals::listen().map_err(Failure::Internal)?;
    let evidence = match &options.data {
        Some(dir) => opened(dir)?,
        None => empty(&options)?,
    };
    let mut listeners = Listeners {
        prometheus: Some(bind("prometheus", options.prometheus).await?),
        loki: Some(bind("loki", options.loki).await?),
        tempo: Some(bind("tempo", options.tempo).await?),
        ..Listeners::default()
    };
    if options.data.is_none() {
        listeners.otlp_grpc = Some(bind("otlp-grpc", options.otlp_grpc).await?);
        listeners.otlp_http = Some(bind("otlp-http", options.otlp_http).await?);
    }
    let stop = CancellationToken::new();
    for scrape in &options.scrape {
        // A URL's scheme ends in `:`, so a `=` before any `:` parts a job from its URL.
        let (job, address) = match scrape.split_once('=') {
            Some((job, address)) if !job.contains(':') => (job, address),
            _ => ("stack", scrape.as_str()),
        };
        let wrong = |error: String| Failure::Config(format!("--scrape {scrape}: {error}"));
        let target = ScrapeTarget::new(job, address, EVERY, EVERY)
            .map_err(|error| wrong(error.to_string()))?;
        tokio::spawn(scrape::run(evidence.metrics.clone(), target, stop.clone()));
    }
    let served = serve(evidence.clone(), listeners, async move {
        signals.first.cancelled().await
    })
    .await;
    stop.cancel();
    served.map_err(|error| Failure::Internal(error.to_string()))?;
    if let Some(dir) = &options.record {
        evidence
            .close(dir)
            .map_err(|error| Failure::Internal(error.to_string()))?;
    }
    Ok(0)
}

fn empty(options: &StackOptions) -> Result<Evidence, Failure> {
    let bytes = |mib: NonZeroU32| u64::from(mib.get()) << 20;
    let evidence = Evidence::with_limits(Limits {
        memory_bytes: usize::try_from(bytes(options.memory_mib)).unwrap_or(usize::MAX),
        ..Limits::default()
    });
    if let Some(dir) = &options.record {
        evidence
            .record(dir, bytes(options.disk_mib))
            .map_err(|error| Failure::Config(format!("--record: {error}")))?;
    }
    Ok(evidence)
}

/// Evidence of a run directory, or of a directory of segments; what it lacks is said first.
fn opened(dir: &Path) -> Result<Evidence, Failure> {
    let inner = dir.join(EVIDENCE_DIR);
    let at = if inner.is_dir() { &inner } else { dir };
    let opened = Evidence::open(at).map_err(|error| Failure::Config(format!("--data: {error}")))?;
    for report in &opened.reports {
        let name = report.signal.file_name();
        eprintln!("{name:11} {} items in {} bytes", report.items, report.bytes);
    }
    for why in opened.incomplete() {
        eprintln!("incomplete  {why}");
    }
    Ok(opened.evidence)
}

//! Reads a service's metrics at a steady pace, as Prometheus does.
//!
//! Every scrape leaves `up`, `scrape_duration_seconds` and `scrape_samples_scraped`; a series that
//! was there last time and is not now gets a stale marker, so a query never takes its old value for
//! a present one. Ticks are multiples of the interval from the first: a slow scrape skips ticks, it
//! does not move them.

mod targets;

pub use targets::{TargetBook, TargetStatus};

use crate::receive::exposition::{self, Exposition, Format};
use crate::store::metrics::{AppendError, Labels, METRIC_NAME, MetricStore, stale_nan};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;
use url::Url;

/// The largest body a scrape accepts, bytes.
pub const BODY_LIMIT: usize = 64 << 20;

const ACCEPT: &str =
    "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5";

/// What to scrape and how often.
#[derive(Debug, Clone)]
pub struct ScrapeTarget {
    /// Becomes the label `job`.
    pub job: String,
    /// Where the metrics are; `host:port` becomes the label `instance`.
    pub url: Url,
    /// Time between scrapes.
    pub every: Duration,
    /// How long a scrape may take.
    pub timeout: Duration,
    /// Labels given to every series of the target; they win over labels of the same name.
    pub labels: Labels,
}

/// A target that cannot be scraped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// Not a URL.
    #[error(
        "scrape URL {0:?} cannot be read: {1}; expected something like http://127.0.0.1:8080/metrics"
    )]
    Url(String, String),
    /// Another scheme than http.
    #[error("scrape URL scheme {0:?} is not supported; only http is")]
    Scheme(String),
    /// Interval or timeout out of range.
    #[error(
        "scrape interval {every:?} and timeout {timeout:?}: both must be above zero and the timeout no longer than the interval"
    )]
    Pace {
        /// The interval.
        every: Duration,
        /// The timeout.
        timeout: Duration,
    },
}

impl ScrapeTarget {
    /// Checks and builds a target without further labels.
    ///
    /// # Errors
    /// When the URL is not an `http` URL, or interval and timeout make no sense together.
    pub fn new(
        job: &str,
        url: &str,
        every: Duration,
        timeout: Duration,
    ) -> Result<Self, TargetError> {
        let parsed = Url::parse(url).map_err(|e| TargetError::Url(url.into(), e.to_string()))?;
        if parsed.scheme() != "http" {
            return Err(TargetError::Scheme(parsed.scheme().into()));
        }
        if every.is_zero() || timeout.is_zero() || timeout > every {
            return Err(TargetError::Pace { every, timeout });
        }
        Ok(ScrapeTarget {
            job: job.into(),
            url: parsed,
            every,
            timeout,
            labels: Labels::default(),
        })
    }

    /// Adds labels for every series of the target.
    #[must_use]
    pub fn with_labels(mut self, labels: Labels) -> Self {
        self.labels = labels;
        self
    }

    fn own_labels(&self) -> Labels {
        let host = self.url.host_str().unwrap_or("");
        let port = self.url.port_or_known_default().unwrap_or(80);
        let mut own = self.labels.clone();
        if own.get("job").is_none() {
            own = own.with("job", &self.job);
        }
        if own.get("instance").is_none() {
            own = own.with("instance", &format!("{host}:{port}"));
        }
        own
    }
}

/// What one scrape did.
#[derive(Debug, Clone, PartialEq)]
pub struct ScrapeReport {
    /// Samples in the answer; 0 when it failed.
    pub samples: usize,
    /// When it began, Unix milliseconds; the time of all samples without one of their own.
    pub t_ms: i64,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, or which samples the store refused.
    pub error: Option<String>,
    /// Whether the target counts as up.
    pub up: bool,
}

/// Scrapes one target. Holds what must be remembered between scrapes.
pub struct Scraper {
    store: Arc<MetricStore>,
    target: ScrapeTarget,
    own: Labels,
    client: Client<HttpConnector, Empty<bytes::Bytes>>,
    present: HashSet<Labels>,
}

impl Scraper {
    /// A scraper that has not scraped yet.
    pub fn new(store: Arc<MetricStore>, target: ScrapeTarget) -> Self {
        let own = target.own_labels();
        store.targets.add(&target, &own);
        Scraper {
            store,
            own,
            target,
            client: Client::builder(TokioExecutor::new()).build_http(),
            present: HashSet::new(),
        }
    }

    /// Scrapes now and stores what came, or that nothing came.
    pub async fn scrape_once(&mut self) -> ScrapeReport {
        let began = SystemTime::now();
        let t_ms = unix_ms(began);
        let started = std::time::Instant::now();
        let answer = match tokio::time::timeout(self.target.timeout, self.fetch()).await {
            Ok(answer) => answer,
            Err(_) => Err(format!(
                "no complete answer within {:?}",
                self.target.timeout
            )),
        };
        let took = started.elapsed();
        let mut report = ScrapeReport {
            samples: 0,
            t_ms,
            took,
            error: None,
            up: true,
        };
        let samples = match answer {
            Ok(exposition) => {
                self.store.learn(exposition.metadata);
                exposition.samples
            }
            Err(e) => {
                report.error = Some(e);
                report.up = false;
                Vec::new()
            }
        };
        report.samples = samples.len();
        self.store_samples(samples, &mut report);
        self.store_report(&report);
        self.store.targets.record(&self.target, began, &report);
        report
    }

    async fn fetch(&self) -> Result<Exposition, String> {
        let request = http::Request::get(self.target.url.as_str())
            .header(http::header::ACCEPT, ACCEPT)
            .header(
                http::header::USER_AGENT,
                concat!("harness-evidence/", env!("CARGO_PKG_VERSION")),
            )
            .body(Empty::new())
            .map_err(|e| format!("request for {}: {e}", self.target.url))?;
        let url = &self.target.url;
        let answer = self
            .client
            .request(request)
            .await
            .map_err(|e| format!("Get \"{url}\": {}", with_causes(&e)))?;
        if answer.status() != http::StatusCode::OK {
            return Err(format!("server returned HTTP status {}", answer.status()));
        }
        let header = |name| answer.headers().get(name).and_then(|v| v.to_str().ok());
        if let Some(coding) = header(http::header::CONTENT_ENCODING)
            && coding != "identity"
        {
            return Err(format!(
                "unsupported Content-Encoding {coding:?}; none was asked for"
            ));
        }
        let format = Format::of_content_type(header(http::header::CONTENT_TYPE))?;
        let body = Limited::new(answer.into_body(), BODY_LIMIT)
            .collect()
            .await
            .map_err(|e| format!("reading the body (limit {BODY_LIMIT} bytes): {e}"))?
            .to_bytes();
        let text = std::str::from_utf8(&body).map_err(|e| format!("the body is not UTF-8: {e}"))?;
        exposition::read(text, format).map_err(|e| e.to_string())
    }

    /// Samples and the stale markers of what vanished go in under one lock.
    fn store_samples(
        &mut self,
        samples: Vec<exposition::ExposedSample>,
        report: &mut ScrapeReport,
    ) {
        let mut present = HashSet::with_capacity(samples.len());
        let mut batch = Vec::with_capacity(samples.len());
        for s in samples {
            let labels = self.with_own_labels(&s.labels);
            if s.t_ms.is_none() {
                // Series with times of their own are not marked stale, as in Prometheus.
                present.insert(labels.clone());
            }
            batch.push((labels, s.t_ms.unwrap_or(report.t_ms), s.value));
        }
        let gone = self.present.difference(&present).cloned();
        batch.extend(gone.map(|labels| (labels, report.t_ms, stale_nan())));
        let outcome = self.store.append_batch(batch);
        self.present = present;
        if let Some(e) = outcome.first_error {
            // Out-of-order and contradicting samples are counted, as in Prometheus; a full store
            // loses evidence, and a target whose evidence is lost must not look healthy.
            report.up &= !matches!(e, AppendError::Full { .. } | AppendError::NotRecorded(_));
            let why = format!("{} samples refused, the first: {e}", outcome.rejected);
            report.error.get_or_insert(why);
        }
    }

    fn store_report(&self, r: &ScrapeReport) {
        let series = [
            ("up", f64::from(u8::from(r.up))),
            ("scrape_duration_seconds", r.took.as_secs_f64()),
            ("scrape_samples_scraped", r.samples as f64),
        ];
        let outcome = self
            .store
            .append_batch(series.map(|(name, v)| (self.own.with(METRIC_NAME, name), r.t_ms, v)));
        if let Some(e) = outcome.first_error {
            tracing::warn!(job = %self.target.job, "scrape report not stored: {e}");
        }
    }

    /// The target's labels win; a label of the same name is kept as `exported_<name>`.
    fn with_own_labels(&self, exposed: &Labels) -> Labels {
        let mut out = exposed.clone();
        for (name, value) in self.own.iter() {
            if let Some(theirs) = exposed.get(name) {
                let mut moved = format!("exported_{name}");
                while out.get(&moved).is_some() || self.own.get(&moved).is_some() {
                    moved = format!("exported_{moved}");
                }
                out = out.with(&moved, theirs);
            }
            out = out.with(name, value);
        }
        out
    }
}

/// Scrapes until `shutdown`; the first scrape is at once, the n-th at the first plus n intervals.
pub async fn run(store: Arc<MetricStore>, target: ScrapeTarget, shutdown: CancellationToken) {
    let every = target.every;
    let mut scraper = Scraper::new(store, target);
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let report = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            report = scraper.scrape_once() => report,
        };
        if let Some(e) = &report.error {
            tracing::debug!(job = %scraper.target.job, url = %scraper.target.url, "scrape: {e}");
        }
    }
}

/// Scrapes one target once, for callers that need no history between scrapes.
pub async fn scrape_once(store: Arc<MetricStore>, target: ScrapeTarget) -> ScrapeReport {
    Scraper::new(store, target).scrape_once().await
}

/// An error and what it came from: only the last cause says that a connection was refused.
fn with_causes(e: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(e.source(), |c| c.source());
    causes.fold(e.to_string(), |text, c| format!("{text}: {c}"))
}

fn unix_ms(t: SystemTime) -> i64 {
    t.duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;

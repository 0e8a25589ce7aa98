//! What is known of every scrape target, for `/api/v1/targets`.

use super::{ScrapeReport, ScrapeTarget};
use crate::store::metrics::Labels;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// The state of one target.
#[derive(Debug, Clone)]
pub struct TargetStatus {
    /// Job name.
    pub job: String,
    /// Where it is scraped.
    pub url: url::Url,
    /// The labels given to its series.
    pub labels: Labels,
    /// Time between scrapes.
    pub every: Duration,
    /// How long a scrape may take.
    pub timeout: Duration,
    /// When the last scrape began; `None` before the first.
    pub last_scrape: Option<SystemTime>,
    /// How long the last scrape took.
    pub last_duration: Duration,
    /// Why the last scrape failed or lost samples; empty when all was well.
    pub last_error: String,
    /// `None` before the first scrape.
    pub up: Option<bool>,
}

/// All targets, by job and URL.
#[derive(Default)]
pub struct TargetBook(Mutex<BTreeMap<(String, String), TargetStatus>>);

impl TargetBook {
    pub(super) fn add(&self, target: &ScrapeTarget, labels: &Labels) {
        self.lock().entry(key(target)).or_insert(TargetStatus {
            job: target.job.clone(),
            url: target.url.clone(),
            labels: labels.clone(),
            every: target.every,
            timeout: target.timeout,
            last_scrape: None,
            last_duration: Duration::ZERO,
            last_error: String::new(),
            up: None,
        });
    }

    pub(super) fn record(&self, target: &ScrapeTarget, began: SystemTime, report: &ScrapeReport) {
        if let Some(status) = self.lock().get_mut(&key(target)) {
            status.last_scrape = Some(began);
            status.last_duration = report.took;
            status.last_error = report.error.clone().unwrap_or_default();
            status.up = Some(report.up);
        }
    }

    /// The state of all targets, sorted by job and URL.
    pub fn all(&self) -> Vec<TargetStatus> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, String), TargetStatus>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key(target: &ScrapeTarget) -> (String, String) {
    (target.job.clone(), target.url.to_string())
}

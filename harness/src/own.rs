//! What the harness knows of its own process.

use std::time::Duration;

/// CPU seconds (user and system) of this process so far, from `/proc/self/stat`; `None` elsewhere.
#[must_use]
pub fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The command in parentheses may hold spaces; fields are counted behind it (proc(5)).
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    Some(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// Cores this process may use.
#[must_use]
pub fn cores() -> u32 {
    std::thread::available_parallelism()
        .map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(u32::MAX))
}

/// Raises the soft limit of open files to the hard one and says what it is then.
#[must_use]
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current < limit.maximum || limit.maximum.is_none() {
        let wanted = limit.maximum;
        let before = limit.current;
        limit.current = wanted;
        if setrlimit(Resource::Nofile, limit).is_err() {
            return before;
        }
    }
    getrlimit(Resource::Nofile).current
}

/// Watches the event loop it is spawned on: how much later than asked a task runs.
pub async fn watch_stalls(longest: std::sync::Arc<std::sync::atomic::AtomicU64>) {
    const EVERY: Duration = Duration::from_millis(20);
    loop {
        let asked = tokio::time::Instant::now() + EVERY;
        tokio::time::sleep_until(asked).await;
        let late = tokio::time::Instant::now().saturating_duration_since(asked);
        let nanos = u64::try_from(late.as_nanos()).unwrap_or(u64::MAX);
        longest.fetch_max(nanos, std::sync::atomic::Ordering::Relaxed);
    }
}

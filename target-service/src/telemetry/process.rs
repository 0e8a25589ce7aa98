//! What the process uses, read from `/proc` when it is asked for. Linux only: elsewhere, or where
//! `/proc` cannot be read, the values are not registered or stay as last read.

use std::path::PathBuf;
use std::sync::Mutex;

use prometheus::{Counter, Gauge, IntGauge, Opts, Registry};

use super::metrics::gauge;
use super::names::{self, Metric};

/// `/proc` counts CPU time in clock ticks; user space sees 100 a second on every architecture Rust
/// supports on Linux (`USER_HZ`), whatever the kernel's own tick is.
const TICKS_PER_SECOND: f64 = 100.0;

/// One reading of `/proc/self`.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reading {
    cpu_seconds: f64,
    start_seconds: f64,
    resident_bytes: i64,
    threads: i64,
    open_fds: i64,
}

#[derive(Debug)]
pub(super) struct ProcessMetrics {
    cpu: Counter,
    start: Gauge,
    memory: IntGauge,
    threads: IntGauge,
    fds: IntGauge,
    quota: Option<Quota>,
    // Serialises refreshes: two scrapes at once would both add the same CPU time.
    refreshing: Mutex<()>,
}

impl ProcessMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let opts = |m: Metric| Opts::new(m.name, m.help);
        // Where there is no /proc, a registry nobody reads takes them: absent, not zero.
        let nowhere = Registry::new();
        let registry = if read().is_some() { registry } else { &nowhere };
        let cpu = Counter::with_opts(opts(names::PROCESS_CPU))?;
        let start = Gauge::with_opts(opts(names::PROCESS_START))?;
        registry.register(Box::new(cpu.clone()))?;
        registry.register(Box::new(start.clone()))?;
        Ok(ProcessMetrics {
            cpu,
            start,
            memory: gauge(registry, names::PROCESS_MEMORY)?,
            threads: gauge(registry, names::PROCESS_THREADS)?,
            fds: gauge(registry, names::PROCESS_FDS)?,
            quota: Quota::register(registry)?,
            refreshing: Mutex::new(()),
        })
    }

    pub(super) fn refresh(&self) {
        let _one_at_a_time = self
            .refreshing
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let Some(now) = read() else { return };
        // inc_by refuses to go back; the kernel's sum never does, but rounding might.
        self.cpu.inc_by((now.cpu_seconds - self.cpu.get()).max(0.0));
        self.start.set(now.start_seconds);
        self.memory.set(now.resident_bytes);
        self.threads.set(now.threads);
        self.fds.set(now.open_fds);
        if let Some(quota) = &self.quota {
            quota.refresh();
        }
    }
}

/// What the CPU quota of the process' cgroup did, where there is one.
#[derive(Debug)]
struct Quota {
    file: PathBuf,
    periods: Counter,
    throttled_periods: Counter,
    throttled: Counter,
}

/// Counts of a `cpu.stat` with a quota.
#[derive(Debug, PartialEq)]
struct Throttling {
    periods: f64,
    throttled_periods: f64,
    throttled_seconds: f64,
}

impl Quota {
    fn register(registry: &Registry) -> Result<Option<Self>, prometheus::Error> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let found = stat_files(&groups)
            .into_iter()
            .find(|file| throttling(&std::fs::read_to_string(file).unwrap_or_default()).is_some());
        let Some(file) = found else { return Ok(None) };
        let counter = |metric: Metric| -> Result<Counter, prometheus::Error> {
            let counter = Counter::with_opts(Opts::new(metric.name, metric.help))?;
            registry.register(Box::new(counter.clone()))?;
            Ok(counter)
        };
        Ok(Some(Quota {
            file,
            periods: counter(names::CGROUP_PERIODS)?,
            throttled_periods: counter(names::CGROUP_THROTTLED_PERIODS)?,
            throttled: counter(names::CGROUP_THROTTLED)?,
        }))
    }

    fn refresh(&self) {
        let Some(now) = std::fs::read_to_string(&self.file)
            .ok()
            .as_deref()
            .and_then(throttling)
        else {
            return;
        };
        for (counter, value) in [
            (&self.periods, now.periods),
            (&self.throttled_periods, now.throttled_periods),
            (&self.throttled, now.throttled_seconds),
        ] {
            counter.inc_by((value - counter.get()).max(0.0));
        }
    }
}

/// Where the `cpu.stat` of this process can be, by `/proc/self/cgroup` (cgroups(7)): version 2 has one
/// hierarchy, version 1 one of its own for the CPU. Inside a container its own group is the root.
fn stat_files(groups: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        let root = match controllers {
            "" => "/sys/fs/cgroup",
            list if list.split(',').any(|c| c == "cpu") => "/sys/fs/cgroup/cpu",
            _ => continue,
        };
        files.push(PathBuf::from(format!("{root}{path}/cpu.stat")));
        files.push(PathBuf::from(format!("{root}/cpu.stat")));
    }
    files
}

/// `None` when the group counts no periods, hence has no quota.
fn throttling(stat: &str) -> Option<Throttling> {
    let find = |key: &str| {
        let line = stat
            .lines()
            .find_map(|l| l.strip_prefix(key)?.strip_prefix(' '))?;
        line.trim().parse::<f64>().ok()
    };
    let seconds = find("throttled_usec")
        .map(|micros| micros / 1e6)
        .or_else(|| find("throttled_time").map(|nanos| nanos / 1e9))?;
    Some(Throttling {
        periods: find("nr_periods").filter(|n| *n > 0.0)?,
        throttled_periods: find("nr_throttled")?,
        throttled_seconds: seconds,
    })
}

fn read() -> Option<Reading> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let system = std::fs::read_to_string("/proc/stat").ok()?;
    let open_fds = std::fs::read_dir("/proc/self/fd").ok()?.count();
    // The reading itself holds the directory open.
    parse(
        &stat,
        &status,
        &system,
        i64::try_from(open_fds.saturating_sub(1)).ok()?,
    )
}

/// `/proc/self/stat`, `/proc/self/status` and `/proc/stat` as described in proc(5).
fn parse(stat: &str, status: &str, system: &str, open_fds: i64) -> Option<Reading> {
    // The command's name is in parentheses and may hold anything, blanks and parentheses too.
    let (_, fields) = stat.rsplit_once(')')?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    // Field 3 (state) is the first here; utime is 14, stime 15, num_threads 20, starttime 22.
    let field = |n: usize| fields.get(n - 3)?.parse::<f64>().ok();
    let boot = system.lines().find_map(|l| l.strip_prefix("btime "))?;
    let resident = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kilobytes: i64 = resident.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(Reading {
        cpu_seconds: (field(14)? + field(15)?) / TICKS_PER_SECOND,
        start_seconds: boot.trim().parse::<f64>().ok()? + field(22)? / TICKS_PER_SECOND,
        resident_bytes: kilobytes.checked_mul(1024)?,
        threads: field(20)? as i64,
        open_fds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_behind_a_nasty_name() {
        let stat = "42 (a ) (b) S 1 42 42 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 7 0 1000 1 2 3";
        let reading = parse(
            stat,
            "Name:\tx\nVmRSS:\t  2048 kB\n",
            "cpu 1\nbtime 1700000000\n",
            9,
        );
        assert_eq!(
            reading,
            Some(Reading {
                cpu_seconds: 3.0,
                start_seconds: 1_700_000_010.0,
                resident_bytes: 2048 * 1024,
                threads: 7,
                open_fds: 9,
            })
        );
        assert_eq!(parse("42 (a) S", "VmRSS: 1 kB", "btime 1", 1), None);
        assert_eq!(parse("", "", "", 0), None);
    }

    #[test]
    fn throttling_is_read_from_both_versions_of_cgroups() {
        let second = "usage_usec 9\nnr_periods 40\nnr_throttled 3\nthrottled_usec 250000\n";
        let first = "nr_periods 40\nnr_throttled 3\nthrottled_time 250000000\n";
        for stat in [second, first] {
            let expected = Throttling {
                periods: 40.0,
                throttled_periods: 3.0,
                throttled_seconds: 0.25,
            };
            assert_eq!(throttling(stat), Some(expected));
        }
        assert_eq!(throttling("usage_usec 9\n"), None);
        assert_eq!(throttling(&second.replace("40", "0")), None, "no quota");
        let files = stat_files("3:cpuset:/a\n2:cpu,cpuacct:/b\n0::/c\nnonsense\n");
        let files: Vec<&str> = files.iter().filter_map(|f| f.to_str()).collect();
        assert_eq!(
            files,
            [
                "/sys/fs/cgroup/cpu/b/cpu.stat",
                "/sys/fs/cgroup/cpu/cpu.stat",
                "/sys/fs/cgroup/c/cpu.stat",
                "/sys/fs/cgroup/cpu.stat",
            ]
        );
    }
}

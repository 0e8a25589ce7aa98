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

/// Asks the system to run this thread before all that are not of a real-time class, at the lowest
/// real-time priority; says whether it does. Needs the right to (`CAP_SYS_NICE`, or an `RLIMIT_RTPRIO`)
/// and a second core for everybody else.
///
/// The threads that keep the schedule sleep nearly always, so they take little from their neighbours;
/// waiting behind a compiler for their slice makes requests late that the service then seems to answer
/// late. A `nice` value would not do: it counts only within one session where the kernel groups tasks
/// by session (sched(7), "The autogroup feature").
pub fn run_first() -> bool {
    use thread_priority::{
        RealtimeThreadSchedulePolicy, ThreadPriority, ThreadPriorityValue, ThreadSchedulePolicy,
        set_thread_priority_and_policy, thread_native_id,
    };
    if cores() < 2 {
        return false;
    }
    let Ok(lowest) = ThreadPriorityValue::try_from(1_u8) else {
        return false;
    };
    set_thread_priority_and_policy(
        thread_native_id(),
        ThreadPriority::Crossplatform(lowest),
        ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin),
    )
    .is_ok()
}

/// Ports that outgoing connections to one address may use, where the system tells (Linux).
#[must_use]
pub fn ephemeral_ports() -> Option<u64> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut ends = range.split_whitespace().map(str::parse::<u64>);
    let (first, last) = (ends.next()?.ok()?, ends.next()?.ok()?);
    Some(last.checked_sub(first)? + 1)
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

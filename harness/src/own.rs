//! What the harness knows of its own process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use harness_core::record::Generator;
use harness_core::units::Nanos;
use tokio::time::Instant;

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

/// What the generator sees of itself while it sends.
#[derive(Debug, Default)]
pub struct Watch {
    /// Longest time the event loop did not come round, nanoseconds.
    stall: AtomicU64,
    /// CPU nanoseconds of the sending thread, and the wall nanoseconds they were counted over.
    cpu: AtomicU64,
    wall: AtomicU64,
    /// Busiest stretch of about a second: share of one core, millionths.
    busiest: AtomicU64,
    /// Most files open at once.
    files: AtomicU64,
    /// Whether the system runs the sending thread before others.
    first: AtomicBool,
}

impl Watch {
    /// To be called on the sending thread when it begins.
    pub fn thread_begins(&self) {
        self.first.store(run_first(), Ordering::Relaxed);
    }

    /// Puts what was seen into the record.
    pub fn tell(&self, facts: &mut Generator) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        facts.longest_stall = Nanos(read(&self.stall));
        facts.runs_first = self.first.load(Ordering::Relaxed);
        let wall = read(&self.wall);
        facts.sender_cpu_share = (wall > 0).then(|| read(&self.cpu) as f64 / wall as f64);
        facts.busiest_second = read(&self.busiest) as f64 / 1e6;
        facts.open_files = Some(read(&self.files)).filter(|files| *files > 0);
    }
}

/// Watches the event loop it runs on: how much later than asked a task runs, and how much of a core
/// its thread uses.
pub async fn watch_loop(watch: Arc<Watch>) {
    const EVERY: Duration = Duration::from_millis(20);
    const SECOND: Duration = Duration::from_secs(1);
    let cpu = || {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or(0),
            u32::try_from(time.tv_nsec).unwrap_or(0),
        )
    };
    let nanos = |time: Duration| Nanos::from_duration(time).0;
    let (start, start_cpu) = (Instant::now(), cpu());
    let (mut second, mut second_cpu) = (start, start_cpu);
    loop {
        let asked = Instant::now() + EVERY;
        tokio::time::sleep_until(asked).await;
        let now = Instant::now();
        let late = now.saturating_duration_since(asked);
        watch.stall.fetch_max(nanos(late), Ordering::Relaxed);
        let passed = now.duration_since(second);
        if passed >= SECOND {
            let used = cpu();
            let share = used.saturating_sub(second_cpu).as_secs_f64() / passed.as_secs_f64();
            watch
                .busiest
                .fetch_max((share * 1e6) as u64, Ordering::Relaxed);
            let all = used.saturating_sub(start_cpu);
            watch.cpu.store(nanos(all), Ordering::Relaxed);
            watch
                .wall
                .store(nanos(now.duration_since(start)), Ordering::Relaxed);
            (second, second_cpu) = (now, used);
        }
    }
}

/// Watches how many files this process has open, where the system tells.
pub async fn watch_files(watch: Arc<Watch>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let Ok(entries) = std::fs::read_dir("/proc/self/fd") else {
            return;
        };
        watch
            .files
            .fetch_max(entries.count() as u64, Ordering::Relaxed);
    }
}

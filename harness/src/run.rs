//! One run from the scenario to the verdict. One file because it is one story, told in the order of time;
//! what each step does lies in its own module.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness_core::judge::BaselineWanted;
use harness_core::judge::tally::Tally;
use harness_core::measure::{AbortWatch, Measurements};
use harness_core::observation::{Observation, Outcome};
use harness_core::record::baseline::Baselines;
use harness_core::record::context::{Context, EarlierAttempt, Production};
use harness_core::record::sampled::LoadEnd;
use harness_core::record::together::Common;
use harness_core::record::{
    AnswerBook, FaultApplied, Generator, RUN_SCHEMA, RunFacts, Settled, Stop, Target,
};
use harness_core::report::model::{Report, Verdict};
use harness_core::request::Planner;
use harness_core::scenario::{Executor, Grafana, Scenario};
use harness_core::schedule::{self, Shard, Tapes};
use harness_core::units::{Nanos, Seed, UnixNanos};
use rand::RngExt as _;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::backends;
use crate::baseline;
use crate::cli::EXIT_INVALID;
use crate::clock::{Clock, wall_now};
use crate::columns;
use crate::drive::{Drive, Gauges, Tell};
use crate::histograms;
use crate::inputs::{self, Inputs, Overrides};
use crate::observed::Observed;
use crate::output::{self, Format};
use crate::own;
use crate::progress::Progress;
use crate::publish::{self, Destinations};
use crate::recorder::{self, Recorded, Recorder};
use crate::redact::{hide, redact};
use crate::results::{self, Meeting, Store};
use crate::retry;
use crate::run_dir::{self, FinishedRun, Requests, RunDir};
use crate::send::{SendOptions, Sender};
use crate::settle::Settling;
use crate::signals::Signals;
use crate::stage::{Stage, service_name};
use crate::target::{self, TargetProcess};
use crate::trace;

/// Least time between the decision to start and the first instant of the schedule.
const LEAD: Duration = Duration::from_millis(200);

/// What `harness run` was asked.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// The scenario file.
    pub scenario: PathBuf,
    /// What the command line says over the file.
    pub overrides: Overrides,
    /// The run directory; `runs/NAME-TIME-RANDOM` where not given.
    pub out: Option<PathBuf>,
    /// Directories of earlier runs to compare with.
    pub baselines: Vec<PathBuf>,
    /// Missed warn criteria fail the run.
    pub strict: bool,
    /// How many more attempts may be made; see [`retry`].
    pub retries: u32,
    /// Traffic in production.
    pub production: Option<Production>,
    /// The part of the schedule to send.
    pub shard: Shard,
    /// When the load is to begin, by the wall clock; at once where not given.
    pub start_at: Option<UnixNanos>,
    /// Where the shards meet and put their results, and how long they wait for each other.
    pub results: Option<(String, Duration)>,
    /// Nothing on stderr but errors.
    pub quiet: bool,
    /// Form of what is printed at the end.
    pub format: Format,
    /// Where the verdict goes beside.
    pub publish: Destinations,
}

/// Why there is no report.
#[derive(Debug)]
pub enum Failure {
    /// Usage or configuration; exit 2.
    Config(String),
    /// Something of ours; exit 1.
    Internal(String),
}

/// Carries out a run, with further attempts where they were asked for, and gives the exit code of its
/// verdict.
///
/// # Errors
/// When nothing could be started or kept; every other ending has a report.
pub async fn run(options: RunOptions) -> Result<u8, Failure> {
    let inputs = inputs::load(&options.scenario, &options.overrides)
        .map_err(|wrong| Failure::Config(wrong.to_string()))?;
    if options.shard.is_part() {
        shardable(&inputs.scenario).map_err(Failure::Config)?;
    }
    // Before there is a directory, which would stand in the way of the next try.
    if options.start_at.is_some_and(|at| at <= wall_now()) {
        return Err(Failure::Config(late(options.start_at.unwrap_or_default())));
    }
    let meeting = meeting(&options, &inputs).map_err(Failure::Config)?;
    let progress = Progress::new(options.quiet);
    let name = &inputs.scenario.metadata.name;
    let out = options
        .out
        .clone()
        .unwrap_or_else(|| Path::new("runs").join(run_id(name)));
    let most = options.retries.saturating_add(1);
    let mut context = Context {
        files: digests(&inputs),
        strict: options.strict,
        production: options.production.clone(),
        earlier: baseline::beside(&out, &run_dir::sha256(&inputs.text)),
        shard: Some(options.shard).filter(|shard| shard.is_part()),
        ..Context::default()
    };
    let mut earlier = Vec::new();
    let mut number = 1;
    let (dir, report, ended) = loop {
        let dir = retry::place(&out, number, most);
        context.attempt = retry::attempt(number, most, &earlier);
        let (finished, report) = attempt(
            &options,
            &inputs,
            &dir,
            &context,
            meeting.as_ref(),
            &progress,
        )
        .await?;
        if let Some(meeting) = &meeting {
            output::print(&report, options.format).map_err(Failure::Internal)?;
            return Ok(hand_in(meeting, &dir, &finished, &report).await);
        }
        if !retry::again(&report, number, most) {
            let ended = finished.facts.started.plus(finished.facts.drained);
            break (dir, report, ended);
        }
        progress.say(&format!(
            "attempt {number} of at most {most} is {} ({}); trying again",
            summary(&report),
            report.reason_code.as_deref().unwrap_or("no reason given")
        ));
        earlier.push(EarlierAttempt {
            dir: retry::name(number),
            run_id: finished.facts.run_id.clone(),
            verdict: report.verdict,
            reason_code: report.reason_code.clone(),
            counts: match report.verdict {
                Verdict::Inconclusive => output::counts(&finished).map_err(Failure::Internal)?,
                _ => BTreeMap::new(),
            },
        });
        number += 1;
    };
    let written = match dir == out {
        true => Ok(()),
        false => output::write_reports(&out, &report),
    };
    output::print(&report, options.format).map_err(Failure::Internal)?;
    written.map_err(Failure::Internal)?;
    for wrong in publish::publish(&report, ended, &options.publish).await {
        eprintln!("harness: {wrong}");
    }
    progress.say(&format!("report: {}", out.join("report.html").display()));
    Ok(report.exit_code)
}

fn late(start_at: UnixNanos) -> String {
    let at = start_at.rfc3339();
    format!("--start-at {at} has passed: give it more time")
}

/// Whether several processes can send a scenario's load together: all must see one target and one
/// body of evidence.
fn shardable(scenario: &Scenario) -> Result<(), String> {
    let spec = &scenario.spec;
    let telemetry = &spec.telemetry;
    let all_real =
        telemetry.prometheus.is_some() && telemetry.loki.is_some() && telemetry.tempo.is_some();
    if spec.target.start.is_some() {
        return Err("--shard: spec.target.start would start a target for each shard; start it once and give its spec.target.url".into());
    }
    if telemetry.embedded.is_some() && !all_real {
        return Err("--shard: the embedded backends live in each shard's own process; run `harness stack` once, or real backends, and name them in spec.telemetry".into());
    }
    let together = |load: &&harness_core::scenario::Load| load.executor == Executor::MultiStream;
    match spec.loads.iter().find(together) {
        Some(load) => Err(format!(
            "--shard: load `{}` is MultiStream, whose samples wait for one another and cannot be parted",
            load.name
        )),
        None => Ok(()),
    }
}

/// Where the shards of a run meet, if they do.
fn meeting(options: &RunOptions, inputs: &Inputs) -> Result<Option<Meeting>, String> {
    let Some((place, within)) = &options.results else {
        return Ok(None);
    };
    if !options.shard.is_part() {
        return Err(
            "--results is for the shards of a run: say which part this is by --shard".into(),
        );
    }
    let program = std::env::current_exe().map_err(|error| format!("this program: {error}"))?;
    let build = run_dir::sha256_file(&program).map_err(|error| error.to_string())?;
    let slos: Vec<&String> = inputs.slos.iter().map(|(_, text)| text).collect();
    let slos = serde_json::to_string(&slos).map_err(|error| error.to_string())?;
    Ok(Some(Meeting {
        store: Store::open(place).map_err(|error| format!("--results: {error}"))?,
        within: *within,
        common: Common {
            scenario_sha256: run_dir::sha256(&inputs.text),
            slo_sha256: run_dir::sha256(&slos),
            files: digests(inputs),
            seed: inputs.scenario.spec.seed,
            harness_version: env!("CARGO_PKG_VERSION").into(),
            build,
        },
    }))
}

/// Puts a shard's results where the gate looks for them. 0 says that they are there, and nothing of how
/// the load went: that is for the gate to judge.
async fn hand_in(meeting: &Meeting, dir: &Path, run: &FinishedRun, report: &Report) -> u8 {
    let shard = run.facts.context.shard.unwrap_or_default();
    let place = meeting.store.name();
    if run.facts.context.start.is_none() {
        eprintln!("harness: shard {shard} sent nothing, so there is nothing to deliver");
        return report.exit_code.max(EXIT_INVALID);
    }
    match results::deliver(&meeting.store, dir, run, &meeting.common).await {
        Ok(manifest) => {
            eprintln!(
                "harness: shard {shard} is delivered as {place}/{manifest}. It decides nothing: the verdict is that of `harness merge {place}`"
            );
            match report.reason_code.as_deref() {
                Some("one_shard") => 0,
                _ => report.exit_code,
            }
        }
        Err(why) => {
            eprintln!(
                "harness: invalid run: the results of shard {shard} could not be delivered: {why}. They are in {}",
                dir.display()
            );
            EXIT_INVALID
        }
    }
}

/// Digests of the files that the scenario names.
fn digests(inputs: &Inputs) -> BTreeMap<String, String> {
    let files = inputs.datasets.iter();
    files
        .map(|(file, text)| (file.clone(), run_dir::sha256(text)))
        .collect()
}

fn summary(report: &Report) -> &'static str {
    match report.verdict {
        Verdict::Invalid => "invalid",
        _ => "inconclusive",
    }
}

/// One attempt: its own directory, sealed, read back and judged, with its reports.
pub(crate) async fn attempt(
    options: &RunOptions,
    inputs: &Inputs,
    out: &Path,
    context: &Context,
    meeting: Option<&Meeting>,
    progress: &Progress,
) -> Result<(FinishedRun, Report), Failure> {
    let run_id = run_id(&inputs.scenario.metadata.name);
    let mut dir = RunDir::create(out, &inputs.text, &inputs.slos)
        .map_err(|error| Failure::Config(error.to_string()))?;
    let baselines = baselines(options, inputs, &run_id, progress);
    if let Some(baselines) = &baselines {
        dir.keep_baselines(baselines).map_err(keep)?;
    }
    let open_files = own::raise_open_files();
    let signals = Signals::listen().map_err(Failure::Internal)?;

    let mut stage = Stage::new().map_err(Failure::Internal)?;
    let prepared = tokio::select! {
        prepared = stage.prepare(&inputs.scenario, dir.path(), progress) => prepared,
        () = signals.first.cancelled() => Err(Stop::Interrupted("a signal, before the load began".into())),
    };
    let mut facts = first_facts(inputs, &run_id, &stage);
    facts.context = context.clone();
    facts.generator.open_files_limit = open_files;
    let version = facts.expect_version.as_deref();
    hide(&mut facts.target.url, version, &inputs.secrets);
    let ended = match prepared {
        Ok(()) => {
            let baselines = baselines.as_ref();
            let part = Part {
                shard: options.shard,
                start_at: options.start_at,
                meeting,
            };
            load(
                inputs, baselines, part, &mut facts, &mut stage, &dir, &signals, progress,
            )
            .await
        }
        Err(stop) => {
            facts.stop = Some(stop);
            let closed = dir.requests_log().and_then(|mut log| log.close());
            closed
                .and_then(|()| dir.requests())
                .map(|requests| (AnswerBook::default(), requests))
                .map_err(keep)
        }
    };
    progress.moving("stopping".into());
    let stopped = tokio::select! {
        stopped = stage.stop(&mut facts) => stopped,
        // What is dropped is killed.
        () = signals.second.cancelled() => Ok(()),
    };
    progress.finish();
    let (answers, requests) = ended?;
    stopped.map_err(Failure::Internal)?;
    let answers = redact(&mut facts, answers, &inputs.secrets);
    dir.seal(&facts, &answers, &requests).map_err(keep)?;

    let finished = run_dir::read_with(dir.path(), requests).map_err(keep)?;
    let report = output::judge_finished(&finished, None).map_err(Failure::Internal)?;
    output::write_reports(dir.path(), &report).map_err(Failure::Internal)?;
    Ok((finished, report))
}

/// What is needed of the earlier runs that were named; read before the load begins, so that reading
/// does not disturb it.
fn baselines(
    options: &RunOptions,
    inputs: &Inputs,
    run_id: &str,
    progress: &Progress,
) -> Option<Baselines> {
    if options.baselines.is_empty() {
        return None;
    }
    let wanted = BaselineWanted {
        scenario_sha256: &run_dir::sha256(&inputs.text),
        files: &digests(inputs),
        run_id,
        service: &service_name(&inputs.scenario),
        objectives: &inputs.objectives,
    };
    let taken = baseline::take(&options.baselines, &wanted);
    for run in &taken.runs {
        if let Some(why) = &run.unusable {
            progress.say(&format!("the baseline {} cannot be used: {why}", run.dir));
        }
    }
    Some(taken)
}

pub(crate) fn keep(error: run_dir::RunDirError) -> Failure {
    Failure::Internal(format!("the run cannot be kept: {error}"))
}

/// The words of a stop.
pub(crate) fn why(stop: &Stop) -> &str {
    match stop {
        Stop::Interrupted(why)
        | Stop::AbortRule(why)
        | Stop::TargetUnreachable(why)
        | Stop::BackendUnreachable(why)
        | Stop::CannotRecord(why)
        | Stop::NotStarted(why) => why,
    }
}

/// `NAME-YYYYMMDDTHHMMSSZ-RANDOM`.
pub(crate) fn run_id(name: &str) -> String {
    let time: String = wall_now()
        .rfc3339()
        .chars()
        .filter(|c| !matches!(c, '-' | ':'))
        .collect();
    format!("{name}-{time}-{:04x}", rand::rng().random::<u16>())
}

/// The facts that are known before the load.
pub(crate) fn first_facts(inputs: &Inputs, run_id: &str, stage: &Stage) -> RunFacts {
    RunFacts {
        schema: RUN_SCHEMA.into(),
        run_id: run_id.into(),
        harness_version: env!("CARGO_PKG_VERSION").into(),
        scenario: inputs.scenario.metadata.name.clone(),
        scenario_sha256: run_dir::sha256(&inputs.text),
        seed: Seed(inputs.scenario.spec.seed),
        started: wall_now(),
        drained: Nanos(0),
        stretches: schedule::stretches(&inputs.scenario),
        generator: Generator {
            cores: own::cores(),
            ..Generator::default()
        },
        target: Target {
            url: backends::without_credentials(&stage.target.url),
            ..stage.target.clone()
        },
        service: service_name(&inputs.scenario),
        expect_version: inputs.scenario.spec.target.expect_version.clone(),
        backends: stage.used.clone(),
        settled: Settled {
            until: wall_now(),
            ..Settled::default()
        },
        faults: Vec::new(),
        stop: None,
        context: Context::default(),
        grafana: grafana(&inputs.scenario),
        slo_files: run_dir::slo_files(&inputs.slos),
    }
}

/// The Grafana to link to, without a user and password in its address.
fn grafana(scenario: &Scenario) -> Option<Grafana> {
    let mut grafana = scenario.spec.telemetry.grafana.clone()?;
    grafana.url = backends::without_credentials(&grafana.url);
    Some(grafana)
}

/// Which part of the schedule is sent, and from when on.
#[derive(Debug, Clone, Copy)]
struct Part<'a> {
    shard: Shard,
    start_at: Option<UnixNanos>,
    meeting: Option<&'a Meeting>,
}

/// Waits for the other shards, and gives the start by our own clock.
async fn meet(
    meeting: &Meeting,
    shard: Shard,
    facts: &mut RunFacts,
    signals: &Signals,
    progress: &Progress,
) -> Result<Clock, Stop> {
    let met = tokio::select! {
        met = meeting.meet(shard, &facts.run_id, progress) => met.map_err(Stop::NotStarted)?,
        () = signals.first.cancelled() => {
            return Err(Stop::Interrupted("a signal, before the load began".into()));
        }
    };
    let at = met.by_own_clock();
    facts.context.start = Some(met);
    facts.started = at;
    Clock::starting_at(at).ok_or_else(|| {
        let at = at.rfc3339();
        Stop::NotStarted(format!(
            "the start at {at} (by its own clock) had passed when shard {shard} heard of it"
        ))
    })
}

/// The load itself, and then what [`ask`] does.
#[allow(
    clippy::too_many_arguments,
    reason = "one caller, and a run is made of all of these"
)]
async fn load(
    inputs: &Inputs,
    baselines: Option<&Baselines>,
    part: Part<'_>,
    facts: &mut RunFacts,
    stage: &mut Stage,
    dir: &RunDir,
    signals: &Signals,
    progress: &Progress,
) -> Result<(AnswerBook, Requests), Failure> {
    let scenario = Arc::new(inputs.scenario.clone());
    let trace_seed = rand::rng().random::<u64>();
    let planner = Planner::new(&scenario, &inputs.datasets, trace_seed)
        .map_err(|wrong| Failure::Config(wrong.to_string()))?;
    let mut log = dir.requests_log().map_err(keep)?;
    let clock = match (part.meeting, part.start_at) {
        (Some(meeting), _) => match meet(meeting, part.shard, facts, signals, progress).await {
            Ok(clock) => clock,
            Err(stop) => {
                facts.stop = Some(stop);
                log.close().map_err(keep)?;
                return Ok((AnswerBook::default(), dir.requests().map_err(keep)?));
            }
        },
        (None, None) => Clock::starting_on_a_second(LEAD),
        (None, Some(at)) => Clock::starting_at(at)
            .ok_or_else(|| Failure::Config(format!("{}, when everything was ready", late(at))))?,
    };
    facts.started = clock.started();
    let options = SendOptions::of(&scenario, &inputs.base).map_err(Failure::Config)?;
    let sender = Sender::new(
        &stage.target.url,
        options,
        clock,
        Arc::new(planner),
        &facts.run_id,
    );
    let sender = Arc::new(sender.map_err(Failure::Config)?);
    let exporter = match &stage.otlp {
        Some(otlp) => Some(trace::start(otlp).map_err(Failure::Config)?),
        None => None,
    };
    let (observed, batches) = Observed::channel();
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    let (kill, over) = (CancellationToken::new(), CancellationToken::new());
    let gauges = Arc::new(Gauges::default());
    let live = Arc::new(Mutex::new(Measurements::new(&scenario)));
    let recorder = Recorder {
        log,
        tally: Tally::new(&scenario, &inputs.objectives),
        live: Arc::clone(&live),
        spans: exporter.as_ref().map(|(queue, ..)| {
            let maker =
                trace::SpanMaker::new(&scenario, facts.started, &facts.run_id, &facts.target.url);
            (maker, queue.clone())
        }),
        abort: AbortWatch::new(&scenario),
        clock,
        rescue: std::env::temp_dir().join(format!("{}.requests.jsonl", facts.run_id)),
        patience: recorder::PATIENCE,
    };
    let ended_for = Arc::new(Mutex::new(None::<Stop>));
    let recording = {
        let (ended_for, tell) = (Arc::clone(&ended_for), tell.clone());
        tokio::task::spawn_blocking(move || {
            recorder.run(&batches, |stop| {
                *ended_for
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner) = Some(stop);
                let _ = tell.send(Tell::Stop);
            })
        })
    };
    let faults = start_faults(&scenario, stage, clock);
    let watch = Arc::new(own::Watch::default());
    let cpu_before = own::cpu_seconds();
    let drive = Drive {
        scenario: Arc::clone(&scenario),
        tapes: Tapes::read(&scenario, &inputs.datasets)
            .map_err(|wrong| Failure::Config(wrong.to_string()))?,
        shard: part.shard,
        sender: Arc::clone(&sender),
        clock,
        observed,
        kill: kill.clone(),
        gauges: Arc::clone(&gauges),
    };
    let mut generator = GeneratorThread::start(drive, tell.clone(), told, Arc::clone(&watch))?;
    let files = tokio::spawn(own::watch_files(Arc::clone(&watch)));
    let paced = async {
        tokio::select! {
            ended = generator.paced() => ended,
            () = async { signals.first.cancelled().await; let _ = tell.send(Tell::Stop); std::future::pending().await } => Ok(()),
        }
    };
    let driven = tokio::select! {
        ended = paced => ended,
        () = progress.watch(&live, &gauges, clock, &facts.stretches, &over) => Ok(()),
    };
    let graceful = scenario.spec.graceful_stop.0;
    let recorded = drain(recording, graceful, &kill, signals, progress).await;
    over.cancel();
    files.abort();
    generator.stop();
    driven?;
    let recorded = recorded?;
    facts.drained = recorded.drained;
    facts.generator.wall_seconds = clock.now().as_secs_f64();
    facts.generator.cpu_seconds = own::cpu_seconds()
        .zip(cpu_before)
        .map(|(after, before)| after - before);
    if let Some(sampled) = recorded.sampled {
        dir.thin(&sampled).map_err(keep)?;
        facts.context.sampled = Some(sampled);
    }
    let requests = dir.requests().map_err(keep)?;
    let rows = &requests.rows;
    end_with_iterations(facts, &scenario, rows);
    {
        let live = live
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        derive(dir, &scenario, facts, rows, &live)?;
    }
    facts.generator.scheduled = gauges.scheduled.load(Ordering::Relaxed);
    facts.generator.connection_waits = sender.waits().count.load(Ordering::Relaxed);
    facts.generator.connection_wait_total = Nanos(sender.waits().nanos.load(Ordering::Relaxed));
    facts.generator.longest_connection_wait = Nanos(sender.waits().longest.load(Ordering::Relaxed));
    facts.generator.connections_opened = sender.connections_opened();
    facts.generator.broken = gauges.broken.load(Ordering::Relaxed);
    watch.tell(&mut facts.generator);
    if let Some((queue, exporting, counts)) = exporter {
        drop(queue);
        let _ = tokio::time::timeout(Duration::from_secs(10), exporting).await;
        facts.generator.spans_offered = counts.offered.load(Ordering::Relaxed);
        facts.generator.spans_exported = counts.exported.load(Ordering::Relaxed);
    }
    for fault in faults {
        if fault.is_finished() {
            facts.faults.extend(fault.await.ok());
        } else {
            fault.abort();
        }
    }
    let ended_for = ended_for
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .take();
    facts.stop = if signals.first.is_cancelled() {
        Some(Stop::Interrupted(
            "a signal asked for the end; what was out was drained".into(),
        ))
    } else {
        ended_for
    };
    if let Some(status) = stage.process.as_mut().and_then(TargetProcess::ended) {
        facts.target.exited = Some(status.to_string());
    }

    if let Some((meeting, start)) = part.meeting.zip(facts.context.start.as_mut()) {
        // Where it cannot be had the results cannot be delivered either.
        start.after = meeting.store.clock().await.ok();
    }
    if part.shard.is_part() {
        // What the backends hold is of all shards: it is asked about when they are merged.
        facts.settled.until = wall_now();
        return Ok((AnswerBook::default(), requests));
    }
    let answers = ask(inputs, baselines, rows, facts, stage, signals, progress).await?;
    Ok((answers, requests))
}

/// The wait for telemetry, and the questions.
async fn ask(
    inputs: &Inputs,
    baselines: Option<&Baselines>,
    rows: &[Observation],
    facts: &mut RunFacts,
    stage: &Stage,
    signals: &Signals,
    progress: &Progress,
) -> Result<AnswerBook, Failure> {
    let stored = Scenario::parse(&inputs.text, "scenario.yaml")
        .map_err(|wrong| Failure::Internal(wrong.to_string()))?;
    let settling = Settling {
        scenario: &stored,
        objectives: &inputs.objectives,
        baselines,
        rows,
        backends: &stage.backends,
        signals,
    };
    // After a signal the telemetry is asked once, as it stands.
    let answers = settling
        .settle(facts, |coverage| {
            let missing: Vec<String> = coverage
                .sources
                .iter()
                .filter(|source| !source.complete)
                .map(|source| source.backend.to_string())
                .collect();
            progress.moving(format!("settling: waiting for {}", missing.join(", ")));
        })
        .await;
    if facts.stop.is_none() && signals.first.is_cancelled() {
        let why = "a signal ended the wait for telemetry; the load itself was complete";
        facts.stop = Some(Stop::Interrupted(why.into()));
    }
    Ok(answers)
}

/// A load that ends with its iterations may end long before its stages do. Its stretches then end with
/// its last request: rates would otherwise be counted over time in which nothing was to be sent.
fn end_with_iterations(facts: &mut RunFacts, scenario: &Scenario, rows: &[Observation]) {
    for (index, load) in (0_u16..).zip(&scenario.spec.loads) {
        let end = match &facts.context.sampled {
            Some(sampled) => sampled.loads.get(usize::from(index)).copied(),
            None => load_end(rows.iter().filter(|row| row.load == index)),
        };
        let end = end.filter(|end| load.executor.has_iterations() && end.dropped == 0);
        let Some(LoadEnd { last, .. }) = end else {
            continue;
        };
        let stretches = facts.stretches.iter_mut();
        for stretch in stretches.filter(|stretch| stretch.load == index) {
            stretch.end = stretch.end.min(last).max(stretch.start);
        }
    }
}

fn load_end<'a>(rows: impl Iterator<Item = &'a Observation>) -> Option<LoadEnd> {
    rows.map(|row| LoadEnd {
        last: row.done,
        dropped: u64::from(row.outcome == Outcome::Dropped),
    })
    .reduce(|a, b| LoadEnd {
        last: a.last.max(b.last),
        dropped: a.dropped + b.dropped,
    })
}

/// Writes what is derived from rows and figures for other tools.
pub(crate) fn derive(
    dir: &RunDir,
    scenario: &Scenario,
    facts: &RunFacts,
    rows: &[Observation],
    measured: &Measurements,
) -> Result<(), Failure> {
    let histograms = dir.path().join("latency.hlog");
    histograms::write(&histograms, scenario, facts, measured).map_err(keep)?;
    let columns = dir.path().join("requests.parquet");
    columns::write(&columns, scenario, rows)
        .map_err(|error| Failure::Internal(format!("{}: {error}", columns.display())))
}

/// The thread that paces and sends, and nothing else.
struct GeneratorThread {
    paced: tokio::sync::oneshot::Receiver<Result<(), String>>,
    /// Its event loop turns until this is cancelled, so that what is out can end.
    over: CancellationToken,
}

impl GeneratorThread {
    fn start(
        drive: Drive<Sender>,
        tell: tokio::sync::mpsc::UnboundedSender<Tell>,
        mut told: tokio::sync::mpsc::UnboundedReceiver<Tell>,
        watch: Arc<own::Watch>,
    ) -> Result<Self, Failure> {
        let no_thread = |error| Failure::Internal(format!("no thread to send on: {error}"));
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(no_thread)?;
        let (say_paced, paced) = tokio::sync::oneshot::channel();
        let over = CancellationToken::new();
        let until = over.clone();
        let turn = move || {
            watch.thread_begins();
            runtime.block_on(async {
                tokio::spawn(own::watch_loop(Arc::clone(&watch)));
                tokio::spawn(Observed::keep_flushing(Arc::downgrade(&drive.observed)));
                let ended = drive.run(&tell, &mut told).await;
                // The recording ends with the last that holds the way to it.
                drop(drive);
                let _ = say_paced.send(ended.map_err(|error| error.to_string()));
                until.cancelled().await;
            });
        };
        let thread = std::thread::Builder::new().name("generator".into());
        thread.spawn(turn).map_err(no_thread)?;
        Ok(Self { paced, over })
    }

    /// When the schedule has ended.
    async fn paced(&mut self) -> Result<(), Failure> {
        match (&mut self.paced).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(Failure::Internal(format!("pacing broke: {why}"))),
            Err(_) => Err(Failure::Internal(
                "pacing broke: its thread panicked".into(),
            )),
        }
    }

    fn stop(&self) {
        self.over.cancel();
    }
}

impl Drop for GeneratorThread {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits for the requests still out, at most `graceful`, then ends them.
async fn drain(
    mut recording: JoinHandle<Result<Recorded, run_dir::RunDirError>>,
    graceful: Duration,
    kill: &CancellationToken,
    signals: &Signals,
    progress: &Progress,
) -> Result<Recorded, Failure> {
    progress.moving("draining".into());
    let ended = tokio::select! {
        ended = &mut recording => Some(ended),
        () = tokio::time::sleep(graceful) => None,
        () = signals.second.cancelled() => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            kill.cancel();
            recording.await
        }
    };
    ended
        .map_err(|error| Failure::Internal(format!("recording broke: {error}")))?
        .map_err(keep)
}

/// Puts each fault on the target at its time.
fn start_faults(
    scenario: &Arc<Scenario>,
    stage: &Stage,
    clock: Clock,
) -> Vec<JoinHandle<FaultApplied>> {
    let admin = stage
        .process
        .as_ref()
        .and_then(|process| process.metrics.clone());
    let put = |number: usize| {
        let (scenario, admin, http) = (Arc::clone(scenario), admin.clone(), stage.http.clone());
        tokio::spawn(async move {
            let fault = &scenario.spec.faults[number];
            let kind = serde_json::to_value(fault.kind)
                .ok()
                .and_then(|kind| Some(kind.as_str()?.to_owned()));
            let kind = kind.unwrap_or_default();
            tokio::time::sleep(clock.until(Nanos::from_duration(fault.at.0))).await;
            let put = match &admin {
                Some(admin) => target::put_fault(&http, admin, fault).await,
                None => Err("the target reports no metrics address, which takes faults".into()),
            };
            let at = put.is_ok().then(|| clock.now());
            FaultApplied {
                kind,
                at,
                error: put.err(),
            }
        })
    };
    (0..scenario.spec.faults.len()).map(put).collect()
}

#[cfg(test)]
mod tests;

//! `harness merge`: the run directories of all shards of one schedule become one run, as if one process
//! had sent it. Rows are taken over as they are; the backends, which saw all shards at once, are asked
//! now. What does not belong together is refused: nothing is written that could be judged.
//!
//! Given a place of results it is the gate of a distributed run: it waits until every shard has delivered,
//! and leaves there what the backends answered, so that it gives the same verdict again from the place
//! alone.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use harness_core::judge::tally::Tally;
use harness_core::measure::Measurements;
use harness_core::objective::Objective;
use harness_core::observation::Observation;
use harness_core::record::context::{Context, ShardCounts, ShardRun};
use harness_core::record::sampled::{Cell, Sampled, keeps, level};
use harness_core::record::{AnswerBook, Generator, RunFacts, Settled};
use harness_core::scenario::{Dur, Scenario};
use harness_core::schedule::Shard;
use harness_core::units::Nanos;

use crate::baseline;
use crate::cli::EXIT_INVALID;
use crate::clock::wall_now;
use crate::inputs::{self, Inputs};
use crate::output::{self, Format};
use crate::progress::Progress;
use crate::publish::{self, PublishToArgs};
use crate::redact::redact;
use crate::results::{self, Gathered, Store};
use crate::run::{self, Failure};
use crate::run_dir::{self, FinishedRun, RunDir, RunDirError, Sealed};
use crate::settle::Settling;
use crate::signals::Signals;
use crate::stage::Stage;

/// What `harness merge` was asked.
#[derive(Debug, clap::Args)]
pub struct MergeArgs {
    /// The run directories of all shards, in any order; or the place where they put their results:
    /// s3://BUCKET/PREFIX or a directory.
    #[arg(required = true, num_args = 1.., value_name = "RUN_DIR | PLACE")]
    from: Vec<String>,
    /// Longest that results are waited for at a place; what is missing then makes the run invalid.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    wait: Dur,
    /// How many shards there have to be; else the run's own start says it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(2..))]
    shards: Option<u32>,
    /// The merged run's directory; must not exist or be empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// A real Prometheus instead of the scenario's.
    #[arg(long, value_name = "URL")]
    prometheus: Option<String>,
    /// A real Loki instead of the scenario's.
    #[arg(long, value_name = "URL")]
    loki: Option<String>,
    /// A real Tempo instead of the scenario's.
    #[arg(long, value_name = "URL")]
    tempo: Option<String>,
    /// A variable of the scenario, instead of the environment's: TOKEN=secret.
    #[arg(long, value_name = "NAME=VALUE", value_parser = crate::cli::variable)]
    env: Vec<(String, String)>,
    /// Form of the report on stdout.
    #[arg(long, value_enum, default_value = "terminal")]
    format: Format,
    /// No progress on stderr.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    publish: PublishToArgs,
}

/// Merges, and judges what came of it.
///
/// # Errors
/// When a directory is none of a run, or the merged one cannot be written. Shards that do not belong
/// together are no error of this kind: they are said, and the exit code is that of an invalid run.
pub async fn merge(args: MergeArgs) -> Result<u8, Failure> {
    let progress = Progress::new(args.quiet);
    // Fetched results lie beside the merged run while it is made.
    let mut fetched = None;
    let mut place = None;
    let dirs = match &args.from[..] {
        [one] if results::is_place(one) => {
            // Who waits may be there first; without, it is a slip of the pen, and nothing is made of it.
            if args.wait.0.is_zero() && !one.contains("://") && !Path::new(one).is_dir() {
                return Err(Failure::Config(format!(
                    "{one}: there is no such directory"
                )));
            }
            let store = Store::open(one).map_err(Failure::Config)?;
            let beside = args.out.parent().filter(|dir| !dir.as_os_str().is_empty());
            let beside = beside.unwrap_or(Path::new("."));
            let into = std::fs::create_dir_all(beside)
                .and_then(|()| {
                    tempfile::Builder::new()
                        .prefix(".shards-")
                        .tempdir_in(beside)
                })
                .map_err(|error| Failure::Config(format!("{}: {error}", beside.display())))?;
            let gathered =
                results::gather(&store, args.shards, args.wait.0, into.path(), &progress).await;
            progress.finish();
            let gathered = match gathered {
                Ok(gathered) => gathered,
                Err(wrong) => return Ok(refuse(&wrong)),
            };
            fetched = Some(into);
            let dirs = gathered.dirs.clone();
            place = Some((store, gathered));
            dirs
        }
        [one] => {
            let why = "is one run; name the run directories of all shards, or where they put their results";
            return Err(Failure::Config(format!("{one}: {why}")));
        }
        many => many.iter().map(PathBuf::from).collect(),
    };
    let (shards, owns) = match sound(&dirs)? {
        Ok(sound) => sound,
        Err(wrong) => return Ok(refuse(&wrong)),
    };
    if let Some(wrong) = place
        .as_ref()
        .and_then(|(_, gathered)| unlike(&shards, gathered))
    {
        return Ok(refuse(&[wrong]));
    }
    let finished = match put_together(&args, &shards, owns, place.as_ref(), &progress).await? {
        Ok(finished) => finished,
        Err(wrong) => return Ok(refuse(&[wrong])),
    };
    drop(fetched);
    let report = output::judge_finished(&finished, None).map_err(Failure::Internal)?;
    output::write_reports(&args.out, &report).map_err(Failure::Internal)?;
    output::print(&report, args.format).map_err(Failure::Internal)?;
    if let Some((store, Gathered { judged: None, .. })) = &place
        && let Err(why) = store.keep(&args.out, &finished.facts).await
    {
        eprintln!(
            "harness: what the backends answered is in {} alone, not at {}: {why}",
            args.out.display(),
            store.name()
        );
    }
    let ended = finished.facts.started.plus(finished.facts.drained);
    for wrong in publish::publish(&report, ended, &args.publish.into()).await {
        eprintln!("harness: {wrong}");
    }
    progress.say(&format!(
        "report: {}",
        args.out.join("report.html").display()
    ));
    Ok(report.exit_code)
}

/// Shards in their order, and what the rows of each are.
type Sound = (Vec<Sealed>, Vec<Own>);

/// The shards of these directories in their order, or why they are none of one schedule: one sentence each.
fn sound(dirs: &[PathBuf]) -> Result<Result<Sound, Vec<String>>, Failure> {
    let mut shards = Vec::new();
    for dir in dirs {
        match run_dir::open(dir) {
            Ok(run) => shards.push(run),
            Err(error @ (RunDirError::Unfinished { .. } | RunDirError::Changed { .. })) => {
                return Ok(Err(vec![error.to_string()]));
            }
            Err(error) => return Err(Failure::Config(error.to_string())),
        }
    }
    let wrong = strangers(&shards);
    if !wrong.is_empty() {
        return Ok(Err(wrong));
    }
    shards.sort_by_key(|run| run.facts.context.shard);
    let scenario = Scenario::parse(&shards[0].scenario, "scenario.yaml")
        .map_err(|wrong| Failure::Config(wrong.to_string()))?;
    let objectives = harness_core::objective::parse(&shards[0].slos)
        .map_err(|wrong| Failure::Config(wrong.to_string()))?;
    let mut owns = Vec::new();
    for run in &shards {
        let mut own = Own::new(&scenario, &objectives);
        match foreign(run, &scenario, &mut own) {
            Ok(()) => owns.push(own),
            Err(error @ RunDirError::Changed { .. }) => return Ok(Err(vec![error.to_string()])),
            Err(error) => return Err(Failure::Config(error.to_string())),
        }
    }
    Ok(Ok((shards, owns)))
}

/// Whether every row of a shard is its own; counts them on the way.
fn foreign(run: &Sealed, scenario: &Scenario, own: &mut Own) -> Result<(), RunDirError> {
    let mine = run.facts.context.shard.unwrap_or_default();
    run.each_row(|row| match Shard::of_request(scenario, row.id, mine.of()) {
        shard if shard == mine => {
            own.take(&row);
            Ok(())
        }
        shard => Err(RunDirError::Changed {
            path: run.dir.join("requests.jsonl"),
            what: format!(
                "request {} belongs to shard {shard}, not to {mine}",
                row.id.0
            ),
        }),
    })
}

/// What a run directory holds otherwise than its shard's manifest says, which came by the side of it.
fn unlike(shards: &[Sealed], gathered: &Gathered) -> Option<String> {
    let pairs = shards.iter().zip(&gathered.delivered);
    let mut unlike = pairs.filter(|(run, said)| {
        let facts = &run.facts;
        facts.context.shard != Some(said.shard)
            || facts.run_id != said.run_id
            || facts.scenario_sha256 != said.common.scenario_sha256
            || facts.context.start.as_ref() != Some(&said.start)
            || facts.generator.scheduled != said.scheduled
    });
    let (_, said) = unlike.next()?;
    Some(format!(
        "the results of shard {} are not those that its manifest speaks of",
        said.shard
    ))
}

/// What one shard's rows are.
struct Own {
    tally: Tally,
    /// Rows by how often a sample may be halved before they are left out.
    levels: [u64; 65],
}

impl Own {
    fn new(scenario: &Scenario, objectives: &[Objective]) -> Self {
        Self {
            tally: Tally::new(scenario, objectives),
            levels: [0; 65],
        }
    }

    fn take(&mut self, row: &Observation) {
        self.tally.record(row);
        self.levels[level(row.id) as usize] += 1;
    }
}

/// The sample that the merged run keeps, and each shard's own counts; no sample where all requests of all
/// shards have their rows, and are no more than the scenario allows.
fn together_sampled(
    scenario: &Scenario,
    shards: &[Sealed],
    owns: Vec<Own>,
) -> (Option<Sampled>, Vec<ShardCounts>) {
    let of_shard = |run: &Sealed| run.facts.context.sampled.as_ref().map(|s| s.one_in);
    let mut one_in = shards.iter().filter_map(of_shard).max().unwrap_or(1);
    let rows = |one_in: u64| -> u64 {
        let levels = owns.iter().map(|own| &own.levels);
        levels
            .flat_map(|levels| &levels[one_in.ilog2() as usize..])
            .sum()
    };
    while rows(one_in) > scenario.spec.record.rows && one_in < 1 << 62 {
        one_in *= 2;
    }
    let rows = rows(one_in);
    let mut all = Sampled::default();
    let mut counts = Vec::new();
    for (run, own) in shards.iter().zip(owns) {
        let sampled = run.facts.context.sampled.clone();
        let own = sampled.unwrap_or_else(|| own.tally.counted());
        counts.push(ShardCounts {
            requests: own.requests,
            measured: own.measured().map(Cell::requests).sum(),
            late: own.measured().map(|cell| cell.late).sum(),
        });
        all.add(&own);
    }
    (all.one_in, all.rows) = (one_in, rows);
    (Some(all).filter(|_| one_in > 1), counts)
}

fn refuse(wrong: &[String]) -> u8 {
    let mut stderr = std::io::stderr().lock();
    for why in wrong {
        let _ = writeln!(stderr, "harness: invalid run: {why}");
    }
    EXIT_INVALID
}

/// Why these are not all the shards of one schedule, each once: one sentence each.
fn strangers(shards: &[Sealed]) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some(first) = shards.first() else {
        return wrong;
    };
    let mut there: BTreeMap<Shard, &Path> = BTreeMap::new();
    for run in shards {
        let dir = run.dir.display();
        let Some(shard) = run.facts.context.shard else {
            wrong.push(format!("{dir}: is no shard; it was not made with --shard"));
            continue;
        };
        if let Some(other) = there.insert(shard, &run.dir) {
            let other = other.display();
            wrong.push(format!("{dir}: is shard {shard}, as is {other}"));
        }
        let differs = differences(first, run);
        if !differs.is_empty() {
            let other = first.dir.display();
            let what = differs.join(", ");
            wrong.push(format!("{dir}: is not of the run of {other}: {what}"));
        }
    }
    let of = first.facts.context.shard.unwrap_or_default().of();
    for index in 0..of {
        let shard = format!("{index}/{of}");
        if !there.keys().any(|there| there.to_string() == shard) {
            wrong.push(format!(
                "shard {shard} is missing: its part of the load is not known"
            ));
        }
    }
    wrong
}

/// What two shards of one schedule must have in common and have not.
fn differences(a: &Sealed, b: &Sealed) -> Vec<&'static str> {
    let (one, two) = (&a.facts, &b.facts);
    let of = |facts: &RunFacts| facts.context.shard.unwrap_or_default().of();
    let texts = |run: &Sealed| {
        run.slos
            .iter()
            .map(|(_, text)| text.clone())
            .collect::<Vec<_>>()
    };
    let same = [
        (of(one) == of(two), "another number of shards"),
        (
            one.scenario_sha256 == two.scenario_sha256,
            "another scenario",
        ),
        (one.seed == two.seed, "another seed"),
        (one.context.files == two.context.files, "other datasets"),
        (texts(a) == texts(b), "other objectives"),
        (
            one.harness_version == two.harness_version,
            "another version of harness",
        ),
        (one.target.url == two.target.url, "another target"),
        (one.service == two.service, "another service"),
        (
            one.expect_version == two.expect_version,
            "another version of the service is expected",
        ),
        (
            one.context.production == two.context.production,
            "other traffic in production",
        ),
        (
            one.stretches.len() == two.stretches.len(),
            "another schedule",
        ),
    ];
    let missing = same.into_iter().filter(|(same, _)| !same);
    missing.map(|(_, what)| what).collect()
}

/// Writes the merged run, has its backends asked, seals it, and reads it back. Where a gate has asked
/// them before, its record is taken instead, if the very same shards come out as the same rows.
async fn put_together(
    args: &MergeArgs,
    shards: &[Sealed],
    owns: Vec<Own>,
    place: Option<&(Store, Gathered)>,
    progress: &Progress,
) -> Result<Result<FinishedRun, String>, Failure> {
    let inputs = inputs(args, shards)?;
    let dir = RunDir::create(&args.out, &inputs.text, &shards[0].slos)
        .map_err(|error| Failure::Config(error.to_string()))?;
    let (sampled, counts) = together_sampled(&inputs.scenario, shards, owns);
    let one_in = sampled.as_ref().map_or(1, |sampled| sampled.one_in);
    let mut live = Measurements::new(&inputs.scenario);
    let mut log = dir.requests_log().map_err(run::keep)?;
    for run in shards {
        progress.moving(format!("merging {}", run.dir.display()));
        let copied = run.each_row(|row| {
            live.record(&row);
            if !keeps(row.id, one_in) {
                return Ok(());
            }
            log.append_row(&row)
        });
        copied.map_err(run::keep)?;
    }
    log.close().map_err(run::keep)?;
    let mut facts = facts(shards, &args.out).map_err(run::keep)?;
    for (run, counts) in facts.context.shards.iter_mut().zip(counts) {
        run.counts = Some(counts).filter(|_| sampled.is_some());
    }
    facts.context.sampled = sampled;
    let requests = dir.requests().map_err(run::keep)?;
    run::derive(&dir, &inputs.scenario, &facts, &requests.rows, &live)?;
    if let Some((
        store,
        Gathered {
            judged: Some(judged),
            ..
        },
    )) = place
    {
        let merged = facts.context.shards.iter();
        let merged: BTreeMap<String, String> = merged
            .map(|run| (run.run_id.clone(), run.manifest_sha256.clone()))
            .collect();
        if merged != judged.merged {
            return Ok(Err(
                "a gate has judged this run, and these are not the shards that it merged".into(),
            ));
        }
        if let Err(why) = store.fetch_kept(judged, dir.path()).await {
            return Ok(Err(format!(
                "what a gate before this one was answered is not as it left it: {why}"
            )));
        }
        progress.finish();
        return match run_dir::read(dir.path()) {
            Ok(finished) => Ok(Ok(finished)),
            Err(error @ RunDirError::Changed { .. }) => Ok(Err(error.to_string())),
            Err(error) => Err(run::keep(error)),
        };
    }
    let answers = ask(&inputs, &mut facts, &requests.rows, &dir, progress).await?;
    progress.finish();
    let answers = redact(&mut facts, answers, &inputs.secrets);
    dir.seal(&facts, &answers, &requests).map_err(run::keep)?;
    let finished = run_dir::read_with(dir.path(), requests).map_err(run::keep)?;
    Ok(Ok(finished))
}

/// The scenario and objectives of the shards, with the command line's backends.
fn inputs(args: &MergeArgs, shards: &[Sealed]) -> Result<Inputs, Failure> {
    let first = &shards[0];
    let overrides = inputs::Overrides {
        prometheus: args.prometheus.clone(),
        loki: args.loki.clone(),
        tempo: args.tempo.clone(),
        env: args.env.clone(),
        ..inputs::Overrides::default()
    };
    inputs::of_shard(first.scenario.clone(), first.slos.clone(), &overrides)
        .map_err(|wrong| Failure::Config(wrong.to_string()))
}

/// Asks the backends of the scenario, as a run does once its load is over.
async fn ask(
    inputs: &Inputs,
    facts: &mut RunFacts,
    rows: &[harness_core::observation::Observation],
    dir: &RunDir,
    progress: &Progress,
) -> Result<AnswerBook, Failure> {
    let mut stage = Stage::new().map_err(Failure::Internal)?;
    let mut scenario = inputs.scenario.clone();
    // Shards are refused where one would be needed.
    scenario.spec.telemetry.embedded = None;
    let prepared = async {
        stage.start_evidence(&scenario, dir.path()).await?;
        stage.backends_ready().await
    };
    if let Err(stop) = prepared.await {
        return Err(Failure::Config(format!(
            "the backends cannot be asked: {}",
            run::why(&stop)
        )));
    }
    facts.backends = stage.used.clone();
    let signals = Signals::listen().map_err(Failure::Internal)?;
    let stored = Scenario::parse(&inputs.text, "scenario.yaml")
        .map_err(|wrong| Failure::Internal(wrong.to_string()))?;
    let settling = Settling {
        scenario: &stored,
        objectives: &inputs.objectives,
        baselines: None,
        rows,
        backends: &stage.backends,
        signals: &signals,
    };
    progress.moving("asking the backends".into());
    Ok(settling.settle(facts, |_| {}).await)
}

/// The facts of all shards as those of one run.
fn facts(shards: &[Sealed], out: &Path) -> Result<RunFacts, RunDirError> {
    let all = || shards.iter().map(|run| &run.facts);
    let mut facts = shards[0].facts.clone();
    facts.run_id = run::run_id(&facts.scenario);
    facts.started = all().map(|f| f.started).min().unwrap_or(facts.started);
    facts.drained = all().map(|f| f.drained).max().unwrap_or(facts.drained);
    for (place, stretch) in facts.stretches.iter_mut().enumerate() {
        let same = || all().filter_map(|f| f.stretches.get(place));
        stretch.start = same().map(|s| s.start).min().unwrap_or(stretch.start);
        stretch.end = same().map(|s| s.end).max().unwrap_or(stretch.end);
    }
    facts.target.exited = all().find_map(|f| f.target.exited.clone());
    facts.stop = all().find_map(|f| f.stop.clone());
    facts.settled = Settled {
        until: wall_now(),
        ..Settled::default()
    };
    let mut runs = Vec::new();
    for run in shards {
        runs.push(ShardRun {
            shard: run.facts.context.shard.unwrap_or_default(),
            run_id: run.facts.run_id.clone(),
            manifest_sha256: run_dir::manifest_sha256(&run.dir)?,
            started: run.facts.started,
            drained: run.facts.drained,
            start: run.facts.context.start.clone(),
            generator: run.facts.generator.clone(),
            counts: None,
        });
    }
    facts.generator = together(&runs);
    // Its own shards are no runs before it.
    let own = |id: &Option<String>| runs.iter().any(|run| Some(&run.run_id) == id.as_ref());
    let mut earlier = baseline::beside(out, &facts.scenario_sha256);
    earlier.retain(|run| !own(&run.run_id));
    facts.context = Context {
        strict: all().any(|f| f.context.strict),
        earlier,
        shard: None,
        start: None,
        shards: runs,
        ..facts.context
    };
    Ok(facts)
}

/// What all generators were together: counts are sums; of what has a limit the worst stands, since the
/// limit is each one's own.
fn together(runs: &[ShardRun]) -> Generator {
    let all = || runs.iter().map(|run| &run.generator);
    let most = |of: fn(&Generator) -> f64| all().map(of).fold(0.0, f64::max);
    let nanos = |of: fn(&Generator) -> Nanos| all().map(of).max().unwrap_or_default();
    // The one with the fullest table of files, so that its own limit is what it is held against.
    let share = |g: &&Generator| Some(g.open_files? as f64 / g.open_files_limit?.max(1) as f64);
    let fullest = all().max_by(|a, b| {
        let of = |g| share(&g).unwrap_or(0.0);
        of(*a).total_cmp(&of(*b))
    });
    Generator {
        scheduled: all().map(|g| g.scheduled).sum(),
        cpu_seconds: all().map(|g| g.cpu_seconds).sum(),
        wall_seconds: most(|g| g.wall_seconds),
        connection_waits: all().map(|g| g.connection_waits).sum(),
        connection_wait_total: Nanos(all().map(|g| g.connection_wait_total.0).sum()),
        longest_connection_wait: nanos(|g| g.longest_connection_wait),
        longest_stall: nanos(|g| g.longest_stall),
        connections_opened: all().map(|g| g.connections_opened).sum(),
        sender_cpu_share: all().filter_map(|g| g.sender_cpu_share).reduce(f64::max),
        busiest_second: most(|g| g.busiest_second),
        open_files: fullest.and_then(|g| g.open_files),
        broken: all().map(|g| g.broken).sum(),
        spans_offered: all().map(|g| g.spans_offered).sum(),
        spans_exported: all().map(|g| g.spans_exported).sum(),
        cores: all().map(|g| g.cores).sum(),
        runs_first: all().all(|g| g.runs_first),
        open_files_limit: fullest.and_then(|g| g.open_files_limit),
    }
}

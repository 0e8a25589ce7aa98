//! What is wrong with loads: a load that asks for what its executor has not, and one that could
//! never send what it says.

use std::collections::BTreeSet;

use super::{Found, name_is_new};
use crate::scenario::{
    Dur, Executor, Load, Rate, Replay, Scenario, Sine, Spacing, Spike, Stage, ThinkTime,
};
use crate::units::Phase;

/// Highest rate of one load, events a second: beyond what one process can send by far.
const MOST_PER_SECOND: f64 = 1e6;
/// Longest load. Keeps the schedule's integer arithmetic in range.
const LONGEST_LOAD: u64 = 30 * 24 * 3_600 * 1_000_000_000;
/// Requests of one load: its part of a request's id has 40 bits.
const MOST_ARRIVALS: f64 = (1_u64 << 40) as f64;
/// Iterations of one load: those that its time does not suffice for are recorded one by one.
const MOST_ITERATIONS: f64 = 1e8;
/// Users of one load.
const MOST_VUS: u32 = 100_000;

pub(super) fn loads(scenario: &Scenario, found: &mut Found) {
    let loads = &scenario.spec.loads;
    if loads.is_empty() {
        found.add(
            "spec.loads",
            "has no load",
            "add one with name, mix, executor and stages",
        );
    }
    if loads.len() > usize::from(u16::MAX) {
        found.add("spec.loads", "has more than 65,535 loads", "");
    }
    let requests = scenario.spec.requests.iter().map(|r| r.name.as_str());
    let flows = scenario.spec.flows.iter().map(|flow| flow.name.as_str());
    let known: Vec<&str> = requests.chain(flows).collect();
    let mut names = BTreeSet::new();
    for (index, load) in loads.iter().enumerate() {
        let key = format!("spec.loads[{index}]");
        name_is_new(&key, &load.name, &mut names, found);
        mix(&key, load, &known, found);
        keys_fit(&key, load, found);
        if load.executor.is_open() {
            open_load(&key, load, found);
        } else {
            closed_load(&key, load, found);
        }
        starts(&key, load, scenario, found);
        stages(&key, load, found);
        if scenario.load_end(index).0 > LONGEST_LOAD {
            found.add(
                format!("{key}.stages"),
                "the load ends after more than 30 days",
                "",
            );
        } else {
            amount(&key, load, found);
        }
    }
    let measured = loads
        .iter()
        .flat_map(|l| &l.stages)
        .any(|s| s.phase == Phase::Measure);
    if !loads.is_empty() && !measured {
        found.add(
            "spec.loads",
            "no load has a measured stage: nothing would be judged",
            "add a stage such as {phase: measure, rate: 20/s, for: 60s}",
        );
    }
}

fn mix(key: &str, load: &Load, known: &[&str], found: &mut Found) {
    for name in load
        .mix
        .keys()
        .filter(|name| !known.contains(&name.as_str()))
    {
        found.add(
            format!("{key}.mix.{name}"),
            format!("no request is named `{name}`"),
            format!("one of {}", known.join(", ")),
        );
    }
    if load.mix.values().all(|weight| *weight == 0) {
        found.add(
            format!("{key}.mix"),
            "the weights add up to 0",
            "give at least one request a weight of 1 or more",
        );
    }
}

/// Keys that belong to some executors only.
fn keys_fit(key: &str, load: &Load, found: &mut Found) {
    use Executor as E;
    let executor = load.executor;
    let open = executor.is_open();
    let name = executor.name();
    let mut misfit = |given: bool, part: &str, message: String, hint: &str| {
        if given {
            found.add(format!("{key}.{part}"), message, hint);
        }
    };
    if open {
        misfit(
            load.vus.is_some(),
            "vus",
            "an open load has no users".into(),
            "take it out, or use executor: constant-vus",
        );
        misfit(
            load.think_time.is_some(),
            "thinkTime",
            "an open load waits for no answer".into(),
            "take it out, or use executor: constant-vus",
        );
    } else {
        misfit(
            load.spacing.is_some(),
            "spacing",
            "spacing belongs to open loads".into(),
            "use thinkTime",
        );
        misfit(
            load.max_in_flight.is_some(),
            "maxInFlight",
            "users of a closed load have one request out at most".into(),
            "take it out",
        );
    }
    let mlperf = matches!(executor, E::SingleStream | E::MultiStream | E::Offline);
    misfit(
        mlperf && load.think_time.is_some(),
        "thinkTime",
        format!("MLPerf's {name} sends as soon as it may"),
        "take it out, or use executor: constant-vus",
    );
    let counted = matches!(executor, E::SingleStream | E::MultiStream);
    misfit(
        counted && load.vus.is_some(),
        "vus",
        format!("MLPerf's {name} says how many users there are"),
        "take it out, or use executor: constant-vus",
    );
    let spaced = matches!(executor, E::Replay | E::Server);
    misfit(
        spaced && load.spacing.is_some(),
        "spacing",
        format!("the spacing of {name} is given"),
        "take it out, or use executor: constant-arrival-rate",
    );
    misfit(
        !executor.has_iterations() && load.iterations.is_some(),
        "iterations",
        format!("{name} ends with its stages"),
        "take it out, or use executor: shared-iterations",
    );
    misfit(
        executor != E::MultiStream && load.samples_per_query.is_some(),
        "samplesPerQuery",
        "belongs to MultiStream".into(),
        "take it out",
    );
    misfit(
        executor != E::Replay && load.replay.is_some(),
        "replay",
        "belongs to executor: replay".into(),
        "take it out, or use executor: replay",
    );
    for (index, stage) in load.stages.iter().enumerate() {
        let at = |part: &str| format!("stages[{index}].{part}");
        let hint = if open {
            "take it out"
        } else {
            "take it out, or use executor: constant-arrival-rate"
        };
        let what = if open {
            format!("{name} takes its instants from the file")
        } else {
            "a closed load has no rate".into()
        };
        misfit(
            !executor.has_rates() && stage.rate.is_some(),
            &at("rate"),
            what,
            hint,
        );
        misfit(
            executor != E::RampingVus && stage.vus.is_some(),
            &at("vus"),
            format!("the users of {name} do not change"),
            "take it out, or use executor: ramping-vus",
        );
        let shaped = matches!(executor, E::ConstantArrivalRate | E::Server);
        let hint = "take it out, or use executor: constant-arrival-rate";
        misfit(
            !shaped && stage.sine.is_some(),
            &at("sine"),
            format!("{name} has no such shape"),
            hint,
        );
        misfit(
            !shaped && stage.spike.is_some(),
            &at("spike"),
            format!("{name} has no such shape"),
            hint,
        );
    }
}

fn open_load(key: &str, load: &Load, found: &mut Found) {
    if load.max_in_flight == Some(0) {
        found.add(
            format!("{key}.maxInFlight"),
            "every request would be dropped",
            "at least 1",
        );
    }
    if let Some(Spacing::Gamma(shape)) = load.spacing
        && !(0.01..=1e4).contains(&shape)
    {
        found.add(
            format!("{key}.spacing"),
            format!("{shape} is not a shape of gamma gaps"),
            "from 0.01 to 10000; 1 is poisson, less is burstier",
        );
    }
    match (load.executor, &load.replay) {
        (Executor::Replay, None) => found.add(
            key,
            "replay needs to know what",
            "add for instance replay: {file: data/arrivals.csv}",
        ),
        (Executor::Replay, Some(replay)) => check_replay(&format!("{key}.replay"), replay, found),
        _ => {}
    }
    if !load.executor.has_rates() {
        return;
    }
    for (index, stage) in load.stages.iter().enumerate() {
        rate(&format!("{key}.stages[{index}]"), load, stage, found);
    }
}

fn check_replay(key: &str, replay: &Replay, found: &mut Found) {
    if replay.file.is_empty() {
        found.add(format!("{key}.file"), "names no file", "");
    }
    if !(replay.speed_up.is_finite() && replay.speed_up > 0.0) {
        found.add(
            format!("{key}.speedUp"),
            format!("{} is not a speed", replay.speed_up),
            "above 0; 2 replays twice as fast",
        );
    }
}

fn rate(key: &str, load: &Load, stage: &Stage, found: &mut Found) {
    let Some(rate) = stage.rate else {
        found.add(
            key,
            "a stage of an open load needs a rate",
            "add for instance rate: 20/s",
        );
        return;
    };
    within_reach(format!("{key}.rate"), rate, found);
    let shaped = stage.sine.is_some() || stage.spike.is_some();
    if rate.events == 0 && load.executor != Executor::RampingArrivalRate && !shaped {
        found.add(
            format!("{key}.rate"),
            "a rate of 0 sends nothing",
            "use startAt for a pause",
        );
    }
    if stage.sine.is_some() && stage.spike.is_some() {
        found.add(
            format!("{key}.spike"),
            "a stage has one shape",
            "keep sine or spike, or make two stages",
        );
    }
    if let Some(sine) = &stage.sine {
        check_sine(&format!("{key}.sine"), rate, sine, found);
    }
    if let Some(spike) = &stage.spike {
        check_spike(&format!("{key}.spike"), rate, stage.length, spike, found);
    }
}

fn within_reach(key: String, rate: Rate, found: &mut Found) {
    if rate.per_second() > MOST_PER_SECOND {
        found.add(key, format!("{rate} is beyond 1000000/s"), "split the load");
    }
}

fn check_sine(key: &str, rate: Rate, sine: &Sine, found: &mut Found) {
    found.not_zero(format!("{key}.period"), sine.period);
    if sine.amplitude.events == 0 {
        found.add(
            format!("{key}.amplitude"),
            "swings not at all",
            "take the shape out",
        );
    }
    if sine.amplitude.per_second() > rate.per_second() {
        found.add(
            format!("{key}.amplitude"),
            format!(
                "{} is more than the rate, {rate}: it would fall below 0",
                sine.amplitude
            ),
            "at most the stage's rate",
        );
    }
    if rate.per_second() + sine.amplitude.per_second() > MOST_PER_SECOND {
        found.add(
            format!("{key}.amplitude"),
            "swings beyond 1000000/s",
            "split the load",
        );
    }
}

fn check_spike(key: &str, rate: Rate, length: Dur, spike: &Spike, found: &mut Found) {
    found.not_zero(format!("{key}.for"), spike.length);
    within_reach(format!("{key}.to"), spike.to, found);
    if spike.to == rate {
        found.add(
            format!("{key}.to"),
            format!("is the rate of the stage, {rate}"),
            "name another rate, or take the shape out",
        );
    }
    let ramps = spike.ramp.map_or(0, |ramp| ramp.nanos().saturating_mul(2));
    let parts = [spike.at.nanos(), spike.length.nanos(), ramps];
    let end = parts.into_iter().fold(0, u64::saturating_add);
    if end > length.nanos() {
        found.add(
            key,
            "the spike ends after its stage",
            "`at`, twice `ramp` and `for` together are at most the stage's `for`",
        );
    }
}

fn closed_load(key: &str, load: &Load, found: &mut Found) {
    use Executor as E;
    let counted = matches!(load.executor, E::SingleStream | E::MultiStream);
    match load.vus {
        None if !counted && load.executor != E::RampingVus => {
            found.add(key, "a closed load needs `vus`", "add for instance vus: 5");
        }
        Some(0) if load.executor != E::RampingVus => {
            found.add(format!("{key}.vus"), "0 users send nothing", "at least 1");
        }
        _ => {}
    }
    if load.users() > MOST_VUS {
        found.add(
            format!("{key}.vus"),
            format!("{} users are beyond {MOST_VUS}", load.users()),
            "split the load",
        );
    }
    if load.samples_per_query == Some(0) {
        found.add(
            format!("{key}.samplesPerQuery"),
            "an empty query asks nothing",
            "MLPerf's number is 8",
        );
    }
    if load.executor.has_iterations() {
        iterations(key, load, found);
    }
    think_time(key, load, found);
    if load.executor == E::RampingVus {
        ramp_of_users(key, load, found);
    }
}

fn iterations(key: &str, load: &Load, found: &mut Found) {
    let users = match load.executor {
        Executor::PerVuIterations => f64::from(load.users()),
        _ => 1.0,
    };
    match load.iterations {
        None => found.add(
            key,
            format!("{} needs `iterations`", load.executor.name()),
            "add for instance iterations: 1000",
        ),
        Some(0) => found.add(
            format!("{key}.iterations"),
            "0 iterations send nothing",
            "at least 1",
        ),
        Some(n) if n as f64 * users > MOST_ITERATIONS => {
            found.add(
                format!("{key}.iterations"),
                "are more than 100,000,000 requests",
                "split the load, or use an executor that ends with its time",
            );
        }
        Some(_) => {}
    }
}

fn think_time(key: &str, load: &Load, found: &mut Found) {
    let key = format!("{key}.thinkTime");
    match load.think_time {
        Some(ThinkTime::Uniform(low, high)) if low > high => found.add(
            key,
            format!("{low} is longer than {high}"),
            "write the shorter first",
        ),
        Some(ThinkTime::Exponential(mean)) => found.not_zero(key, mean),
        Some(ThinkTime::Lognormal(law)) => {
            found.not_zero(format!("{key}.lognormal.median"), law.median);
            if !(0.0..=10.0).contains(&law.sigma) {
                found.add(
                    format!("{key}.lognormal.sigma"),
                    format!("{} is not a deviation of logarithms", law.sigma),
                    "from 0 to 10; pauses of people lie about 1",
                );
            }
        }
        _ => {}
    }
}

fn ramp_of_users(key: &str, load: &Load, found: &mut Found) {
    let mut before = load.vus.unwrap_or(0);
    let mut measured = None;
    for (index, stage) in load.stages.iter().enumerate() {
        let Some(to) = stage.vus else {
            found.add(
                format!("{key}.stages[{index}]"),
                "a stage of ramping-vus needs `vus`, the users at its end",
                "add for instance vus: 20",
            );
            return;
        };
        if stage.phase == Phase::Measure {
            measured = measured.max(Some(before.max(to)));
        }
        before = to;
    }
    if measured == Some(0) {
        found.add(
            format!("{key}.stages"),
            "the measured phase would have no user",
            "give a measured stage, or the one before it, `vus` of 1 or more",
        );
    }
}

fn starts(key: &str, load: &Load, scenario: &Scenario, found: &mut Found) {
    let Some(name) = &load.start_after else {
        return;
    };
    let key = format!("{key}.startAfter");
    let loads = &scenario.spec.loads;
    let find = |name: &str| loads.iter().find(|load| load.name == name);
    let mut now = find(name);
    if now.is_none() {
        let known: Vec<&str> = loads.iter().map(|load| load.name.as_str()).collect();
        found.add(
            key,
            format!("no load is named `{name}`"),
            format!("one of {}", known.join(", ")),
        );
        return;
    }
    for _ in loads {
        let Some(before) = now else { return };
        if before.name == load.name {
            found.add(
                key,
                format!("`{}` would wait for itself", load.name),
                "let one of the loads start without another",
            );
            return;
        }
        now = before.start_after.as_deref().and_then(find);
    }
}

fn stages(key: &str, load: &Load, found: &mut Found) {
    let key = format!("{key}.stages");
    if load.stages.is_empty() {
        found.add(
            key.clone(),
            "has no stage",
            "add {phase: measure, rate: 20/s, for: 60s}",
        );
    }
    for (index, stage) in load.stages.iter().enumerate() {
        found.not_zero(format!("{key}[{index}].for"), stage.length);
        if index > 0 && stage.phase < load.stages[index - 1].phase {
            // Judged is the window from the first to the last measured instant: nothing else may lie within.
            found.add(
                format!("{key}[{index}].phase"),
                format!(
                    "{} cannot follow {}",
                    stage.phase,
                    load.stages[index - 1].phase
                ),
                "phases run warmup, measure, cooldown",
            );
        }
    }
}

/// A load that measures nothing, or more than ids can count.
fn amount(key: &str, load: &Load, found: &mut Found) {
    if !load.executor.has_rates() || load.stages.iter().any(|stage| stage.rate.is_none()) {
        return;
    }
    let key = format!("{key}.stages");
    let ramps = load.executor == Executor::RampingArrivalRate;
    let (mut all, mut measured, mut before) = (0.0, None, 0.0);
    for stage in &load.stages {
        let rate = stage.rate.map_or(0.0, Rate::per_second);
        let from = if ramps { before } else { rate };
        let expected = expected(stage, from, rate);
        all += expected;
        if stage.phase == Phase::Measure {
            measured = Some(measured.unwrap_or(0.0) + expected);
        }
        before = rate;
    }
    // Lengths are whole nanoseconds: at the highest rate that is a thousandth of a request.
    if measured.is_some_and(|measured| measured < 0.999) {
        found.add(
            key.clone(),
            "the measured phase would hold no request: rate times length is below 1",
            "raise the rate or the length",
        );
    }
    if all >= MOST_ARRIVALS {
        found.add(key, "the load has more than 2^40 requests", "");
    }
}

/// Integral of a stage's rate, requests.
fn expected(stage: &Stage, from: f64, to: f64) -> f64 {
    let seconds = |length: Dur| length.nanos() as f64 / 1e9;
    let length = seconds(stage.length);
    let plain = (from + to) / 2.0 * length;
    let spike = stage.spike.map_or(0.0, |spike| {
        let at_full = seconds(spike.length) + spike.ramp.map_or(0.0, seconds);
        (spike.to.per_second() - to) * at_full
    });
    let sine = stage.sine.map_or(0.0, |sine| {
        let turn = std::f64::consts::TAU / seconds(sine.period).max(1e-9);
        sine.amplitude.per_second() / turn * (1.0 - libm::cos(turn * length))
    });
    plain + spike + sine
}

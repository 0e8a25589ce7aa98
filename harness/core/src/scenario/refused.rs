//! Combinations that cannot be, by what is wrong with them.

use super::tests::{FULL, changed, problems};
use super::*;
use crate::units::Nanos;

/// What is wrong with a scenario of one load, written in the place of the full one's.
fn of_load(load: &str) -> String {
    let (Some(from), Some(to)) = (FULL.find("    - name: steady"), FULL.find("  faults:")) else {
        panic!("the full scenario has changed");
    };
    let load = format!("    - {{name: l, mix: {{ping: 1}}, {load}}}\n");
    let text = format!("{}{load}{}", &FULL[..from], &FULL[to..]);
    problems(&text.replace("at: 20s", "at: 0s")).join("\n")
}

const MEASURED: &str = "stages: [{phase: measure, rate: 10/s, for: 60s}]";
const TIMED: &str = "stages: [{phase: measure, for: 60s}]";

fn stage(of: &str, executor: &str) -> String {
    format!("executor: {executor}, stages: [{{phase: measure, for: 60s, {of}}}]")
}

#[test]
fn every_executor_is_read() {
    for fine in [
        format!("executor: Server, {MEASURED}"),
        format!("executor: constant-arrival-rate, spacing: {{gamma: 0.5}}, {MEASURED}"),
        stage("rate: 10/s, sine: {amplitude: 10/s, period: 20s}", "constant-arrival-rate"),
        stage("rate: 0/s, spike: {to: 100/s, at: 20s, for: 5s, ramp: 1s}", "constant-arrival-rate"),
        format!("executor: replay, replay: {{file: a.csv, speedUp: 2}}, {TIMED}"),
        "executor: ramping-vus, stages: [{phase: warmup, vus: 5, for: 5s}, {phase: measure, vus: 0, for: 5s}]".into(),
        format!("executor: per-vu-iterations, vus: 3, iterations: 10, {TIMED}"),
        format!("executor: shared-iterations, vus: 3, iterations: 10, thinkTime: {{exponential: 1s}}, {TIMED}"),
        format!("executor: constant-vus, vus: 3, thinkTime: {{lognormal: {{median: 1s, sigma: 0.5}}}}, {TIMED}"),
        format!("executor: SingleStream, {TIMED}"),
        format!("executor: MultiStream, {TIMED}"),
        format!("executor: Offline, vus: 8, iterations: 24576, {TIMED}"),
    ] {
        assert_eq!(of_load(&fine), "", "{fine}");
    }
}

#[test]
fn loads_that_cannot_be_are_refused() {
    let measured = |what: &str| format!("{what}, {MEASURED}");
    let timed = |what: &str| format!("{what}, {TIMED}");
    let shaped = |shape: &str| stage(&format!("rate: 10/s, {shape}"), "constant-arrival-rate");
    for (load, wanted) in [
        (
            timed("executor: replay"),
            "spec.loads[0]: replay needs to know what",
        ),
        (
            timed("executor: replay, replay: {file: a.csv, speedUp: 0}"),
            "replay.speedUp: 0 is not a speed",
        ),
        (
            measured("executor: replay, replay: {file: a.csv}"),
            "stages[0].rate: replay takes its instants from the file",
        ),
        (
            timed("executor: constant-vus, vus: 1, replay: {file: a.csv}"),
            "replay: belongs to executor: replay",
        ),
        (
            timed("executor: constant-vus, vus: 1, iterations: 5"),
            "iterations: constant-vus ends with its stages",
        ),
        (
            timed("executor: shared-iterations, vus: 1"),
            "shared-iterations needs `iterations`",
        ),
        (
            timed("executor: shared-iterations, vus: 1, iterations: 0"),
            "0 iterations send nothing",
        ),
        (
            timed("executor: per-vu-iterations, vus: 1000, iterations: 1000000"),
            "more than 100,000,000 requests",
        ),
        (
            timed("executor: Offline, iterations: 5"),
            "a closed load needs `vus`",
        ),
        (
            timed("executor: SingleStream, vus: 2"),
            "vus: MLPerf's SingleStream says how many users there are",
        ),
        (
            timed("executor: SingleStream, thinkTime: {constant: 1s}"),
            "sends as soon as it may",
        ),
        (
            timed("executor: SingleStream, samplesPerQuery: 4"),
            "samplesPerQuery: belongs to MultiStream",
        ),
        (
            timed("executor: MultiStream, samplesPerQuery: 0"),
            "an empty query asks nothing",
        ),
        (
            measured("executor: Server, spacing: even"),
            "spacing: the spacing of Server is given",
        ),
        (
            measured("executor: constant-arrival-rate, spacing: {gamma: 0}"),
            "0 is not a shape of gamma gaps",
        ),
        (
            measured("executor: constant-vus, vus: 1"),
            "stages[0].rate: a closed load has no rate",
        ),
        (
            timed("executor: ramping-vus"),
            "a stage of ramping-vus needs `vus`",
        ),
        (
            stage("vus: 0", "ramping-vus"),
            "the measured phase would have no user",
        ),
        (
            stage("vus: 2", "constant-vus, vus: 1"),
            "the users of constant-vus do not change",
        ),
        (
            timed("executor: constant-vus, vus: 1, thinkTime: {exponential: 0s}"),
            "thinkTime: must be longer than zero",
        ),
        (
            timed(
                "executor: constant-vus, vus: 1, thinkTime: {lognormal: {median: 1s, sigma: -1}}",
            ),
            "-1 is not a deviation of logarithms",
        ),
        (
            shaped("sine: {amplitude: 11/s, period: 10s}"),
            "sine.amplitude: 11/s is more than the rate, 10/s",
        ),
        (
            shaped("sine: {amplitude: 0/s, period: 10s}"),
            "swings not at all",
        ),
        (
            shaped("sine: {amplitude: 1/s, period: 0s}"),
            "sine.period: must be longer than zero",
        ),
        (
            shaped("spike: {to: 10/s, at: 0s, for: 5s}"),
            "is the rate of the stage, 10/s",
        ),
        (
            shaped("spike: {to: 20/s, at: 58s, for: 5s}"),
            "the spike ends after its stage",
        ),
        (
            shaped("spike: {to: 20/s, at: 0s, for: 0s}"),
            "spike.for: must be longer than zero",
        ),
        (
            shaped("spike: {to: 2000000/s, at: 0s, for: 1s}"),
            "beyond 1000000/s",
        ),
        (
            shaped("spike: {to: 20/s, at: 0s, for: 5s}, sine: {amplitude: 1/s, period: 1s}"),
            "a stage has one shape",
        ),
        (
            stage(
                "rate: 10/s, sine: {amplitude: 1/s, period: 1s}",
                "ramping-arrival-rate",
            ),
            "ramping-arrival-rate has no such shape",
        ),
        (
            measured("executor: constant-arrival-rate, startAfter: other"),
            "startAfter: no load is named `other`",
        ),
        (
            measured("executor: constant-arrival-rate, startAfter: l"),
            "`l` would wait for itself",
        ),
    ] {
        let found = of_load(&load);
        assert!(found.contains(wanted), "{load}: {found}");
        assert!(found.starts_with("s.yaml:"), "{load}: {found}");
    }
}

#[test]
fn loads_may_follow_one_another() {
    let text = FULL.replace("startAt: 5s", "startAfter: steady\n      startAt: 5s");
    let scenario = Scenario::parse(&text, "s.yaml").unwrap();
    assert_eq!(scenario.load_start(1), Nanos(75_000_000_000));
    assert_eq!(scenario.load_end(1), Nanos(105_000_000_000));
}

#[test]
fn requests_and_flows_that_cannot_be_are_refused() {
    let ping = "path: /healthz";
    for (with, wanted) in [
        (
            "data: {dataset: i.csv, order: {zipf: 0}}",
            "data.order: 0 is not an exponent",
        ),
        (
            "data: {dataset: i.csv, order: zipf, reuse: false}",
            "zipf draws rows again and again",
        ),
        (
            "data: {dataset: i.csv}\n      body: {dataset: j.csv, field: a}",
            "the body has a dataset of its own",
        ),
        ("body: {text: a, json: 1}", "a body is either"),
        (
            "expect: {status: [200, 99]}",
            "is not the status of an answer",
        ),
        ("expect: {status: 9xx}", "is not a class of statuses"),
        ("expect: {regex: \"(\"}", "is not a regular expression"),
        (
            "expect: {headers: {x-a: {regex: \"(\"}}}",
            "expect.headers.x-a: `(` is not a regular expression",
        ),
        (
            "expect: {headers: {x-a: {rx: a}}}",
            "a header is expected as a text, or as {regex: …}",
        ),
        ("expect: {size: {}}", "expect.size: says nothing"),
        ("expect: {size: {atLeast: 2, atMost: 1}}", "is impossible"),
        (
            "expect: {latency: 0s}",
            "expect.latency: must be longer than zero",
        ),
        ("capture: {a: {}}", "says not where the value is found"),
        (
            "capture: {a: {json: $.a, header: b}}",
            "is found in one place only",
        ),
        (
            "capture: {a: {json: a}}",
            "capture.a.json: `a` is not a JSONPath",
        ),
        ("query: {q: \"{{ $now }}\"}", "is unknown: one of $id"),
        ("headers: {x-a: \"{{ a\"}", "has `{{` without `}}`"),
    ] {
        let found = changed(ping, &format!("{ping}\n      {with}"));
        assert!(found.contains(wanted), "{with}: {found}");
        assert!(found.starts_with("s.yaml:"), "{with}: {found}");
    }
    for (flows, wanted) in [
        ("[{name: f, steps: []}]", "has 0 steps"),
        (
            "[{name: ping, steps: [ping]}]",
            "spec.flows[0].name: `ping` is used twice",
        ),
        (
            "[{name: f, steps: [pong]}]",
            "spec.flows[0].steps[0]: no request is named `pong`",
        ),
    ] {
        let found = changed(ping, &format!("{ping}\n  flows: {flows}"));
        assert!(found.contains(wanted), "{flows}: {found}");
    }
    let path = "path: \"/items/{{ id }}\"\n      data: {dataset: i.csv}";
    assert!(changed(ping, path).contains("the service's telemetry names its route otherwise"));
}

#[test]
fn what_a_step_captures_stands_for_something_in_the_steps_after_it() {
    let ping = "path: /healthz";
    let flow = |steps: &str| {
        let capture = "path: /healthz\n      capture: {a: {json: $.a}}";
        let next = "    - {name: next, method: GET, path: /next, headers: {x-a: \"{{ a }}\"}}";
        format!("{capture}\n{next}\n  flows: [{{name: f, steps: [{steps}]}}]")
    };
    assert_eq!(problems(&FULL.replace(ping, &flow("ping, next"))), [""; 0]);
    for steps in ["next, ping", "next"] {
        let found = changed(ping, &flow(steps));
        assert!(found.contains("`{{ a }}` stands for nothing"), "{found}");
    }
}

#[test]
fn tls_of_a_target_that_has_none_is_refused() {
    let found = changed("timeout: 2s", "tls: {ca: ca.pem}");
    assert!(
        found.contains("the URL is http, which has no TLS"),
        "{found}"
    );
}

#[test]
fn slack_of_timers_stays_far_from_what_counts_as_late() {
    let told = changed(
        "  gracefulStop: 10s",
        "  gracefulStop: 10s\n  timerSlack: 6ms",
    );
    assert!(
        told.contains(
            "spec.timerSlack: `6ms` is more than half of validity.lateSends.over, `10ms`"
        ),
        "{told}"
    );
    let slack = |more: &str, late: &str| {
        let text = FULL.replace("over: 10ms", &format!("over: {late}"));
        let text = text.replace("  gracefulStop: 10s", more);
        let scenario = Scenario::parse(&text, "s.yaml").unwrap_or_else(|wrong| panic!("{wrong}"));
        scenario.spec.timer_slack().to_string()
    };
    assert_eq!(slack("", "10ms"), "1ms");
    assert_eq!(slack("", "1ms"), "100us");
    assert_eq!(slack("  timerSlack: 0s", "10ms"), "0s");
    assert_eq!(slack("  timerSlack: 2ms", "10ms"), "2ms");
}

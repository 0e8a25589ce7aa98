use clap::Parser;
use harness_core::scenario::{Executor, Scenario};

use super::*;

#[derive(Debug, Parser)]
struct Cli {
    #[command(flatten)]
    attack: AttackArgs,
}

fn args(line: &str) -> AttackArgs {
    let words = std::iter::once("attack").chain(line.split_whitespace());
    Cli::try_parse_from(words)
        .unwrap_or_else(|error| panic!("{error}"))
        .attack
}

fn inputs(line: &str) -> Inputs {
    match written_down(&args(line)) {
        Ok(inputs) => inputs,
        Err(Failure::Config(message) | Failure::Internal(message)) => panic!("{message}"),
    }
}

fn scenario_of(line: &str) -> Scenario {
    inputs(line).scenario
}

fn refused(line: &str) -> String {
    match written_down(&args(line)) {
        Ok(_) => panic!("accepted: {line}"),
        Err(Failure::Config(message) | Failure::Internal(message)) => message,
    }
}

#[test]
fn flags_are_written_down_as_a_scenario() {
    let scenario =
        scenario_of("-q 500 -z 30s -c 64 -H accept:text/plain http://127.0.0.1:1/a/b?c=d");
    let spec = &scenario.spec;
    assert_eq!(spec.target.url.as_deref(), Some("http://127.0.0.1:1"));
    assert_eq!(spec.target.max_connections, Some(64));
    let request = &spec.requests[0];
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("GET", "/a/b?c=d")
    );
    assert_eq!(request.headers["accept"], "text/plain");
    let load = &spec.loads[0];
    assert_eq!(load.executor, Executor::ConstantArrivalRate);
    assert_eq!(load.stages[0].rate.unwrap().per_second(), 500.0);
    assert_eq!(load.stages[0].length.to_string(), "30s");
}

#[test]
fn without_a_rate_users_send_as_they_are_answered() {
    let load = |line: &str| scenario_of(line).spec.loads[0].clone();
    let timed = load("-c 7 -z 3s --warmup 1s http://127.0.0.1:1/");
    assert_eq!(
        (timed.executor, timed.vus, timed.stages.len()),
        (Executor::ConstantVus, Some(7), 2)
    );
    let counted = load("-n 200 http://127.0.0.1:1/");
    assert_eq!(counted.executor, Executor::SharedIterations);
    assert_eq!(
        (counted.iterations, counted.vus),
        (Some(200), Some(CONNECTIONS))
    );
}

#[test]
fn a_rate_and_a_number_give_exactly_that_number() {
    for (line, count) in [
        ("-q 300 -n 1000", 1000),
        ("-q 7/m -n 3", 3),
        ("-q 3000 -n 1", 1),
    ] {
        let scenario = scenario_of(&format!("{line} http://127.0.0.1:1/"));
        assert_eq!(
            harness_core::schedule::open(&scenario).count(),
            count,
            "{line}"
        );
    }
    assert!(refused("-q 5 -n 5 -z 5s http://127.0.0.1:1/").contains("give two of -q, -z and -n"));
}

#[test]
fn bodies_mean_what_they_say() {
    let scenario = scenario_of("-d price=$5,${HOME},$$ http://127.0.0.1:1/");
    assert_eq!(scenario.spec.requests[0].method, "POST");
    let body = scenario.spec.requests[0].body.clone();
    let Some(harness_core::scenario::Body::Text { text }) = body else {
        panic!("{body:?}");
    };
    assert_eq!(text, "price=$5,${HOME},$$");
}

#[test]
fn objectives_are_written_down_and_without_any_nothing_is_required() {
    use harness_core::report::model::Gate;
    let some = inputs("-q 5 --p99 250ms --success 99.9% http://127.0.0.1:1/");
    let names: Vec<&str> = some
        .objectives
        .iter()
        .map(|o| o.display_name.as_str())
        .collect();
    assert_eq!(names, ["p99 at most 250ms", "99.9% answered as expected"]);
    assert!(
        some.objectives
            .iter()
            .all(|objective| objective.gate == Gate::Required)
    );
    let none = inputs("-q 5 http://127.0.0.1:1/");
    assert!(
        none.objectives
            .iter()
            .all(|objective| objective.gate == Gate::Advisory)
    );
    assert!(!args("http://127.0.0.1:1/").judges() && args("--p50 1s http://127.0.0.1:1/").judges());
}

#[test]
fn what_cannot_be_is_refused() {
    assert!(refused("127.0.0.1:1/").contains("is no"));
    assert!(refused("http://a:b@127.0.0.1:1/").contains("credentials"));
    assert!(refused("-H oops http://127.0.0.1:1/").contains("`oops` is no header"));
    let ftp = refused("ftp://127.0.0.1:1/");
    assert!(
        ftp.starts_with("the command line: spec.target.url: "),
        "{ftp}"
    );
    for wrong in [
        "-q 0 http://h/",
        "-z 0s http://h/",
        "-z 5 http://h/",
        "-c 0 http://h/",
        "--success 100% http://h/",
        "",
    ] {
        let words = std::iter::once("attack").chain(wrong.split_whitespace());
        assert!(Cli::try_parse_from(words).is_err(), "{wrong}");
    }
}

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::units::Nanos;

/// A scenario with everything that is built in it.
pub(super) const FULL: &str = r#"apiVersion: harness/v1
kind: Scenario
metadata: {name: full}
spec:
  seed: 42
  slo: [../slo/full.yaml]
  target:
    url: http://127.0.0.1:3010
    start: {command: [target-service, --listen, "127.0.0.1:0"], ready: /readyz, within: 60s}
    expectVersion: ${BUILD}
    timeout: 2s
  telemetry:
    embedded: {scrape: [{job: target-service, every: 1s}]}
    prometheus: {url: "http://127.0.0.1:9090", bearer: "${TOKEN}"}
  trace: {sampled: 0.5}
  requests:
    - name: classify
      method: POST
      path: /predict
      body: {dataset: data/documents.jsonl, field: text, order: shuffled}
      expect: {status: 200, json: {"$.result": "{{ answer }}"}}
      score: {"$.result": "{{ label }}"}
    - name: ping
      method: GET
      path: /healthz
  loads:
    - name: steady
      mix: {classify: 9, ping: 1}
      executor: constant-arrival-rate
      spacing: poisson
      maxInFlight: 512
      stages:
        - {phase: warmup, rate: 20/s, for: 10s}
        - {phase: measure, rate: 100/s, for: 60s}
    - name: users
      mix: {classify: 1}
      executor: constant-vus
      vus: 5
      thinkTime: {uniform: [100ms, 200ms]}
      startAt: 5s
      stages:
        - {phase: measure, for: 30s}
  faults: [{at: 20s, for: 10s, kind: latency, add: 300ms}]
  validity:
    lateSends: {over: 10ms, share: 1%}
    traceCoverage: 99%
    foreignTraffic: 0.01
  abort: [{when: error_ratio > 0.5, over: 10s}]
  gracefulStop: 10s
"#;

pub(super) fn problems(text: &str) -> Vec<String> {
    match Scenario::parse(text, "s.yaml") {
        Ok(_) => Vec::new(),
        Err(problems) => problems.0.iter().map(ToString::to_string).collect(),
    }
}

/// The problem of the full scenario with one text replaced by another.
pub(super) fn changed(from: &str, to: &str) -> String {
    assert!(FULL.contains(from), "{from}");
    let found = problems(&FULL.replacen(from, to, 1));
    assert!(!found.is_empty(), "accepted: {to}");
    found.join("\n")
}

#[test]
fn the_full_scenario_is_read_as_written() {
    let scenario = Scenario::parse(FULL, "full.yaml").unwrap();
    let spec = &scenario.spec;
    assert_eq!(spec.target.timeout.nanos(), 2_000_000_000);
    assert_eq!(spec.target.expect_version.as_deref(), Some("${BUILD}"));
    assert_eq!(
        spec.loads[0].stages[1].rate.map(Rate::per_second),
        Some(100.0)
    );
    assert_eq!(scenario.load_start(1), Nanos(5_000_000_000));
    assert_eq!(scenario.load_end(1), Nanos(35_000_000_000));
    assert_eq!(spec.validity.late_sends.share, Share(0.01));
    assert_eq!(spec.validity.log_coverage, Share(0.99));
    assert_eq!(spec.settle, Dur(Duration::from_secs(30)));
    assert_eq!(scenario.datasets(), ["data/documents.jsonl"]);
}

#[test]
fn json_form_reads_back() {
    let scenario = Scenario::parse(FULL, "full.yaml").unwrap();
    let json = serde_json::to_string(&scenario).unwrap();
    assert_eq!(serde_json::from_str::<Scenario>(&json).unwrap(), scenario);
    assert_eq!(Scenario::parse(&json, "full.json").unwrap(), scenario);
}

#[test]
fn syntax_errors_say_where_and_what_would_be_right() {
    let unknown = changed("timeout: 2s", "timeOut: 2s");
    assert_eq!(
        unknown,
        "s.yaml:11:5: spec.target.timeOut: unknown key `timeOut`\n  hint: did you mean `timeout`?"
    );
    let executor = changed("constant-vus", "constant-vu");
    assert!(
        executor.starts_with("s.yaml:37:17: spec.loads[1].executor: "),
        "{executor}"
    );
    assert!(
        executor.contains("did you mean `constant-vus`?"),
        "{executor}"
    );
    let duration = changed("for: 60s", "for: 60");
    assert!(duration.starts_with("s.yaml:34:"), "{duration}");
    assert!(
        duration.contains("spec.loads[0].stages[1].for: `60` is not a duration"),
        "{duration}"
    );
    let rate = changed("rate: 100/s", "rate: 100");
    assert!(
        rate.contains("spec.loads[0].stages[1].rate: `100` is not a rate"),
        "{rate}"
    );
    let missing = changed("  seed: 42\n", "");
    assert!(missing.contains("the key `seed` is missing"), "{missing}");
    let twice = changed("  seed: 42\n", "  seed: 42\n  seed: 43\n");
    assert!(twice.contains("seed") && twice.contains("twice"), "{twice}");
    let body = changed("field: text, order: shuffled", "text: text");
    assert!(
        body.contains("spec.requests[0].body") && body.contains("either `dataset`"),
        "{body}"
    );
    let variable = changed("timeout: 2s", "timeout: ${T}");
    assert!(
        variable.contains("variables stand in text values only"),
        "{variable}"
    );
    assert!(!problems("a: [").is_empty());
    assert!(!problems("").is_empty());
}

#[test]
fn the_impossible_is_refused_with_its_place() {
    for (from, to, wanted) in [
        ("harness/v1", "harness/v2", "s.yaml:1:1: apiVersion"),
        (
            "name: full",
            "name: Full Name",
            "s.yaml:3:12: metadata.name",
        ),
        (
            "name: ping",
            "name: classify",
            "s.yaml:23:7: spec.requests[1].name: `classify` is used twice",
        ),
        (
            "ping: 1}",
            "pong: 1}",
            "spec.loads[0].mix.pong: no request is named `pong`",
        ),
        (
            "{classify: 9, ping: 1}",
            "{classify: 0}",
            "spec.loads[0].mix: the weights add up to 0",
        ),
        (
            "url: http://127.0.0.1:3010",
            "url: 127.0.0.1:3010",
            "is not an http URL",
        ),
        (
            "url: http://127.0.0.1:3010",
            "url: http://127.0.0.1:3010/base",
            "the base URL has a path",
        ),
        (
            "url: http://127.0.0.1:3010",
            "url: http://a:b@host",
            "credentials in a URL",
        ),
        ("ready: /readyz", "ready: readyz", "spec.target.start.ready"),
        ("within: 60s", "within: 0s", "spec.target.start.within"),
        ("timeout: 2s", "timeout: 0s", "spec.target.timeout"),
        (
            "timeout: 2s",
            "maxConnections: 0",
            "spec.target.maxConnections",
        ),
        ("method: POST", "method: post", "spec.requests[0].method"),
        ("path: /predict", "path: predict", "spec.requests[0].path"),
        ("path: /predict", "path: /pre dict", "spec.requests[0].path"),
        (
            "path: /healthz",
            "path: /healthz\n      headers: {\"a b\": c}",
            "is not a header name",
        ),
        (
            "path: /healthz",
            "path: /healthz\n      headers: {Traceparent: c}",
            "is set by the harness",
        ),
        (
            "path: /healthz",
            "path: /healthz\n      expect: {json: {\"$.a\": \"{{ b }}\"}}",
            "`{{ b }}` stands for nothing: the request has no dataset",
        ),
        (
            "\"$.result\": \"{{ answer",
            "\"result\": \"{{ answer",
            "is not a JSONPath",
        ),
        (
            "status: 200",
            "status: 99",
            "spec.requests[0].expect.status",
        ),
        ("sampled: 0.5", "sampled: 1.5", "spec.trace.sampled"),
        ("maxInFlight: 512", "vus: 3", "an open load has no users"),
        (
            "maxInFlight: 512",
            "thinkTime: {constant: 1s}",
            "an open load waits for no answer",
        ),
        (
            "maxInFlight: 512",
            "maxInFlight: 0",
            "every request would be dropped",
        ),
        (
            "rate: 20/s, for: 10s",
            "for: 10s",
            "spec.loads[0].stages[0]: a stage of an open load needs a rate",
        ),
        ("rate: 20/s", "rate: 0/s", "a rate of 0 sends nothing"),
        ("rate: 20/s", "rate: 2000000/s", "beyond 1000000/s"),
        (
            "rate: 100/s, for: 60s",
            "rate: 1/m, for: 59s",
            "the measured phase would hold no request",
        ),
        (
            "for: 60s",
            "for: 0s",
            "spec.loads[0].stages[1].for: must be longer than zero",
        ),
        (
            "phase: warmup",
            "phase: cooldown",
            "measure cannot follow cooldown",
        ),
        ("for: 60s", "for: 1000h", "more than 30 days"),
        ("vus: 5", "vus: 0", "0 users send nothing"),
        ("      vus: 5\n", "", "a closed load needs `vus`"),
        (
            "vus: 5",
            "vus: 5\n      spacing: even",
            "spacing belongs to open loads",
        ),
        ("[100ms, 200ms]", "[300ms, 200ms]", "is longer than 200ms"),
        (
            "{phase: measure, for: 30s}",
            "{phase: measure, rate: 1/s, for: 30s}",
            "a closed load has no rate",
        ),
        ("{at: 20s", "{at: 2h", "lies after the end"),
        ("add: 300ms", "share: 1%", "a latency fault needs `add`"),
        (
            "kind: latency, add: 300ms",
            "kind: telemetry-cut, add: 1s",
            "only a latency fault adds time",
        ),
        (
            "kind: latency, add: 300ms",
            "kind: stall, share: 0.5",
            "meets all requests",
        ),
        ("share: 1%", "share: 101%", "is not a share"),
        (
            "error_ratio > 0.5",
            "error_ratio >= 0.5",
            "spec.abort[0].when",
        ),
        (
            "error_ratio > 0.5",
            "p98 > 1s",
            "there is no figure `p98`: one of error_ratio",
        ),
        ("error_ratio > 0.5", "error_ratio > 1", "never exceeds 1"),
    ] {
        let found = changed(from, to);
        assert!(found.contains(wanted), "{to}: {found}");
        assert!(found.starts_with("s.yaml:"), "{to}: {found}");
    }
}

#[test]
fn what_hangs_together_is_checked_together() {
    let start = "    start: {command: [target-service, --listen, \"127.0.0.1:0\"], ready: /readyz, within: 60s}\n";
    let found = changed(start, "");
    assert!(
        found.contains("faults are put only on a target that the harness starts"),
        "{found}"
    );
    assert!(
        found.contains("only a target that the harness starts reports where its metrics are"),
        "{found}"
    );
    let both = format!("    url: http://127.0.0.1:3010\n{start}");
    assert!(changed(&both, "").contains("neither `url` nor `start`"));
    let warm = FULL.replace("phase: measure", "phase: warmup");
    assert!(
        problems(&warm)
            .join("\n")
            .contains("no load has a measured stage")
    );
}

#[test]
fn a_ramp_from_and_to_zero_measures_nothing() {
    let ramp = FULL.replace("constant-arrival-rate", "ramping-arrival-rate");
    let none = ramp
        .replace("rate: 20/s", "rate: 0/s")
        .replace("rate: 100/s", "rate: 0/s");
    assert!(problems(&none).join("\n").contains("would hold no request"));
    // From 20/s down to 0: half of 20/s × 60 s.
    assert_eq!(problems(&ramp.replace("rate: 100/s", "rate: 0/s")), [""; 0]);
}

#[test]
fn variables_are_replaced_and_become_secrets() {
    let scenario = Scenario::parse(FULL, "full.yaml").unwrap();
    let env = |name: &str| match name {
        "BUILD" => Some("1.2.3".to_owned()),
        "TOKEN" => Some("hush".to_owned()),
        _ => None,
    };
    let (resolved, secrets) = scenario.resolve("full.yaml", &env).unwrap();
    assert_eq!(
        resolved.spec.target.expect_version.as_deref(),
        Some("1.2.3")
    );
    assert_eq!(
        resolved
            .spec
            .telemetry
            .prometheus
            .unwrap()
            .bearer
            .as_deref(),
        Some("hush")
    );
    assert_eq!(resolved.spec.requests, scenario.spec.requests);
    assert_eq!(secrets, ["1.2.3", "hush"]);

    let unset = scenario.resolve("full.yaml", &|_| None).unwrap_err();
    assert!(unset.0.iter().all(|problem| problem.file == "full.yaml"));
    let unset = unset.to_string();
    assert!(
        unset.contains("spec.target.expectVersion") && unset.contains("`BUILD` is not set"),
        "{unset}"
    );
    assert!(unset.contains("`TOKEN` is not set"), "{unset}");
}

#[test]
fn what_answers_are_looked_up_by_takes_no_variables() {
    let refused = |from: &str, to: &str, key: &str| {
        assert!(FULL.contains(from), "{from}");
        let found = problems(&FULL.replace(from, to)).join("\n");
        assert!(
            found.contains(key) && found.contains("takes neither `${…}`"),
            "{found}"
        );
    };
    let embedded = "    embedded: {";
    let counter = "    requestCounter: 'requests_total{namespace=\"${NS}\"}'\n    embedded: {";
    refused(embedded, counter, "spec.telemetry.requestCounter");
    let log = "    requestLog: '{namespace=\"${NS}\"}'\n    embedded: {";
    refused(embedded, log, "spec.telemetry.requestLog");
    let path = "path: /healthz";
    refused(path, "path: \"/${STAGE}/healthz\"", "spec.requests[1].path");
    // Where the telemetry names the route otherwise, or it is not part of the route, it may.
    for fine in [
        "path: \"/${STAGE}/healthz\"\n      route: /healthz",
        "path: \"/healthz?key=${KEY}\"",
    ] {
        assert_eq!(problems(&FULL.replace(path, fine)), [""; 0]);
    }
}

#[test]
fn dollars_escape_and_values_are_checked_again() {
    let with = |text: &str| Scenario::parse(&FULL.replace("${BUILD}", text), "f").unwrap();
    let nothing = |_: &str| Some("x".to_owned());
    let version = |text: &str| {
        with(text)
            .resolve("f", &nothing)
            .map(|r| r.0.spec.target.expect_version.unwrap())
    };
    assert_eq!(version("a$$b").unwrap(), "a$b");
    assert_eq!(version("$${BUILD}").unwrap(), "${BUILD}");
    assert_eq!(version("a$b").unwrap(), "a$b");
    assert!(
        version("${BUILD")
            .unwrap_err()
            .to_string()
            .contains("without `}`")
    );
    let url = FULL.replace("url: http://127.0.0.1:3010", "url: ${URL}");
    let wrong = Scenario::parse(&url, "f")
        .unwrap()
        .resolve("f", &nothing)
        .unwrap_err();
    let wrong = wrong.to_string();
    assert!(
        wrong.starts_with("f: ") && wrong.contains("`x` is not an http URL"),
        "{wrong}"
    );
}

/// The repository's root.
fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
#[allow(
    clippy::disallowed_methods,
    reason = "the test reads the published schema and the shipped scenarios"
)]
fn schema_is_current_and_knows_the_shipped_scenarios() {
    let schema = Scenario::schema();
    let published = root().join("harness/core/schemas/scenario.schema.json");
    let text = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("HARNESS_WRITE_SCHEMAS").is_some() {
        std::fs::write(&published, &text).unwrap();
    }
    let there = std::fs::read_to_string(&published).unwrap_or_default();
    assert!(
        there == text,
        "write it anew: HARNESS_WRITE_SCHEMAS=1 cargo nextest run --workspace --lib -E 'test(schema_is_current)'"
    );

    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut seen = 0;
    for entry in root().join("scenarios").read_dir().unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let name = path.display().to_string();
        let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
        let errors: Vec<String> = validator
            .iter_errors(&value)
            .map(|e| format!("{e} at {}", e.instance_path()))
            .collect();
        assert_eq!(errors, [""; 0], "{name}");
        let scenario =
            Scenario::parse(&text, &name).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(
            Some(scenario.metadata.name.as_str()),
            path.file_stem().and_then(|s| s.to_str())
        );
        seen += 1;
    }
    assert!(seen >= 5, "{seen} scenarios");

    let full: serde_json::Value = serde_saphyr::from_str(FULL).unwrap();
    assert!(validator.is_valid(&full));
    let mut wrong = full.clone();
    wrong["spec"]["target"]["timeout"] = "2 seconds".into();
    assert!(!validator.is_valid(&wrong));
    let mut unknown = full;
    unknown["spec"]["loads"][0]["sparkle"] = true.into();
    assert!(!validator.is_valid(&unknown));
}

proptest! {
    /// Whatever is cut or changed, reading ends in an answer.
    #[test]
    fn no_text_panics(cut in 0..FULL.len(), replaced in 0..FULL.len(), with in any::<char>()) {
        let mut text: String = FULL.chars().take(cut).collect();
        let _ = Scenario::parse(&text, "s.yaml");
        text = FULL.chars().enumerate().map(|(i, c)| if i == replaced { with } else { c }).collect();
        let _ = Scenario::parse(&text, "s.yaml");
    }
}

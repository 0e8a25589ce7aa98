use harness_core::query::{Answer, Query};
use harness_core::units::UnixNanos;

use super::*;

#[test]
fn what_came_from_the_environment_is_in_nothing_that_is_kept() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let text = "apiVersion: harness/v1\nkind: Scenario\nmetadata: {name: a}\nspec:\n  seed: 1\n  slo: [a.yaml]\n  target: {url: \"http://127.0.0.1:1\"}\n  requests:\n    - {name: a, method: GET, path: /}\n  loads:\n    - {name: a, mix: {a: 1}, executor: constant-vus, vus: 1, stages: [{phase: measure, for: 1s}]}\n";
    let inputs = Inputs {
        text: text.into(),
        scenario: Scenario::parse(text, "a.yaml").unwrap(),
        secrets: vec!["hush".into()],
        slos: Vec::new(),
        objectives: Vec::new(),
        datasets: std::collections::BTreeMap::new(),
        base: std::path::PathBuf::new(),
    };
    let mut stage = Stage::new().unwrap();
    stage.target.url = "http://me:word@hush.test".into();
    let mut facts = first_facts(&inputs, "r", &stage);
    facts.stop = Some(Stop::TargetUnreachable("hush is down".into()));
    facts
        .settled
        .missing
        .push("loki: no answer from hush".into());
    facts.faults.push(FaultApplied {
        kind: "stall".into(),
        at: None,
        error: Some("hush".into()),
    });
    let answer = Answer {
        query: Query::PromInstant {
            query: "up".into(),
            time: UnixNanos(1),
        },
        at: UnixNanos(1),
        status: None,
        body: String::new(),
        error: Some("cannot reach http://hush/".into()),
    };
    let answers = redact(&mut facts, [answer].into_iter().collect(), &inputs.secrets);
    let answers: Vec<_> = answers.iter().collect();
    let kept = serde_json::to_string(&(facts, answers)).unwrap();
    assert!(!kept.contains("hush") && !kept.contains("word"), "{kept}");
    assert!(kept.contains("[redacted]"));
}

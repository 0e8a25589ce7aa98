use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::schedule::open;

const ROWS: &str = r#"{"id": "1", "text": "first", "label": "autos", "answer": "autos"}
{"id": "2", "text": "second", "label": "hockey", "answer": "autos"}

{"id": "3", "text": "drittes, ü", "label": "hockey", "answer": "hockey"}
"#;

fn scenario(order: &str) -> Scenario {
    let text = r#"apiVersion: harness/v1
kind: Scenario
metadata: {name: plan}
spec:
  seed: 42
  target: {url: "http://127.0.0.1:1"}
  trace: {sampled: 0.25}
  requests:
    - name: classify
      method: POST
      path: /predict?x=1
      headers: {X-Run: a}
      body: {dataset: d.jsonl, field: text, order: ORDER}
      expect: {status: 200, json: {"$.result": "{{ answer }}", "$.n": 1}}
      score: {"$.result": "{{ label }}"}
    - {name: ping, method: GET, path: /}
  loads:
    - {name: l, mix: {classify: 1}, executor: constant-arrival-rate, stages: [{phase: measure, rate: 100/s, for: 100s}]}
    - {name: m, mix: {classify: 1, ping: 1}, executor: constant-arrival-rate, stages: [{phase: measure, rate: 1/s, for: 10s}]}
"#;
    Scenario::parse(&text.replace("ORDER", order), "plan.yaml").unwrap()
}

fn data(text: &str) -> BTreeMap<String, String> {
    BTreeMap::from([("d.jsonl".to_owned(), text.to_owned())])
}

/// Outcome, score and detail of an answer without headers that came at once.
fn judged(
    planner: &Planner,
    plan: &RequestPlan,
    status: u16,
    body: &str,
) -> (Outcome, Option<bool>, Option<String>) {
    let answer = Answer {
        status,
        header: &|_| None,
        body: body.as_bytes(),
        latency: crate::units::Nanos(0),
    };
    let judged = planner.judge(plan, &answer);
    (judged.outcome, judged.correct, judged.detail)
}

fn planner(order: &str) -> Planner {
    Planner::new(&scenario(order), &data(ROWS), 7).unwrap()
}

fn plans(order: &str) -> Vec<RequestPlan> {
    let planner = planner(order);
    open(&scenario(order))
        .filter(|a| a.load == 0)
        .map(|arrival| planner.plan(&arrival))
        .collect()
}

#[test]
fn a_plan_carries_what_the_scenario_says() {
    let plan = &plans("sequential")[2];
    assert_eq!(&*plan.method, "POST");
    assert_eq!(&*plan.path, "/predict?x=1");
    assert_eq!(&*plan.body, "drittes, ü".as_bytes());
    assert_eq!(plan.row, Some(2));
    assert_eq!(
        *plan.headers,
        [
            ("x-run".to_owned(), "a".to_owned()),
            (
                "content-type".to_owned(),
                "text/plain; charset=utf-8".to_owned()
            ),
        ]
    );
    let parent = plan.traceparent();
    assert_eq!(
        parent,
        format!(
            "00-{}-{}-0{}",
            plan.trace,
            plan.span,
            u8::from(plan.sampled)
        )
    );
    assert_eq!(parent.len(), 55);
}

#[test]
fn bodies_are_shared_not_copied() {
    let planner = planner("sequential");
    let arrivals: Vec<Arrival> = open(&scenario("sequential"))
        .filter(|a| a.load == 0)
        .collect();
    let (a, b) = (planner.plan(&arrivals[0]), planner.plan(&arrivals[3]));
    assert!(Arc::ptr_eq(&a.body, &b.body));
    assert!(Arc::ptr_eq(&a.headers, &b.headers));
}

#[test]
fn each_pass_meets_every_row_once_in_a_new_order() {
    let rows: Vec<usize> = plans("shuffled")
        .iter()
        .filter_map(|plan| plan.row)
        .collect();
    let passes: BTreeSet<&[usize]> = rows.chunks_exact(3).collect();
    for pass in &passes {
        assert_eq!(pass.iter().collect::<BTreeSet<_>>().len(), 3, "{pass:?}");
    }
    assert_eq!(
        passes.len(),
        6,
        "all orders of three rows come up in 3,333 passes"
    );
    let sequential: Vec<usize> = plans("sequential")
        .iter()
        .filter_map(|plan| plan.row)
        .take(5)
        .collect();
    assert_eq!(sequential, [0, 1, 2, 0, 1]);
}

#[test]
fn ids_are_new_for_each_request_and_each_run_and_sampling_is_not() {
    let first = plans("shuffled");
    let traces: BTreeSet<TraceId> = first.iter().map(|plan| plan.trace).collect();
    let spans: BTreeSet<SpanId> = first.iter().map(|plan| plan.span).collect();
    assert_eq!((traces.len(), spans.len()), (10_000, 10_000));
    // 10,000 at 1 in 4: deviation 43.
    let sampled = first.iter().filter(|plan| plan.sampled).count();
    assert!(sampled.abs_diff(2_500) < 300, "{sampled}");

    let other = Planner::new(&scenario("shuffled"), &data(ROWS), 8).unwrap();
    for (arrival, before) in open(&scenario("shuffled"))
        .filter(|a| a.load == 0)
        .zip(&first)
    {
        let plan = other.plan(&arrival);
        assert!(!traces.contains(&plan.trace));
        assert_eq!((plan.row, plan.sampled), (before.row, before.sampled));
    }
}

#[test]
fn answers_are_judged_against_row_and_truth() {
    let planner = planner("sequential");
    let plans = plans("sequential");
    let judge = |row: usize, status, body: &str| judged(&planner, &plans[row], status, body);
    assert_eq!(
        judge(0, 200, r#"{"result": "autos", "n": 1.0}"#),
        (Outcome::Expected, Some(true), None)
    );
    // What the shipped model says, though it is not the truth: expected, and not correct.
    assert_eq!(
        judge(1, 200, r#"{"result": "autos", "n": 1}"#),
        (Outcome::Expected, Some(false), None)
    );
    let (outcome, correct, detail) = judge(1, 200, r#"{"result": "hockey", "n": 1}"#);
    assert_eq!((outcome, correct), (Outcome::WrongAnswer, Some(true)));
    assert_eq!(
        detail.as_deref(),
        Some("$.result is \"hockey\", not \"autos\"")
    );
    let (outcome, correct, detail) = judge(0, 200, r#"{"result": "autos"}"#);
    assert_eq!((outcome, correct), (Outcome::WrongAnswer, Some(true)));
    assert_eq!(detail.as_deref(), Some("$.n is not in the answer"));
    let (outcome, correct, detail) = judge(0, 200, "<html>");
    assert_eq!((outcome, correct), (Outcome::WrongAnswer, Some(false)));
    assert!(detail.unwrap().starts_with("the answer is not JSON"));
    let (outcome, correct, detail) = judge(0, 503, &"busy\n\u{fc}".repeat(100));
    assert_eq!((outcome, correct), (Outcome::UnexpectedStatus, None));
    let detail = detail.unwrap();
    assert!(
        detail.starts_with("status 503: busy ü") && detail.len() <= DETAIL_LIMIT,
        "{detail}"
    );
}

#[test]
fn without_expectations_any_2xx_is_right() {
    let planner = planner("sequential");
    let ping = open(&scenario("sequential"))
        .find(|a| a.request == 1)
        .unwrap();
    let plan = planner.plan(&ping);
    assert!(plan.body.is_empty() && plan.row.is_none() && plan.headers.is_empty());
    assert_eq!(
        judged(&planner, &plan, 204, ""),
        (Outcome::Expected, None, None)
    );
    assert_eq!(
        judged(&planner, &plan, 301, "").0,
        Outcome::UnexpectedStatus
    );
}

#[test]
fn every_row_is_checked_before_the_first_request() {
    let wrong = |text: &str| {
        let problems = Planner::new(&scenario("sequential"), &data(text), 7).unwrap_err();
        problems.to_string()
    };
    assert!(wrong("").contains("d.jsonl: the dataset has no rows"));
    assert!(wrong("[1]").contains("d.jsonl:1:1: the row is not a JSON object"));
    assert!(wrong(&format!("{ROWS}{{oops\n")).contains("d.jsonl:5:2: the row is not JSON"));
    let field = wrong(&format!(
        "{ROWS}{{\"id\": 1, \"label\": \"x\", \"answer\": \"x\"}}"
    ));
    assert!(
        field
            .contains("d.jsonl:5:1: the row has no field `text`\n  hint: it has id, label, answer"),
        "{field}"
    );
    let answer = wrong(r#"{"text": "a", "label": "x"}"#);
    assert!(
        answer.contains("d.jsonl:1:1: the row has no field `answer`"),
        "{answer}"
    );
    assert!(
        answer.contains("`expect.json` of the request `classify` takes it"),
        "{answer}"
    );
    let typed = wrong(r#"{"text": 1, "label": "x", "answer": "x"}"#);
    assert!(typed.contains("the field `text` is not a text"), "{typed}");
    let many = wrong(&"{}\n".repeat(100));
    assert!(many.contains("and 90 more like it"), "{many}");
    let unread = Planner::new(&scenario("sequential"), &BTreeMap::new(), 7).unwrap_err();
    assert!(
        unread
            .to_string()
            .contains("d.jsonl: the dataset was not read")
    );
}

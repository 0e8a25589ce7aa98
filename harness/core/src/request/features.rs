//! Templates, formats and orders of datasets, flows, and every kind of expectation.

use std::collections::BTreeMap;

use super::*;
use crate::schedule::open;
use crate::units::Nanos;

const CSV: &str = "id,city,answer\n1,Köln,a b\n2,\"x/y&z\",c\n3,Rome,d\n";

/// A scenario with these requests, and this mix at 100/s.
fn scenario(requests: &str, rest: &str, mix: &str) -> Scenario {
    let text = format!(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {{name: features}}
spec:
  seed: 42
  target: {{url: "http://127.0.0.1:1"}}
  requests:
{requests}
  {rest}
  loads:
    - {{name: l, mix: {{{mix}}}, executor: constant-arrival-rate, stages: [{{phase: measure, rate: 100/s, for: 100s}}]}}
"#
    );
    Scenario::parse(&text, "f.yaml").unwrap_or_else(|problems| panic!("{problems}"))
}

fn files() -> BTreeMap<String, String> {
    let lines = "one\ntwo\n";
    [("d.csv", CSV), ("d.txt", lines)]
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .into()
}

fn planner(scenario: &Scenario) -> Planner {
    Planner::new(scenario, &files(), 7).unwrap_or_else(|problems| panic!("{problems}"))
}

fn plans(scenario: &Scenario, most: usize) -> Vec<RequestPlan> {
    let planner = planner(scenario);
    open(scenario)
        .take(most)
        .map(|arrival| planner.plan(&arrival))
        .collect()
}

fn body(plan: &RequestPlan) -> &str {
    std::str::from_utf8(&plan.body).unwrap()
}

#[test]
fn templates_fill_path_query_headers_and_body() {
    let spec = scenario(
        r#"    - name: a
      method: POST
      path: "/items/{{ city }}?v=1"
      route: /items/{city}
      query: {q: "{{ city }} & co", n: "{{ $nth }}"}
      headers: {x-id: "{{ id }}-{{ $vu }}"}
      data: {dataset: d.csv}
      body: {json: {id: "{{ id }}", nested: [{n: 1, text: "in \"{{ city }}\""}]}}"#,
        "",
        "a: 1",
    );
    let plans = plans(&spec, 3);
    assert_eq!(
        &*plans[0].path,
        "/items/K%C3%B6ln?v=1&n=0&q=K%C3%B6ln%20%26%20co"
    );
    assert_eq!(
        &*plans[1].path,
        "/items/x%2Fy%26z?v=1&n=1&q=x%2Fy%26z%20%26%20co"
    );
    assert_eq!(
        *plans[1].headers,
        [
            ("x-id".to_owned(), "2-0".to_owned()),
            ("content-type".to_owned(), "application/json".to_owned())
        ]
    );
    let json: serde_json::Value = serde_json::from_slice(&plans[0].body).unwrap();
    assert_eq!(
        json,
        serde_json::json!({"id": "1", "nested": [{"n": 1, "text": "in \"Köln\""}]})
    );
}

#[test]
fn what_is_drawn_for_a_request_follows_from_seed_and_id() {
    let spec = scenario(
        r#"    - {name: a, method: POST, path: /, body: {text: "{{ $uuid }} {{ $uuid }} {{ $random }} {{ $id }}"}, expect: {json: {"$.id": "{{ $uuid }}"}}}"#,
        "",
        "a: 1",
    );
    let first = plans(&spec, 100);
    assert_eq!(first, plans(&spec, 100));
    let uuids: std::collections::BTreeSet<&str> =
        first.iter().map(|plan| &body(plan)[..36]).collect();
    assert_eq!(uuids.len(), 100);
    for (n, plan) in first.iter().enumerate() {
        let words: Vec<&str> = body(plan).split(' ').collect();
        assert_eq!(words[0], words[1]);
        assert_eq!((&words[0][14..15], words[3]), ("4", n.to_string().as_str()));
        assert!("89ab".contains(&words[0][19..20]), "{}", words[0]);
        assert!(words[2].parse::<u32>().is_ok());
    }
    // What was sent is what is expected back.
    let planner = planner(&spec);
    let uuid = &body(&first[3])[..36];
    let answer = |id: &str| {
        answered(
            &planner,
            &first[3],
            200,
            &[],
            &format!(r#"{{"id": "{id}"}}"#),
            0,
        )
    };
    assert_eq!(answer(uuid).outcome, Outcome::Expected);
    assert_eq!(answer("other").outcome, Outcome::WrongAnswer);
}

#[test]
fn text_files_and_zipf() {
    let spec = scenario(
        r#"    - {name: a, method: POST, path: /, body: {dataset: d.txt, field: line, order: zipf}}
    - {name: b, method: POST, path: /, data: {dataset: d.csv, order: {zipf: 2}}, body: {text: "{{ id }}"}}"#,
        "",
        "a: 1, b: 1",
    );
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for plan in plans(&spec, 10_000) {
        *counts.entry(body(&plan).to_owned()).or_default() += 1;
    }
    let share = |name: &str, of: &[&str]| {
        let all: usize = of.iter().map(|name| counts[*name]).sum();
        counts[name] as f64 / all as f64
    };
    // Weights 1 and 1/2; and 1, 1/4 and 1/9. 5,000 draws each: deviations below 0.007.
    assert!((share("one", &["one", "two"]) - 2.0 / 3.0).abs() < 0.03);
    let all = ["1", "2", "3"];
    assert!((share("1", &all) - 36.0 / 49.0).abs() < 0.03);
    assert!((share("3", &all) - 4.0 / 49.0).abs() < 0.02);
}

fn answered(
    planner: &Planner,
    plan: &RequestPlan,
    status: u16,
    headers: &[(&str, &str)],
    body: &str,
    millis: u64,
) -> Judged {
    let header = |name: &str| {
        let found = headers.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| (*value).to_owned())
    };
    let answer = Answer {
        status,
        header: &header,
        body: body.as_bytes(),
        latency: Nanos(millis * 1_000_000),
    };
    planner.judge(plan, &answer)
}

#[test]
fn every_kind_of_expectation_holds_or_says_why_not() {
    let spec = scenario(
        r#"    - name: a
      method: GET
      path: /
      data: {dataset: d.csv}
      expect:
        status: [200, 404]
        headers: {Content-Type: {regex: "^application/json"}, X-Answer: "{{ answer }}"}
        regex: "ok\\b"
        size: {atLeast: 5, atMost: 40}
        latency: 500ms"#,
        "",
        "a: 1",
    );
    let planner = planner(&spec);
    let plan = &plans(&spec, 1)[0];
    let right = [
        ("content-type", "application/json; charset=utf-8"),
        ("x-answer", "a b"),
    ];
    let judge = |status, headers: &[(&str, &str)], body, millis| {
        answered(&planner, plan, status, headers, body, millis)
    };
    assert_eq!(judge(200, &right, "all ok", 500).outcome, Outcome::Expected);
    assert_eq!(judge(404, &right, "all ok", 1).outcome, Outcome::Expected);
    for (status, headers, body, millis, outcome, why) in [
        (
            201,
            &right[..],
            "all ok",
            1,
            Outcome::UnexpectedStatus,
            "status 201",
        ),
        (
            200,
            &right[..1],
            "all ok",
            1,
            Outcome::WrongAnswer,
            "the header X-Answer is not in the answer",
        ),
        (
            200,
            &right[1..],
            "all ok",
            1,
            Outcome::WrongAnswer,
            "the header content-type is not in the answer",
        ),
        (
            200,
            &[("content-type", "text/html"), ("x-answer", "a b")],
            "all ok",
            1,
            Outcome::WrongAnswer,
            "does not match",
        ),
        (
            200,
            &[("content-type", "application/json"), ("x-answer", "c")],
            "all ok",
            1,
            Outcome::WrongAnswer,
            "is `c`, not `a b`",
        ),
        (
            200,
            &right[..],
            "all okay",
            1,
            Outcome::WrongAnswer,
            "does not match the body",
        ),
        (
            200,
            &right[..],
            "ok",
            1,
            Outcome::WrongAnswer,
            "has 2 bytes, fewer than 5",
        ),
        (
            200,
            &right[..],
            "ok, but this is longer than it should be at most",
            1,
            Outcome::WrongAnswer,
            "more than 40",
        ),
        (
            200,
            &right[..],
            "all ok",
            501,
            Outcome::TooSlow,
            "took 501.0 ms from due, where the scenario expects at most 500ms",
        ),
        // What is wrong counts as wrong, however slow.
        (
            200,
            &right[..],
            "all okay",
            501,
            Outcome::WrongAnswer,
            "does not match the body",
        ),
    ] {
        let judged = judge(status, headers, body, millis);
        let detail = judged.detail.unwrap_or_default();
        assert_eq!(judged.outcome, outcome, "{detail}");
        assert!(detail.contains(why), "{detail}");
    }
}

#[test]
fn a_class_of_statuses_may_be_expected() {
    let spec = scenario(
        "    - {name: a, method: GET, path: /, expect: {status: 4xx}}",
        "",
        "a: 1",
    );
    let planner = planner(&spec);
    let plan = &plans(&spec, 1)[0];
    let outcome = |status| answered(&planner, plan, status, &[], "", 0).outcome;
    assert_eq!(outcome(429), Outcome::Expected);
    assert_eq!(outcome(200), Outcome::UnexpectedStatus);
    assert_eq!(outcome(500), Outcome::UnexpectedStatus);
}

#[test]
fn a_flow_hands_on_what_it_captured() {
    let spec = scenario(
        r#"    - name: login
      method: POST
      path: /login
      data: {dataset: d.csv, order: shuffled}
      body: {text: "{{ city }}"}
      capture:
        token: {json: $.token}
        place: {header: Location, regex: "/items/([0-9]+)"}
        csrf: {regex: "csrf=([a-z]+)"}
    - name: item
      method: PUT
      path: "/items/{{ place }}"
      route: /items/{id}
      headers: {authorization: "Bearer {{ token }}"}
      data: {dataset: d.csv, order: shuffled}
      body: {json: {csrf: "{{ csrf }}", token: "{{ token }}", city: "{{ city }}"}}
      expect: {json: {$.token: "{{ token }}"}}"#,
        "flows: [{name: shop, steps: [login, item]}]",
        "shop: 1",
    );
    let planner = planner(&spec);
    for first in open(&spec).take(20) {
        let login = planner.plan(&first);
        let answer = r#"{"token": 7, "note": "csrf=abc"}"#;
        let judged = answered(
            &planner,
            &login,
            200,
            &[("location", "http://h/items/31")],
            answer,
            1,
        );
        assert_eq!(judged.outcome, Outcome::Expected, "{:?}", judged.detail);
        let captured: Captured = judged.captured.into_iter().collect();
        let second = first.next_step(&spec, Nanos(5)).unwrap();
        let item = planner.plan_step(&second, &captured);
        assert_eq!(&*item.path, "/items/31");
        assert_eq!(item.headers[0].1, "Bearer 7");
        // Both steps take the same row.
        assert_eq!(login.row, item.row);
        let sent: serde_json::Value = serde_json::from_slice(&item.body).unwrap();
        assert_eq!(
            sent,
            serde_json::json!({"csrf": "abc", "token": 7, "city": body(&login)})
        );
        let echoed = answered(&planner, &item, 200, &[], r#"{"token": 7}"#, 1);
        assert_eq!(echoed.outcome, Outcome::Expected, "{:?}", echoed.detail);
        let other = answered(&planner, &item, 200, &[], r#"{"token": 8}"#, 1);
        assert_eq!(other.outcome, Outcome::WrongAnswer);
        assert_ne!((login.trace, login.span), (item.trace, item.span));
    }
}

#[test]
fn an_answer_without_the_value_that_the_next_step_needs_is_wrong() {
    let spec = scenario(
        r#"    - {name: a, method: GET, path: /, capture: {t: {json: $.t}, h: {header: x-h}}}"#,
        "",
        "a: 1",
    );
    let planner = planner(&spec);
    let plan = &plans(&spec, 1)[0];
    let judge = |headers: &[(&str, &str)], body: &str| {
        let judged = answered(&planner, plan, 200, headers, body, 0);
        assert!(judged.captured.is_empty());
        (judged.outcome, judged.detail.unwrap_or_default())
    };
    for (headers, body, why) in [
        (
            &[("x-h", "1")][..],
            "{}",
            "no value for `t`: its path finds nothing",
        ),
        (
            &[("x-h", "1")][..],
            "<html>",
            "no value for `t`: the answer is not JSON",
        ),
        (
            &[][..],
            r#"{"t": 1}"#,
            "no value for `h`: there is no header x-h",
        ),
    ] {
        let (outcome, detail) = judge(headers, body);
        assert_eq!(outcome, Outcome::WrongAnswer);
        assert!(detail.contains(why), "{detail}");
    }
}

#[test]
fn rows_that_lack_a_field_are_refused_by_line() {
    let wrong = |request: &str| {
        let spec = scenario(request, "", "a: 1");
        Planner::new(&spec, &files(), 7).unwrap_err().to_string()
    };
    let header = wrong(
        r#"    - {name: a, method: GET, path: /, data: {dataset: d.csv}, headers: {x: "{{ town }}"}}"#,
    );
    assert!(
        header.contains("d.csv:2:1: the row has no field `town`\n  hint: it has id, city, answer"),
        "{header}"
    );
    let json = wrong(
        r#"    - {name: a, method: GET, path: /, data: {dataset: d.csv}, body: {json: {a: ["{{ town }}"]}}}"#,
    );
    assert!(json.contains("the row has no field `town`"), "{json}");
}

#[test]
fn a_dataset_that_ends_too_early_is_refused_before_the_first_request() {
    let with = |rows: usize, load: &str| {
        let text = format!(
            r#"apiVersion: harness/v1
kind: Scenario
metadata: {{name: once}}
spec:
  seed: 42
  target: {{url: "http://127.0.0.1:1"}}
  requests:
    - {{name: a, method: POST, path: /, body: {{dataset: r.txt, field: line, reuse: false}}}}
    - {{name: b, method: GET, path: /}}
  loads: [{load}]
"#
        );
        let spec = Scenario::parse(&text, "o.yaml").unwrap_or_else(|problems| panic!("{problems}"));
        let files = BTreeMap::from([("r.txt".to_owned(), "row\n".repeat(rows))]);
        Planner::new(&spec, &files, 7)
            .map(|_| ())
            .map_err(|problems| problems.to_string())
    };
    let paced = "{name: l, mix: {a: 1, b: 1}, executor: constant-arrival-rate, spacing: poisson, stages: [{phase: measure, rate: 10/s, for: 10s}]}";
    assert_eq!(with(100, paced), Ok(()));
    let short = with(20, paced).unwrap_err();
    assert!(short.contains("r.txt: spec.requests[0].body: the dataset ends too early: it has 20 rows, and the schedule needs "), "{short}");
    let each = "{name: l, mix: {a: 1}, executor: per-vu-iterations, vus: 3, iterations: 4, stages: [{phase: measure, for: 10s}]}";
    assert_eq!(with(12, each), Ok(()));
    assert!(with(11, each).unwrap_err().contains("needs 12"));
    let timed = "{name: l, mix: {a: 1}, executor: constant-vus, vus: 3, stages: [{phase: measure, for: 10s}]}";
    assert!(
        with(1_000, timed)
            .unwrap_err()
            .contains("how many rows constant-vus needs depends on the answers")
    );
    let two = format!("{each}, {}", each.replace("name: l", "name: m"));
    assert!(
        with(1_000, &two)
            .unwrap_err()
            .contains("is used in several places")
    );
}

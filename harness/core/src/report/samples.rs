//! Sample reports, one per verdict, for tests and for looking at the pages by eye.
//!
//! The figures are made up but hang together: series, distribution, counts and quantiles of a sample
//! are taken from one simulated list of requests. Used by the tests of this crate and, by path, by
//! `examples/sample_report.rs`; hence `harness_core::` and not `crate::`, and hence one long file:
//! it is data more than code, and a module taken by path cannot bring others along.

use harness_core::observation::Outcome;
use harness_core::query::Backend;
use harness_core::report::model::*;
use harness_core::units::{Nanos, Phase, Ratio, RequestId, SpanId, TraceId};

/// One simulated request.
#[derive(Clone, Copy)]
struct Row {
    due: f64,
    latency: f64,
    service: Option<f64>,
    outcome: Outcome,
    phase: Phase,
}

/// SplitMix64, as numbers in [0, 1).
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.next()).ln()
    }
}

/// Poisson arrivals over 5 s of warm-up and `seconds` of measuring.
fn arrivals(noise: &mut Noise, warm: f64, rate: f64, seconds: f64) -> Vec<(f64, Phase)> {
    let mut out = Vec::new();
    let mut at = 0.0;
    loop {
        at += noise.exponential(1.0 / if at < 5.0 { warm } else { rate });
        if at >= 5.0 + seconds {
            return out;
        }
        out.push((
            at,
            if at < 5.0 {
                Phase::Warmup
            } else {
                Phase::Measure
            },
        ));
    }
}

fn healthy_rows() -> Vec<Row> {
    let mut noise = Noise(7);
    arrivals(&mut noise, 10.0, 40.0, 30.0)
        .into_iter()
        .map(|(due, phase)| {
            let tail = if noise.next() > 0.97 {
                noise.exponential(0.03)
            } else {
                0.0
            };
            let cold = if due < 1.5 { 0.04 } else { 0.0 };
            let service = 0.006 + noise.exponential(0.003) + tail + cold;
            Row {
                due,
                latency: service + noise.exponential(0.000_15),
                service: Some(service),
                outcome: if phase == Phase::Measure && noise.next() > 0.998 {
                    Outcome::WrongAnswer
                } else {
                    Outcome::Expected
                },
                phase,
            }
        })
        .collect()
}

fn overloaded_rows() -> Vec<Row> {
    let mut noise = Noise(11);
    let mut queue: f64 = 0.0;
    let mut before = 0.0;
    arrivals(&mut noise, 20.0, 400.0, 12.0)
        .into_iter()
        .map(|(due, phase)| {
            queue = (queue - (due - before) * 120.0).max(0.0);
            before = due;
            let (service, outcome) = if queue >= 64.0 {
                (0.001 + noise.exponential(0.002), Outcome::UnexpectedStatus)
            } else {
                queue += 1.0;
                (
                    0.008 + queue / 120.0 * (0.9 + 0.2 * noise.next()),
                    Outcome::Expected,
                )
            };
            let lost = phase == Phase::Measure && noise.next() > 0.985;
            Row {
                due,
                latency: if lost { 2.0 } else { service + 0.000_2 },
                service: Some(if lost { 1.9998 } else { service }),
                outcome: if lost { Outcome::Timeout } else { outcome },
                phase,
            }
        })
        .collect()
}

fn quantiles(mut values: Vec<f64>) -> Option<Quantiles> {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let at = |q: f64| values[((q * n as f64).ceil() as usize).clamp(1, n) - 1];
    (n > 0).then(|| Quantiles {
        min: at(0.0),
        mean: values.iter().sum::<f64>() / n as f64,
        p50: at(0.5),
        p90: at(0.9),
        p95: at(0.95),
        p99: at(0.99),
        p999: at(0.999),
        max: at(1.0),
    })
}

fn load(rows: &[Row]) -> Vec<LoadSummary> {
    [
        (Phase::Warmup, 5.0),
        (Phase::Measure, rows.last().map_or(1.0, |r| r.due) - 5.0),
    ]
    .into_iter()
    .map(|(phase, seconds)| {
        let mine: Vec<&Row> = rows.iter().filter(|r| r.phase == phase).collect();
        let mut outcomes: Vec<(Outcome, u64)> = Vec::new();
        for row in &mine {
            match outcomes
                .iter_mut()
                .find(|(outcome, _)| *outcome == row.outcome)
            {
                Some((_, count)) => *count += 1,
                None => outcomes.push((row.outcome, 1)),
            }
        }
        outcomes.sort();
        let answered = mine.iter().filter(|r| r.outcome.answered()).count() as u64;
        LoadSummary {
            phase,
            request: "classify".to_owned(),
            scheduled: mine.len() as u64,
            outcomes,
            rate: answered as f64 / seconds,
            latency: quantiles(mine.iter().map(|r| r.latency).collect()),
            service_time: quantiles(mine.iter().filter_map(|r| r.service).collect()),
            accuracy: Some(Ratio {
                good: answered * 96 / 100,
                total: answered,
            }),
            bytes: answered * 187,
        }
    })
    .collect()
}

fn series(rows: &[Row]) -> Vec<SecondPoint> {
    let last = rows
        .iter()
        .map(|r| (r.due + r.latency) as u32)
        .max()
        .unwrap_or(0);
    (0..=last)
        .map(|second| {
            let within = |at: f64| at as u32 == second;
            let done: Vec<&Row> = rows.iter().filter(|r| within(r.due + r.latency)).collect();
            let due: Vec<f64> = rows
                .iter()
                .filter(|r| within(r.due))
                .map(|r| r.latency)
                .collect();
            let (from, to) = (f64::from(second), f64::from(second) + 1.0);
            let out = rows
                .iter()
                .filter(|r| r.due < to && r.due + r.latency > from)
                .count();
            SecondPoint {
                second,
                phase: if second < 5 {
                    Phase::Warmup
                } else {
                    Phase::Measure
                },
                due: due.len() as u64,
                done: done.len() as u64,
                failed: done
                    .iter()
                    .filter(|r| r.outcome != Outcome::Expected)
                    .count() as u64,
                in_flight: (out as u64).saturating_sub(done.len() as u64 * 9 / 10),
                p50: quantiles(due.clone()).map(|q| q.p50),
                p99: quantiles(due.clone()).map(|q| q.p99),
                max: quantiles(due).map(|q| q.max),
            }
        })
        .collect()
}

fn distribution(rows: &[Row]) -> Vec<Bin> {
    let edge = |n: i32| 1e-3 * 10_f64.powf(f64::from(n) / 12.0);
    let mut bins: Vec<Bin> = (-4..48)
        .map(|n| Bin {
            low: edge(n),
            high: edge(n + 1),
            expected: 0,
            other: 0,
            service_time: 0,
        })
        .collect();
    for row in rows.iter().filter(|r| r.phase == Phase::Measure) {
        for bin in &mut bins {
            let holds = |value: f64| value > bin.low && value <= bin.high;
            let (is, served) = (holds(row.latency), row.service.is_some_and(holds));
            bin.expected += u64::from(is && row.outcome == Outcome::Expected);
            bin.other += u64::from(is && row.outcome != Outcome::Expected);
            bin.service_time += u64::from(served);
        }
    }
    bins.retain(|bin| bin.expected + bin.other + bin.service_time > 0);
    bins
}

fn ratio(
    name: &str,
    display: &str,
    source: Source,
    signal: Signal,
    counts: (u64, u64),
    target: f64,
    interval: [f64; 2],
) -> ObjectiveResult {
    let value = counts.0 as f64 / counts.1 as f64;
    ObjectiveResult {
        name: name.to_owned(),
        display_name: display.to_owned(),
        source,
        signal,
        gate: Gate::Required,
        value: Some(value),
        unit: Some("ratio".to_owned()),
        good: Some(counts.0),
        samples: Some(counts.1),
        effective_samples: Some(counts.1 as f64),
        target: Some(target),
        threshold: None,
        limit_seconds: None,
        interval: Some(interval),
        confidence: 0.95,
        margin: Some(value - target),
        verdict: Verdict::Pass,
        reason: format!("{} of {} were good", counts.0, counts.1),
        queries: Vec::new(),
        place: Some(Place {
            file: "slo/quickstart.yaml".to_owned(),
            line: Some(10),
        }),
        links: Vec::new(),
        evidence: Vec::new(),
        warn: None,
        baseline: None,
        budget: None,
    }
}

fn threshold(
    name: &str,
    display: &str,
    source: Source,
    signal: Signal,
    value: f64,
    unit: &str,
    limit: (&str, f64),
) -> ObjectiveResult {
    ObjectiveResult {
        value: Some(value),
        unit: Some(unit.to_owned()),
        good: None,
        samples: None,
        effective_samples: None,
        target: None,
        threshold: Some(Threshold {
            op: limit.0.to_owned(),
            value: limit.1,
        }),
        interval: None,
        margin: Some((limit.1 - value).abs()),
        reason: "the value is on the good side of the limit".to_owned(),
        ..ratio(name, display, source, signal, (1, 1), 0.5, [0.0, 1.0])
    }
}

fn objectives(measured: u64) -> Vec<ObjectiveResult> {
    let mut latency = ratio(
        "answers-in-time",
        "Answers within 250 ms of being due",
        Source::Client,
        Signal::Latency,
        (measured - 1, measured),
        0.99,
        [0.99609, 0.99996],
    );
    latency.limit_seconds = Some(0.25);
    let mut queue = ratio(
        "short-queue",
        "Time in the queue at most 100 ms",
        Source::Tempo,
        Signal::Latency,
        (measured, measured),
        0.99,
        [0.99752, 1.0],
    );
    queue.queries = vec![
        "{resource.service.name=\"news-classifier\" && name=\"queue\" && duration<=100ms} | count_over_time()".to_owned(),
        "{resource.service.name=\"news-classifier\" && name=\"queue\"} | count_over_time()".to_owned(),
    ];
    let mut errors = ratio(
        "server-errors",
        "Requests without a server error",
        Source::Prometheus,
        Signal::Errors,
        (measured, measured),
        0.995,
        [0.99752, 1.0],
    );
    errors.queries = vec![
        "sum(http_server_request_duration_seconds_count{job=\"news-classifier\",http_response_status_code!~\"5..\"})".to_owned(),
    ];
    let mut full = threshold(
        "queue-fill",
        "Fullest the queue was",
        Source::Prometheus,
        Signal::Saturation,
        0.041,
        "ratio",
        ("lte", 0.8),
    );
    full.gate = Gate::Advisory;
    vec![
        latency,
        queue,
        threshold(
            "rate",
            "Answers a second",
            Source::Client,
            Signal::Traffic,
            39.84,
            "/s",
            ("gte", 35.0),
        ),
        errors,
        ratio(
            "right-answers",
            "Answers as expected",
            Source::Client,
            Signal::Errors,
            (measured - 3, measured),
            0.99,
            [0.99354, 0.99932],
        ),
        threshold(
            "error-lines",
            "Error lines in the log",
            Source::Loki,
            Signal::Errors,
            0.0,
            "1",
            ("lte", 0.0),
        ),
        full,
    ]
}

fn coverage(sent: u64) -> Coverage {
    let source = |backend, expected: u64, reason: &str| SourceCoverage {
        backend,
        expected,
        found: Some(expected),
        limit: 0.99,
        canary: true,
        complete: true,
        missing_since: None,
        reason: reason.to_owned(),
    };
    Coverage {
        sent,
        answered: sent,
        sources: vec![
            source(
                Backend::Prometheus,
                sent,
                "36 scrapes, none failed; the last one after the drain",
            ),
            source(
                Backend::Loki,
                sent,
                "one line a request; the canary's lines were found",
            ),
            source(
                Backend::Tempo,
                500,
                "500 of the sampled traces were looked for, evenly spread",
            ),
        ],
    }
}

fn check(name: &str, value: &str, limit: &str) -> ValidityCheck {
    ValidityCheck {
        name: name.to_owned(),
        ok: Some(true),
        value: value.to_owned(),
        limit: limit.to_owned(),
        remedy: None,
    }
}

fn wave(name: &str, unit: &str, seconds: u32, at: impl Fn(f64) -> f64) -> TimeSeries {
    TimeSeries {
        name: name.to_owned(),
        unit: unit.to_owned(),
        points: (0..=seconds)
            .map(|s| (f64::from(s), at(f64::from(s))))
            .collect(),
    }
}

/// A request with the four spans of the service under its server span, and two log lines.
fn detail(id: u64, outcome: Outcome, due: f64, latency: f64) -> RequestDetail {
    let span = |n: u8, name: &str, depth, start: f64, duration: f64| SpanDetail {
        id: SpanId([n, 0x7a, 0x31, 0xc4, 0x9f, 0x22, 0x80, id as u8]),
        service: "news-classifier".to_owned(),
        name: name.to_owned(),
        depth,
        start,
        duration,
        error: false,
    };
    let line = |at: f64, severity: &str, line: &str| LogDetail {
        at,
        severity: Some(severity.to_owned()),
        line: line.to_owned(),
    };
    let served = latency - 0.000_4;
    let mut trace = [0x4b; 16];
    trace[8..].copy_from_slice(&(id.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes());
    RequestDetail {
        id: RequestId(id),
        request: "classify".to_owned(),
        why: "slowest".to_owned(),
        trace: TraceId(trace),
        outcome,
        status: Some(200),
        due: Nanos((due * 1e9) as u64),
        lateness: Some(0.000_12),
        latency,
        detail: None,
        spans: vec![
            span(1, "POST /predict", 0, 0.000_3, served),
            span(2, "preprocess", 1, 0.000_4, served * 0.06),
            span(3, "queue", 1, 0.000_4 + served * 0.06, served * 0.55),
            span(4, "inference", 1, 0.000_4 + served * 0.61, served * 0.36),
            span(5, "postprocess", 1, 0.000_4 + served * 0.97, served * 0.02),
        ],
        spans_missing: None,
        logs: vec![
            line(0.000_5, "info", "request accepted path=/predict bytes=1842"),
            line(
                served,
                "info",
                "request answered status=200 label=sci.space",
            ),
        ],
        logs_missing: None,
        sides: Some(Sides {
            row: Some(latency - 0.000_12),
            client_span: Some(latency - 0.000_12),
            server_span: Some(served),
            outside: Some(0.000_28),
        }),
        links: vec![link("trace in Grafana"), link("log lines in Grafana")],
    }
}

fn link(label: &str) -> Link {
    Link {
        label: label.to_owned(),
        url: "https://grafana.example/explore?schemaVersion=1&panes=%7B%22a%22%3A%7B%7D%7D"
            .to_owned(),
    }
}

/// An attribution over these stages: kind, name, slow and typical seconds.
fn tail(slow: &str, requests: u64, stages: &[(StageKind, &str, f64, f64)]) -> Tail {
    let sum = |of: fn(&(StageKind, &str, f64, f64)) -> f64| stages.iter().map(of).sum::<f64>();
    let (slowly, typically) = (sum(|s| s.2), sum(|s| s.3));
    let group = |what: &str, requests: u64, latency: f64| Group {
        what: what.to_owned(),
        requests,
        latency: Some(latency),
        looked_up: requests.min(50),
        traced: requests.min(50) - 1,
        traced_latency: Some(latency),
    };
    Tail {
        slow: group(slow, requests, slowly),
        typical: group("the middle fifth", 240, typically),
        excess: Some(slowly - typically),
        stages: stages
            .iter()
            .map(|(kind, name, slow, typical)| Stage {
                name: (*name).to_owned(),
                kind: *kind,
                slow: *slow,
                typical: *typical,
                excess: slow - typical,
                share: Some((slow - typical) / (slowly - typically)),
            })
            .collect(),
        missing: None,
    }
}

fn onset(at: f64) -> Onset {
    let moved = |name: &str, at: f64, during: f64| Moved {
        name: name.to_owned(),
        unit: "1".to_owned(),
        at,
        resolution: 1.0,
        until: None,
        before: 0.4,
        during,
    };
    Onset {
        latency: Some(Moved {
            unit: "s".to_owned(),
            before: 0.012,
            during: 0.51,
            ..moved("latency from due", at, 0.0)
        }),
        signals: vec![
            moved("requests due a second", at, 399.0),
            moved("inference_queue_depth", at + 1.0, 63.0),
        ],
        still: vec!["lateness of the generator".to_owned()],
        said: format!(
            "latency departed at {at} s, as the measured phase began; within what the distance of points can tell, requests due a second and inference_queue_depth moved with it"
        ),
    }
}

/// Everything met.
pub(crate) fn pass() -> Report {
    let rows = healthy_rows();
    let measured = rows.iter().filter(|r| r.phase == Phase::Measure).count() as u64;
    Report {
        schema: REPORT_SCHEMA.to_owned(),
        verdict: Verdict::Pass,
        exit_code: 0,
        reason_code: None,
        reasons: vec!["all 6 required objectives are met, and the evidence is complete".to_owned()],
        judged_at: "2026-11-22T15:31:07Z".to_owned(),
        run: RunSummary {
            id: "20261122T153012Z-quickstart-3f9c".to_owned(),
            scenario: "quickstart".to_owned(),
            seed: 42,
            harness_version: "0.1.0".to_owned(),
            started_at: "2026-11-22T15:30:12Z".to_owned(),
            duration_seconds: 35.02,
            window: Some([5.0, 35.0]),
            service: "news-classifier".to_owned(),
            target: "http://127.0.0.1:41873".to_owned(),
            versions: vec!["0.1.0".to_owned()],
            expect_version: Some("0.1.0".to_owned()),
            generator_cpu: Some(0.064),
        },
        objectives: objectives(measured),
        coverage: coverage(rows.len() as u64),
        validity: vec![
            check("late_sends", "0 of 1,231 more than 10 ms late", "at most 1 %"),
            check("schedule_complete", "all 1,279 scheduled requests have an outcome", "all"),
            check("expected_version", "0.1.0", "0.1.0"),
            check("foreign_traffic", "0 requests beyond those sent", "at most 1 %"),
        ],
        load: load(&rows),
        series: series(&rows),
        distribution: distribution(&rows),
        saturation: vec![
            wave("inference_queue_depth", "1", 35, |s| if s as u32 % 7 == 3 { 2.0 } else { 0.0 }),
            wave("http_server_active_requests", "1", 35, |s| f64::from(s as u32 % 3)),
            wave("process_cpu", "1", 35, |s| {
                if s < 5.0 { 0.12 } else { 0.41 + 0.03 * (s * 1.7).sin() }
            }),
        ],
        requests: vec![
            detail(612, Outcome::Expected, 20.31, 0.151),
            detail(1_033, Outcome::Expected, 30.87, 0.117),
        ],
        why: Vec::new(),
        tail: Some(tail(
            "the slowest 20",
            20,
            &[
                (StageKind::Span, "inference", 0.061, 0.007),
                (StageKind::Queue, "queue", 0.019, 0.000_3),
                (StageKind::Span, "preprocess", 0.001_1, 0.000_9),
                (StageKind::Network, "outside the service's span", 0.000_4, 0.000_4),
                (StageKind::Generator, "generator, before sending", 0.000_1, 0.000_12),
            ],
        )),
        onset: Some(Onset {
            latency: None,
            signals: Vec::new(),
            still: vec!["inference_queue_depth".to_owned()],
            said: "no stretch of the run stands out by its latency: it was much alike from beginning to end".to_owned(),
        }),
        findings: Vec::new(),
        notes: vec![
            "counters were read over 29.4 s of the 30 s measured: from the first scrape inside the phase to the first after the drain".to_owned(),
        ],
        warnings: Vec::new(),
        strict: false,
        baselines: Vec::new(),
        earlier: Vec::new(),
        attempts: None,
    }
}

/// Far beyond capacity.
pub(crate) fn fail() -> Report {
    let rows = overloaded_rows();
    let measured = rows.iter().filter(|r| r.phase == Phase::Measure).count() as u64;
    let mut report = pass();
    report.verdict = Verdict::Fail;
    report.exit_code = 10;
    report.reason_code = Some("objective_missed".to_owned());
    report.run.scenario = "overload".to_owned();
    report.run.id = "20261122T153401Z-overload-a81e".to_owned();
    report.run.duration_seconds = 19.0;
    report.run.window = Some([5.0, 17.0]);
    report.load = load(&rows);
    report.series = series(&rows);
    report.distribution = distribution(&rows);
    report.coverage = coverage(rows.len() as u64);
    report.saturation = vec![
        wave("inference_queue_depth", "1", 19, |s| {
            if (5.5..=17.5).contains(&s) { 63.0 } else { 0.0 }
        }),
        wave(
            "process_cpu",
            "1",
            19,
            |s| if s < 5.0 { 0.21 } else { 0.99 },
        ),
    ];
    report.objectives = objectives(measured);
    let miss = |o: &mut ObjectiveResult, good: u64, interval: [f64; 2], why: &str| {
        o.good = Some(good);
        o.samples = Some(measured);
        o.effective_samples = Some(measured as f64);
        o.value = Some(good as f64 / measured as f64);
        o.interval = Some(interval);
        o.margin = Some(good as f64 / measured as f64 - o.target.unwrap_or(0.0));
        o.verdict = Verdict::Fail;
        o.reason = why.to_owned();
    };
    let timely = rows
        .iter()
        .filter(|r| {
            r.phase == Phase::Measure && r.outcome == Outcome::Expected && r.latency <= 0.25
        })
        .count() as u64;
    let right = rows
        .iter()
        .filter(|r| r.phase == Phase::Measure && r.outcome == Outcome::Expected)
        .count() as u64;
    let around = |good: u64| {
        let share = good as f64 / measured as f64;
        [share * 0.95, share * 1.05]
    };
    miss(
        &mut report.objectives[0],
        timely,
        around(timely),
        "even the upper bound of the share in time lies far under the target of 99 %",
    );
    report.objectives[0].evidence = vec![RequestId(2_412), RequestId(3_107)];
    miss(
        &mut report.objectives[4],
        right,
        around(right),
        "most requests were answered 503 or timed out",
    );
    report.objectives[4].evidence = vec![RequestId(3_107)];
    report.objectives[6].value = Some(1.0);
    report.objectives[6].verdict = Verdict::Fail;
    report.objectives[6].reason = "the queue was full; advisory, so it does not decide".to_owned();
    report.objectives[2].value = Some(394.1);
    report.reasons = vec![
        "answers-in-time (client): even the upper bound of the share in time lies far under the target of 99 %".to_owned(),
        "right-answers (client): most requests were answered 503 or timed out".to_owned(),
    ];
    let mut lost = detail(3_107, Outcome::Timeout, 12.406, 2.000_1);
    lost.why = "failed".to_owned();
    lost.status = None;
    lost.detail = Some("no complete answer within 2 s".to_owned());
    lost.spans[0].error = true;
    lost.logs.push(LogDetail {
        at: 2.000_3,
        severity: Some("error".to_owned()),
        line: "client closed the connection before the answer was written: broken pipe (os error 32) while flushing 187 bytes of body to the peer".to_owned(),
    });
    let mut dropped = detail(4_200, Outcome::Dropped, 15.5, 0.0);
    dropped.spans.clear();
    dropped.spans_missing = Some("the request was never sent".to_owned());
    dropped.logs.clear();
    dropped.logs_missing = Some("the request was never sent".to_owned());
    dropped.lateness = None;
    dropped.status = None;
    dropped.sides = None;
    dropped.links.clear();
    let mut typical = detail(2_001, Outcome::Expected, 6.2, 0.121);
    typical.why = "typical".to_owned();
    report.requests = vec![
        detail(2_412, Outcome::Expected, 10.9, 0.612),
        lost,
        dropped,
        typical,
    ];
    explain_failure(&mut report);
    report
}

fn explain_failure(report: &mut Report) {
    let miss = |how: &str, count| Miss {
        how: how.to_owned(),
        count,
    };
    let refused = miss("unexpected status 503", 3_301);
    let lost = miss("timed out", 75);
    let slow = tail(
        "those over 250 ms",
        1_434,
        &[
            (StageKind::Queue, "queue", 0.447, 0.081),
            (StageKind::Span, "inference", 0.061, 0.031),
            (
                StageKind::Network,
                "outside the service's span",
                0.002_4,
                0.001_1,
            ),
            (StageKind::Span, "POST /predict (itself)", 0.000_2, 0.000_1),
            (
                StageKind::Generator,
                "generator, before sending",
                0.000_3,
                0.000_4,
            ),
        ],
    );
    report.why = vec![
        Explanation {
            objective: "answers-in-time".to_owned(),
            misses: vec![
                refused.clone(),
                miss("answered, but not within 250 ms", 1_434),
                lost.clone(),
            ],
            worst: vec![RequestId(2_412), RequestId(3_107)],
            typical: vec![RequestId(2_001)],
            tail: Some(slow.clone()),
        },
        Explanation {
            objective: "right-answers".to_owned(),
            misses: vec![refused, lost],
            worst: vec![RequestId(3_107)],
            typical: Vec::new(),
            tail: None,
        },
    ];
    report.tail = Some(Tail {
        slow: Group {
            what: "the slowest 48".to_owned(),
            ..slow.slow.clone()
        },
        ..slow
    });
    report.onset = Some(onset(5.0));
    report.objectives[3].links = vec![link("metrics query 1 in Grafana")];
    report.findings = vec![Finding {
        code: "much_outside_the_service".to_owned(),
        said: "12 of 98 requests spent half of their time or more, and up to 81 ms, outside the service's span: in connecting, the network, a proxy, or before the service began its span".to_owned(),
        requests: vec![RequestId(2_412)],
    }];
}

/// Telemetry cut off half-way.
pub(crate) fn inconclusive() -> Report {
    let mut report = pass();
    report.verdict = Verdict::Inconclusive;
    report.exit_code = 11;
    report.reason_code = Some("telemetry_incomplete".to_owned());
    report.run.scenario = "blind".to_owned();
    report.run.id = "20261122T153711Z-blind-77b0".to_owned();
    report.reasons = vec![
        "logs are missing since 20.1 s: 655 of 1,279 answered requests have a line in Loki"
            .to_owned(),
        "traces are missing since 20.1 s: 261 of 500 traces were found in Tempo".to_owned(),
        "metrics are missing since 20.6 s: every scrape after it failed (connection refused)"
            .to_owned(),
    ];
    let sent = report.coverage.sent;
    for (source, found, since) in [(0, None, 20.6), (1, Some(655), 20.1), (2, Some(261), 20.1)] {
        let cut = &mut report.coverage.sources[source];
        cut.complete = false;
        cut.found = found;
        cut.missing_since = Some(since);
        cut.canary = false;
        cut.reason = match cut.backend {
            Backend::Prometheus => {
                "15 of 36 scrapes failed (connection refused), the last one among them".to_owned()
            }
            Backend::Loki => format!("no line after 20.1 s; {} requests have none", sent - 655),
            Backend::Tempo => "no trace of a request due after 20.1 s was found".to_owned(),
        };
    }
    for objective in report
        .objectives
        .iter_mut()
        .filter(|o| o.source != Source::Client)
    {
        objective.verdict = Verdict::Inconclusive;
        objective.value = None;
        objective.good = None;
        objective.samples = None;
        objective.interval = None;
        objective.margin = None;
        objective.reason = "its evidence is incomplete, so it is not judged".to_owned();
    }
    report
        .notes
        .push("fault `telemetry-cut` was put on at 20 s".to_owned());
    report
}

/// A generator that could not keep its schedule.
pub(crate) fn invalid() -> Report {
    let mut report = pass();
    report.verdict = Verdict::Invalid;
    report.exit_code = 12;
    report.reason_code = Some("late_sends".to_owned());
    report.run.scenario = "starved".to_owned();
    report.run.id = "20261122T154002Z-starved-0c1d".to_owned();
    report.reasons = vec![
        "the generator sent 60 % of the measured requests more than 10 ms late, so what it measured is its own waiting".to_owned(),
    ];
    report.validity[0].ok = Some(false);
    report.validity[0].value = "739 of 1,231 more than 10 ms late (60 %)".to_owned();
    report.validity[0].remedy = Some(
        "requests waited for a connection 702 times, 41 s in all, with slots free: raise target.maxConnections (now 1)".to_owned(),
    );
    report.validity[2].ok = None;
    report.validity[2].value = "no version seen".to_owned();
    report
}

/// Every string hostile: terminal escapes, markup, direction controls, line breaks, length.
pub(crate) fn hostile() -> Report {
    let evil = concat!(
        "\x1b[2J\x1b]0;owned\x07<script>alert(1)</script><img src=x onerror=alert(2)>\r\n",
        "::error::injected%0A|`@everyone` [a](javascript:alert(3)) \u{202e}drow\u{200b} ]]> \u{ffff} &amp; \"'",
    );
    let mut report = fail();
    report.run.scenario = evil.to_owned();
    report.run.service = evil.to_owned();
    report.run.target = evil.to_owned();
    report.run.id = evil.to_owned();
    report.run.versions = vec![evil.to_owned()];
    report.run.expect_version = Some(evil.to_owned());
    report.run.harness_version = evil.to_owned();
    report.run.started_at = evil.to_owned();
    report.judged_at = evil.to_owned();
    report.reason_code = Some(evil.to_owned());
    report.reasons = vec![evil.to_owned(), "x".repeat(5_000)];
    report.notes = vec![evil.to_owned()];
    spoil_why(&mut report, evil);
    for objective in &mut report.objectives {
        objective.place = Some(Place {
            file: evil.to_owned(),
            line: Some(10),
        });
        objective.name = evil.to_owned();
        objective.display_name = evil.to_owned();
        objective.reason = evil.to_owned();
        objective.unit = Some(evil.to_owned());
        objective.queries = vec![evil.to_owned()];
        if let Some(threshold) = &mut objective.threshold {
            threshold.op = evil.to_owned();
        }
    }
    for source in &mut report.coverage.sources {
        source.reason = evil.to_owned();
    }
    for check in &mut report.validity {
        check.name = evil.to_owned();
        check.value = evil.to_owned();
        check.limit = evil.to_owned();
        check.remedy = Some(evil.to_owned());
        check.ok = Some(false);
    }
    for summary in &mut report.load {
        summary.request = evil.to_owned();
    }
    for series in &mut report.saturation {
        series.name = evil.to_owned();
        series.unit = evil.to_owned();
    }
    for request in &mut report.requests {
        request.request = evil.to_owned();
        request.why = evil.to_owned();
        request.detail = Some(evil.to_owned());
        request.spans_missing = request.spans_missing.is_some().then(|| evil.to_owned());
        request.logs_missing = request.logs_missing.is_some().then(|| evil.to_owned());
        for span in &mut request.spans {
            span.name = evil.to_owned();
            span.service = evil.to_owned();
        }
        for (place, log) in request.logs.iter_mut().enumerate() {
            let long = if request.id.0 == 2_412 && place == 0 {
                1 << 20
            } else {
                9_000
            };
            log.line = format!("{evil}{}", "y".repeat(long));
            log.severity = Some(evil.to_owned());
        }
        for link in &mut request.links {
            link.label = evil.to_owned();
            link.url = format!("javascript:{evil}");
        }
    }
    report
}

/// A run with everything that stands beside the targets.
#[cfg(test)]
pub(crate) fn beside() -> Report {
    let mut report = pass();
    let warned = &mut report.objectives[0];
    warned.warn = Some(WarnResult {
        criterion: "≥ 99.9 %".into(),
        limit: 0.999,
        verdict: Verdict::Fail,
        reason: "the warn criterion ≥ 99.9 % is missed: 1,220 of 1,231 (99.106 %)".into(),
    });
    warned.budget = Some(BudgetResult {
        window: "28d".into(),
        days: 28.0,
        budget: 0.01,
        burn_rate: 0.89,
        lower: 0.5,
        upper: 1.6,
        days_to_exhaustion: None,
        days_at_worst: Some(17.5),
        production: Some(ProductionBudget {
            rate: 200.0,
            source: "given".into(),
            budget_events: 4_838_400.0,
            bad_events: 4_306_176.0,
            times_the_run: Some(5.0),
        }),
        summary: "at this share of bad events a period of 28d burns 89 % of its error budget"
            .into(),
    });
    report.warnings =
        vec!["latency: the warn criterion ≥ 99.9 % is missed: 1,220 of 1,231 (99.106 %)".into()];
    report.objectives[1].baseline = Some(BaselineResult {
        allowance: "+10%".into(),
        value: Some(0.11),
        now: Some(0.15),
        limit: Some(0.121),
        relative: true,
        change: Some(0.36),
        lower: Some(0.2),
        upper: None,
        runs: 2,
        verdict: Verdict::Fail,
        reason: "worse than +10% of the baseline: 0.15 beside 0.11".into(),
    });
    let used = |dir: &str, run: Option<&str>, unusable: Option<&str>| BaselineUsed {
        dir: dir.into(),
        run: run.map(Into::into),
        started_at: Some("2026-11-21T15:30:12Z".into()),
        manifest_sha256: Some("0f".repeat(32)),
        versions: vec!["0.0.9".into()],
        verdict: Some(Verdict::Pass),
        unusable: unusable.map(Into::into),
    };
    report.baselines = vec![
        used("runs/one", Some("baseline-one"), None),
        used(
            "runs/baseline-two",
            None,
            Some("there is no such directory"),
        ),
    ];
    report.earlier = vec![EarlierRun {
        dir: "earlier-one".into(),
        run: Some("r0".into()),
        started_at: Some("2026-11-22T15:20:12Z".into()),
        versions: vec!["0.1.0".into()],
        verdict: Some(Verdict::Fail),
        reason_code: Some("objective_missed".into()),
        same_build: Some(true),
    }];
    report.attempts = Some(Attempts {
        number: 2,
        most: 3,
        earlier: vec![AttemptUsed {
            number: 1,
            dir: "attempt-1".into(),
            run: "r1".into(),
            verdict: Verdict::Inconclusive,
            reason_code: Some("undecided".into()),
            pooled: true,
        }],
        rule: "only invalid and inconclusive attempts are made again".into(),
    });
    report
}

/// The same with text from outside that wants to be more than text.
#[cfg(test)]
pub(crate) fn beside_hostile() -> Report {
    let evil =
        "<script>alert(1)</script>\u{1b}[31m\u{202e}|`*@everyone".to_owned() + &"x".repeat(3_000);
    let mut report = beside();
    report.warnings = vec![evil.clone()];
    for objective in &mut report.objectives {
        if let Some(warn) = &mut objective.warn {
            warn.reason.clone_from(&evil);
        }
        if let Some(baseline) = &mut objective.baseline {
            baseline.reason.clone_from(&evil);
        }
        if let Some(budget) = &mut objective.budget {
            budget.summary.clone_from(&evil);
        }
    }
    for run in &mut report.baselines {
        run.dir.clone_from(&evil);
        run.run = Some(evil.clone());
        run.versions = vec![evil.clone()];
        run.unusable = run.unusable.as_ref().map(|_| evil.clone());
    }
    for run in &mut report.earlier {
        run.dir.clone_from(&evil);
        run.reason_code = Some(evil.clone());
    }
    if let Some(attempts) = &mut report.attempts {
        attempts.rule.clone_from(&evil);
        attempts.earlier[0].dir.clone_from(&evil);
    }
    report
}

fn spoil_why(report: &mut Report, evil: &str) {
    let spoil_tail = |tail: &mut Tail| {
        tail.slow.what = evil.to_owned();
        tail.typical.what = evil.to_owned();
        for stage in &mut tail.stages {
            stage.name = evil.to_owned();
        }
        tail.stages[0].name.push_str(&"z".repeat(1 << 20));
    };
    report.tail.iter_mut().for_each(spoil_tail);
    for explanation in &mut report.why {
        explanation.objective = evil.to_owned();
        explanation.tail.iter_mut().for_each(spoil_tail);
        for miss in &mut explanation.misses {
            miss.how = evil.to_owned();
        }
    }
    if let Some(onset) = &mut report.onset {
        onset.said = evil.to_owned();
        onset.still = vec![evil.to_owned()];
        for moved in onset.signals.iter_mut().chain(&mut onset.latency) {
            moved.name = evil.to_owned();
            moved.unit = evil.to_owned();
        }
    }
    for finding in &mut report.findings {
        finding.code = evil.to_owned();
        finding.said = evil.to_owned();
    }
    for objective in &mut report.objectives {
        for link in &mut objective.links {
            link.label = evil.to_owned();
            link.url = format!("https://g/\"><script>{evil}");
        }
    }
}

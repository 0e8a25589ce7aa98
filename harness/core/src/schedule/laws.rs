//! What the laws of arrival promise: counts that are the rate's integral, order, gaps with their mean
//! and spread, and shards whose union is the whole. Known answers pin what a seed means.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::units::Nanos;

const SECOND: u64 = 1_000_000_000;

/// A scenario with this load of the requests `a` and `b`, and the flow `f` of both.
fn load(load: &str) -> Scenario {
    let text = format!(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {{name: laws}}
spec:
  seed: 42
  target: {{url: "http://127.0.0.1:1"}}
  requests:
    - {{name: a, method: GET, path: /a}}
    - {{name: b, method: GET, path: /b}}
  flows: [{{name: f, steps: [a, b]}}]
  loads:
    - {{name: one, mix: {{a: 3, b: 1}}, {load}}}
"#
    );
    Scenario::parse(&text, "laws.yaml").unwrap_or_else(|problems| panic!("{problems}"))
}

fn due(scenario: &Scenario) -> Vec<u64> {
    open(scenario).map(|arrival| arrival.due.0).collect()
}

/// Mean and coefficient of variation of the gaps, in seconds.
fn gaps(due: &[u64]) -> (f64, f64) {
    let gaps: Vec<f64> = due
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as f64 / 1e9)
        .collect();
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    (mean, variance.sqrt() / mean)
}

#[test]
fn gamma_gaps_have_their_mean_and_spread() {
    // 100,000 gaps: the mean's standard error is cv / 316; that of the cv below 1 % up to cv 2.
    for shape in [0.25, 0.5, 1.0, 4.0, 25.0] {
        let spec = load(&format!(
            "executor: constant-arrival-rate, spacing: {{gamma: {shape}}}, stages: [{{phase: measure, rate: 1000/s, for: 100s}}]"
        ));
        let (mean, cv) = gaps(&due(&spec));
        let wanted = 1.0 / f64::sqrt(shape);
        assert!(
            (mean * 1000.0 - 1.0).abs() < 5.0 * wanted / 316.0,
            "{shape}: mean {mean}"
        );
        assert!(
            (cv / wanted - 1.0).abs() < 0.05,
            "{shape}: cv {cv}, wanted {wanted}"
        );
    }
}

#[test]
fn a_sine_has_the_count_of_its_mean_and_the_shape_of_its_wave() {
    let spec = load(
        "executor: constant-arrival-rate, stages: [{phase: measure, rate: 100/s, for: 40s, sine: {amplitude: 80/s, period: 20s}}]",
    );
    let all = due(&spec);
    // Whole swings add nothing.
    assert_eq!(all.len(), 4_000);
    assert!(all.is_sorted());
    // The n-th lies where the integral of the rate is n.
    let turn = std::f64::consts::TAU / 20.0;
    for (n, due) in all.iter().enumerate() {
        let t = *due as f64 / 1e9;
        let integral = 100.0 * t + 80.0 / turn * (1.0 - f64::cos(turn * t));
        assert!((integral - n as f64).abs() < 1e-5, "{n}: {integral} at {t}");
    }
    let half = |from: u64| {
        all.iter()
            .filter(|due| (from..from + 10 * SECOND).contains(due))
            .count()
    };
    // The first half of a swing adds amplitude · period / π = 509 requests, the second takes them.
    assert_eq!((half(0), half(10 * SECOND)), (1_510, 490));
}

#[test]
fn a_spike_adds_its_own_area() {
    let spec = load(
        "executor: constant-arrival-rate, stages: [{phase: measure, rate: 10/s, for: 60s, spike: {to: 110/s, at: 20s, for: 5s, ramp: 2s}}]",
    );
    let all = due(&spec);
    // 600, and 100/s more for 5 s and for two ramps that count half.
    assert_eq!(all.len(), 600 + 700);
    let within = |from: u64, to: u64| {
        all.iter()
            .filter(|due| (from * SECOND..to * SECOND).contains(due))
            .count()
    };
    assert_eq!(
        (within(0, 20), within(22, 27), within(29, 60)),
        (200, 550, 310)
    );
    assert_eq!((within(20, 22), within(27, 29)), (120, 120));
    assert!(all.is_sorted());
}

#[test]
fn what_a_seed_means_is_pinned() {
    // Made once and never to change: a schedule must be the same on every machine and in every
    // version, or an old run could not be repeated.
    let first = |text: &str| -> Vec<u64> {
        let all = due(&load(text));
        [0, 1, 2, 100, 900].iter().map(|n| all[*n]).collect()
    };
    let stages = "stages: [{phase: measure, rate: 100/s, for: 20s}]";
    let gamma = first(&format!(
        "executor: constant-arrival-rate, spacing: {{gamma: 0.5}}, {stages}"
    ));
    let server = first(&format!("executor: Server, {stages}"));
    let sine = first(
        "executor: constant-arrival-rate, stages: [{phase: measure, rate: 100/s, for: 20s, sine: {amplitude: 50/s, period: 7s}}]",
    );
    assert_eq!([gamma, server, sine], PINNED);
}

/// Instants of the arrivals 0, 1, 2, 100 and 900, nanoseconds.
const PINNED: [[u64; 5]; 3] = [
    [
        2_236_472,
        2_237_637,
        17_608_517,
        1_130_879_078,
        9_661_883_803,
    ],
    [
        11_883_452,
        51_739_851,
        59_874_166,
        988_719_371,
        8_650_320_572,
    ],
    [0, 9_977_660, 19_911_039, 846_717_478, 8_544_919_719],
];

#[test]
fn think_times_follow_their_law() {
    let pauses = |law: &str| -> Vec<f64> {
        let spec = load(&format!(
            "executor: constant-vus, vus: 1, thinkTime: {law}, stages: [{{phase: measure, for: 100h}}]"
        ));
        let mut users = Closed::new(&spec, 0);
        let mut now = users.start().pop().unwrap().due;
        let mut next = Vec::new();
        let pauses = (0..20_000).map(|_| {
            let done = now;
            users.completed(0, done, &mut next);
            now = next.pop().unwrap().due;
            now.since(done).as_secs_f64()
        });
        pauses.collect()
    };
    let mut exponential = pauses("{exponential: 1s}");
    let mean = exponential.iter().sum::<f64>() / 20_000.0;
    exponential.sort_by(f64::total_cmp);
    // Standard error of the mean 0.7 %, of the median 0.9 %.
    assert!((mean - 1.0).abs() < 0.04, "{mean}");
    assert!((exponential[10_000] / std::f64::consts::LN_2 - 1.0).abs() < 0.05);
    let mut lognormal = pauses("{lognormal: {median: 500ms, sigma: 1.0}}");
    lognormal.sort_by(f64::total_cmp);
    let logs: Vec<f64> = lognormal.iter().map(|pause| (pause / 0.5).ln()).collect();
    let deviation = (logs.iter().map(|log| log * log).sum::<f64>() / 20_000.0).sqrt();
    assert!(
        (lognormal[10_000] / 0.5 - 1.0).abs() < 0.05,
        "{}",
        lognormal[10_000]
    );
    assert!((deviation - 1.0).abs() < 0.03, "{deviation}");
}

/// Answers every request after `took`, to the end; the arrivals in the order in which they came.
fn driven(scenario: &Scenario, shard: Shard, took: impl Fn(&Arrival) -> u64) -> Vec<Arrival> {
    let mut table = Timetable::new(scenario, &Tapes::default(), shard);
    let mut out: Vec<(Nanos, u16, u32)> = Vec::new();
    let mut all = Vec::new();
    loop {
        out.sort_unstable();
        let done = out.first().copied();
        let due = match table.next() {
            Next::At(due) => Some(due),
            Next::Completion => None,
            Next::Over => break,
        };
        match (due, done) {
            (due, Some((at, load, vu))) if due.is_none_or(|due| at <= due) => {
                out.remove(0);
                table.completed(load, vu, at);
            }
            (Some(_), _) => {
                let arrival = table.take().unwrap();
                if let Some(vu) = arrival.vu {
                    let done = Nanos(arrival.due.0 + took(&arrival));
                    out.push((done, arrival.load, vu));
                }
                all.push(arrival);
            }
            (None, _) => panic!("nothing is out, and only a completion would help"),
        }
    }
    all.extend(std::iter::from_fn(|| table.left_over()));
    all
}

#[test]
fn users_come_and_go_on_a_ramp() {
    // 0 to 10 in 10 s, 10 for 10 s, down to 0 in 10 s; each request takes 100 ms.
    let spec = load(
        "executor: ramping-vus, stages: [{phase: warmup, vus: 10, for: 10s}, {phase: measure, vus: 10, for: 10s}, {phase: cooldown, vus: 0, for: 10s}]",
    );
    let all = driven(&spec, Shard::WHOLE, |_| SECOND / 10);
    let users = |from: u64, to: u64| {
        let range = from * SECOND / 10..to * SECOND / 10;
        all.iter().filter(|a| range.contains(&a.due.0)).count()
    };
    // The user of number n, from 0, comes after n + 1 seconds.
    let first = |vu| all.iter().find(|a| a.vu == Some(vu)).unwrap().due.0;
    assert_eq!(
        (first(0), first(4), first(8)),
        (SECOND, 5 * SECOND, 9 * SECOND)
    );
    assert_eq!(users(50, 60), 50);
    assert_eq!(users(100, 200), 1_000);
    // On the way down user 9 goes at once, user 4 when fewer than 5 are left.
    let last = |vu| all.iter().rfind(|a| a.vu == Some(vu)).unwrap().due.0;
    assert_eq!(last(9), 20 * SECOND);
    assert_eq!(last(4), 25 * SECOND);
    assert!(all.is_sorted_by_key(|a| a.due));
}

#[test]
fn iterations_are_made_exactly_and_those_that_do_not_fit_are_left_over() {
    let each =
        "executor: per-vu-iterations, vus: 4, iterations: 25, stages: [{phase: measure, for: 60s}]";
    let all = driven(&load(each), Shard::WHOLE, |_| SECOND / 10);
    assert_eq!(all.len(), 100);
    assert!((0..4).all(|vu| all.iter().filter(|a| a.vu == Some(vu)).count() == 25));
    let shared = "executor: shared-iterations, vus: 4, iterations: 101, stages: [{phase: measure, for: 60s}]";
    // User 0 is ten times as fast as the others.
    let took = |a: &Arrival| {
        if a.vu == Some(0) {
            SECOND / 100
        } else {
            SECOND / 10
        }
    };
    let all = driven(&load(shared), Shard::WHOLE, took);
    assert_eq!(all.len(), 101);
    assert!(all.iter().filter(|a| a.vu == Some(0)).count() > 60);
    // In 60 s one user makes 6 requests of 10 s; 4 of 10 are left, due at the end.
    let slow =
        "executor: shared-iterations, vus: 1, iterations: 10, stages: [{phase: measure, for: 60s}]";
    let all = driven(&load(slow), Shard::WHOLE, |_| 10 * SECOND);
    assert_eq!(all.len(), 10);
    assert_eq!(all.iter().filter(|a| a.due.0 == 60 * SECOND).count(), 4);
    let ids: std::collections::BTreeSet<u64> = all.iter().map(|a| a.id.0).collect();
    assert_eq!(ids.len(), 10);
}

#[test]
fn samples_of_a_query_wait_for_each_other() {
    let spec =
        load("executor: MultiStream, samplesPerQuery: 3, stages: [{phase: measure, for: 1s}]");
    let took = |a: &Arrival| (u64::from(a.vu.unwrap()) + 1) * SECOND / 10;
    let all = driven(&spec, Shard::WHOLE, took);
    // Each query lasts as long as its slowest sample, 0.3 s.
    let due: Vec<u64> = all.iter().map(|a| a.due.0 / (SECOND / 10)).collect();
    assert_eq!(due, [0, 0, 0, 3, 3, 3, 6, 6, 6, 9, 9, 9]);
}

#[test]
fn single_stream_and_offline_send_as_soon_as_they_may() {
    let single = load("executor: SingleStream, stages: [{phase: measure, for: 1s}]");
    let due = |all: Vec<Arrival>| {
        all.iter()
            .map(|a| a.due.0 / (SECOND / 10))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        due(driven(&single, Shard::WHOLE, |_| SECOND / 4)),
        [0, 2, 5, 7]
    );
    let offline =
        load("executor: Offline, vus: 2, iterations: 5, stages: [{phase: measure, for: 1h}]");
    assert_eq!(
        due(driven(&offline, Shard::WHOLE, |_| SECOND)),
        [0, 0, 10, 10, 20]
    );
}

#[test]
fn flows_are_drawn_whole_and_their_steps_have_ids_of_their_own() {
    let mut spec =
        load("executor: constant-arrival-rate, stages: [{phase: measure, rate: 1/s, for: 3s}]");
    spec.spec.loads[0].mix = BTreeMap::from([("f".to_owned(), 1)]);
    let first = open(&spec).nth(2).unwrap();
    assert_eq!(
        (first.request, first.flow, first.step, first.nth),
        (0, Some(0), 0, 2)
    );
    let second = first.next_step(&spec, Nanos(7)).unwrap();
    assert_eq!((second.request, second.step, second.due), (1, 1, Nanos(7)));
    assert_eq!(second.id.0, first.id.0 | (1 << 56));
    assert_eq!((second.nth, second.phase), (first.nth, first.phase));
    assert_eq!(second.next_step(&spec, Nanos(8)), None);
}

fn tape(text: &str, replay: &str, stages: &str) -> (Scenario, Result<Tapes, String>) {
    let spec = load(&format!(
        "executor: replay, replay: {replay}, stages: [{stages}]"
    ));
    let files = BTreeMap::from([("t".to_owned(), text.to_owned())]);
    let tapes = Tapes::read(&spec, &files).map_err(|problems| problems.to_string());
    (spec, tapes)
}

#[test]
fn recorded_instants_are_replayed_faster_from_the_first() {
    let csv = "timestamp,what\n100.5,b\n101.5,a\n101.5,b\n104.5,a\n";
    let stages = "{phase: warmup, for: 1s}, {phase: measure, for: 9s}";
    let (spec, tapes) = tape(
        csv,
        "{file: t, format: csv, speedUp: 2, request: what}",
        stages,
    );
    let all: Vec<Arrival> = open_with(&spec, &tapes.unwrap()).collect();
    let seen: Vec<(u64, u16, Phase)> = all
        .iter()
        .map(|a| (a.due.0 / 1_000_000, a.request, a.phase))
        .collect();
    assert_eq!(
        seen,
        [
            (0, 1, Phase::Warmup),
            (500, 0, Phase::Warmup),
            (500, 1, Phase::Warmup),
            (2_000, 0, Phase::Measure)
        ]
    );
    let (spec, tapes) = tape(
        "5000\n6500\n",
        "{file: t, format: text, unit: ms}",
        "{phase: measure, for: 2s}",
    );
    let due: Vec<u64> = open_with(&spec, &tapes.unwrap()).map(|a| a.due.0).collect();
    assert_eq!(due, [0, 1_500_000_000]);
}

#[test]
fn tapes_that_cannot_be_replayed_are_refused_by_line() {
    let stages = "{phase: warmup, for: 5s}, {phase: measure, for: 5s}";
    let wrong = |text: &str, replay: &str| tape(text, replay, stages).1.unwrap_err();
    let text = "{file: t, format: text}";
    for (file, replay, wanted) in [
        ("", text, "t: the dataset has no rows"),
        ("1\nx\n", text, "t:2:1: `x` is not an instant"),
        ("5\n4\n", text, "t:2:1: lies before the row above it"),
        (
            "1\n12\n",
            text,
            "t:2:1: lies 11.000 s after the first, and the stages end after 10.000 s",
        ),
        (
            "1\n2\n",
            text,
            "has no instant in the measured phase: it ends too early",
        ),
        (
            "{\"ts\": 1}",
            "{file: t}",
            "the row has no field `timestamp`",
        ),
        (
            "timestamp,r\n1,c\n",
            "{file: t, format: csv, request: r}",
            "t:2:1: `c` in `r` is not in the load's mix",
        ),
    ] {
        let found = wrong(file, replay);
        assert!(found.contains(wanted), "{file:?}: {found}");
    }
}

/// Loads of every open kind, with numbers to be drawn.
fn any_open() -> impl Strategy<Value = String> {
    let spacing = prop_oneof![
        Just("even".to_owned()),
        Just("poisson".to_owned()),
        (1_u32..40).prop_map(|tenths| format!("{{gamma: {}}}", f64::from(tenths) / 10.0)),
    ];
    let stage = (2_u64..300, 1_u64..5, 0_u64..300, 1_u64..4);
    let shape = prop_oneof![Just(0), Just(1), Just(2)];
    (
        spacing,
        prop::collection::vec(stage, 1..4),
        any::<bool>(),
        shape,
    )
        .prop_map(|(spacing, stages, ramps, shape)| {
            let executor = if ramps {
                "ramping-arrival-rate"
            } else {
                "constant-arrival-rate"
            };
            let stages = stages.iter().map(|(rate, length, other, period)| {
                let other_rate = if other == rate { other + 1 } else { *other };
                let shape = match shape {
                    1 if !ramps => format!(
                        ", sine: {{amplitude: {}/s, period: {period}s}}",
                        other.min(rate).max(&1)
                    ),
                    2 if !ramps => format!(
                        ", spike: {{to: {other_rate}/s, at: 100ms, for: 200ms, ramp: 50ms}}"
                    ),
                    _ => String::new(),
                };
                format!("{{phase: measure, rate: {rate}/s, for: {length}s{shape}}}")
            });
            let stages: Vec<String> = stages.collect();
            format!(
                "executor: {executor}, spacing: {spacing}, stages: [{}]",
                stages.join(", ")
            )
        })
}

/// Integral of the rate over all stages, requests.
fn integral(scenario: &Scenario) -> f64 {
    let load = &scenario.spec.loads[0];
    let mut before = 0.0;
    let ramps = load.executor == crate::scenario::Executor::RampingArrivalRate;
    load.stages
        .iter()
        .map(|stage| {
            let rate = stage.rate.unwrap().per_second();
            let length = stage.length.nanos() as f64 / 1e9;
            let plain = (if ramps { before } else { rate } + rate) / 2.0 * length;
            before = rate;
            let spike = stage
                .spike
                .map_or(0.0, |spike| (spike.to.per_second() - rate) * 0.25);
            let sine = stage.sine.map_or(0.0, |sine| {
                let turn = std::f64::consts::TAU * 1e9 / sine.period.nanos() as f64;
                sine.amplitude.per_second() / turn * (1.0 - f64::cos(turn * length))
            });
            plain + spike + sine
        })
        .sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn every_open_load_is_in_order_and_holds_the_integral(text in any_open(), seed in any::<u64>()) {
        let mut spec = load(&text);
        spec.spec.seed = seed;
        let all: Vec<Arrival> = open(&spec).collect();
        let end = spec.load_end(0);
        prop_assert!(all.is_sorted_by_key(|a| a.due));
        prop_assert!(all.iter().all(|a| a.due < end));
        prop_assert!(all.iter().enumerate().all(|(n, a)| a.id.0 == n as u64));
        let expected = integral(&spec);
        let off = (all.len() as f64 - expected).abs();
        if spec.spec.loads[0].spacing() == crate::scenario::Spacing::Even {
            // Arrivals lie where the integral is 0, 1, 2, …: as many as it holds, rounded up.
            prop_assert!(off <= 1.0 + 1e-6, "{} of {expected}", all.len());
        } else {
            // Gaps of shape 0.1 have a cv of 3.2; six deviations, and some for few arrivals.
            prop_assert!(off <= 6.0 * 3.2 * expected.sqrt() + 20.0, "{} of {expected}", all.len());
        }
    }

    #[test]
    fn shards_are_disjoint_and_together_the_whole(text in any_open(), of in 1_u32..7) {
        let spec = load(&text);
        let whole: Vec<Arrival> = driven(&spec, Shard::WHOLE, |_| 0);
        let mut parts = Vec::new();
        for index in 0..of {
            let shard: Shard = format!("{index}/{of}").parse().unwrap();
            let mine = driven(&spec, shard, |_| 0);
            prop_assert!(mine.iter().all(|a| Shard::of_request(&spec, a.id, of) == shard));
            parts.extend(mine);
        }
        parts.sort_by_key(|a| a.id);
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn closed_loads_are_split_by_user(of in 1_u32..5, vus in 1_u32..9, each in 1_u64..6) {
        for text in [
            format!("executor: per-vu-iterations, vus: {vus}, iterations: {each}, thinkTime: {{exponential: 1s}}, stages: [{{phase: measure, for: 1h}}]"),
            format!("executor: constant-vus, vus: {vus}, thinkTime: {{uniform: [1s, 2s]}}, stages: [{{phase: measure, for: 20s}}]"),
        ] {
            let spec = load(&text);
            let mut whole = driven(&spec, Shard::WHOLE, |a| a.id.0 % 7 * SECOND / 10);
            let mut parts = Vec::new();
            for index in 0..of {
                let shard: Shard = format!("{index}/{of}").parse().unwrap();
                let mine = driven(&spec, shard, |a| a.id.0 % 7 * SECOND / 10);
                prop_assert!(mine.iter().all(|a| Shard::of_request(&spec, a.id, of) == shard));
                parts.extend(mine);
            }
            whole.sort_by_key(|a| a.id);
            parts.sort_by_key(|a| a.id);
            prop_assert_eq!(whole, parts);
        }
        let shared = load(&format!("executor: shared-iterations, vus: {}, iterations: {}, stages: [{{phase: measure, for: 1h}}]", vus.max(of), each * 10));
        let mut ids: Vec<u64> = Vec::new();
        for index in 0..of {
            let shard: Shard = format!("{index}/{of}").parse().unwrap();
            let mine = driven(&shared, shard, |_| SECOND);
            prop_assert!(mine.iter().all(|a| Shard::of_request(&shared, a.id, of) == shard));
            ids.extend(mine.iter().map(|a| a.id.0));
        }
        ids.sort_unstable();
        prop_assert_eq!(ids, (0..each * 10).collect::<Vec<u64>>());
    }
}

use proptest::prelude::*;

use super::*;
use crate::scenario::{Dur, Executor, Rate, Spacing, Stage, ThinkTime};

const SECOND: u64 = 1_000_000_000;

/// A scenario of two requests and one load to change.
fn scenario(change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = Scenario::parse(
        r#"apiVersion: harness/v1
kind: Scenario
metadata: {name: schedule}
spec:
  seed: 42
  target: {url: "http://127.0.0.1:1"}
  requests:
    - {name: a, method: GET, path: /a}
    - {name: b, method: GET, path: /b}
  loads:
    - name: one
      mix: {a: 3, b: 1}
      executor: constant-arrival-rate
      stages:
        - {phase: warmup, rate: 20/s, for: 2s}
        - {phase: measure, rate: 100/s, for: 3s}
"#,
        "schedule.yaml",
    )
    .unwrap();
    change(&mut scenario);
    scenario
}

fn stage(phase: Phase, rate: Option<Rate>, nanos: u64) -> Stage {
    Stage {
        phase,
        rate,
        vus: None,
        sine: None,
        spike: None,
        length: Dur(std::time::Duration::from_nanos(nanos)),
    }
}

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

#[test]
fn even_arrivals_lie_at_exact_multiples() {
    let all: Vec<Arrival> = open(&scenario(|_| {})).collect();
    assert_eq!(all.len(), 40 + 300);
    for (n, arrival) in (0_u64..).zip(&all) {
        let due = if n < 40 {
            n * 50_000_000
        } else {
            2 * SECOND + (n - 40) * 10_000_000
        };
        assert_eq!(arrival.due, Nanos(due));
        assert_eq!(arrival.id, RequestId(n));
        assert_eq!(
            arrival.phase,
            if n < 40 {
                Phase::Warmup
            } else {
                Phase::Measure
            }
        );
    }
}

#[test]
fn a_third_of_a_request_is_carried_over_to_the_next_stage() {
    // 1/3 s at 1/s and then 2/3 s at 1/s: the second request belongs to 1 s, where the load ends.
    let one = Some(rate("1/s"));
    let thirds = scenario(|s| {
        s.spec.loads[0].stages = vec![
            stage(Phase::Warmup, one, SECOND / 3),
            stage(Phase::Measure, one, SECOND),
        ];
    });
    let due: Vec<u64> = open(&thirds).map(|a| a.due.0).collect();
    assert_eq!(due.len(), 2);
    assert_eq!(due[0], 0);
    assert!(due[1].abs_diff(SECOND) <= 1, "{}", due[1]);
}

#[test]
fn a_seed_is_a_schedule_on_every_machine() {
    let poisson = |seed| {
        scenario(|s| {
            s.spec.seed = seed;
            s.spec.loads[0].spacing = Some(Spacing::Poisson);
        })
    };
    let all: Vec<Arrival> = open(&poisson(42)).collect();
    assert_eq!(all, open(&poisson(42)).collect::<Vec<_>>());
    assert_ne!(all, open(&poisson(43)).collect::<Vec<_>>());
    let pinned: Vec<(u64, u16)> = [0, 1, 2, 3, 100, 300]
        .iter()
        .map(|&n: &usize| (all[n].due.0, all[n].request))
        .collect();
    assert_eq!(pinned, PINNED);
}

const PINNED: [(u64, u16); 6] = [
    (59_417_264, 0),
    (258_699_255, 1),
    (299_370_832, 0),
    (317_535_535, 0),
    (2_588_719_371, 0),
    (4_437_886_163, 1),
];

#[test]
fn another_mix_leaves_the_instants_as_they_were() {
    let with = |weight| {
        scenario(|s| {
            s.spec.loads[0].spacing = Some(Spacing::Poisson);
            s.spec.loads[0].mix.insert("b".into(), weight);
        })
    };
    let due = |weight| open(&with(weight)).map(|a| a.due).collect::<Vec<_>>();
    assert_eq!(due(1), due(1000));
}

#[test]
fn the_mix_is_drawn_by_weight_and_counted() {
    let long = scenario(|s| {
        s.spec.loads[0].stages = vec![stage(Phase::Measure, Some(rate("1000/s")), 20 * SECOND)]
    });
    let mut nth = [0_u64; 2];
    for arrival in open(&long) {
        assert_eq!(arrival.nth, nth[usize::from(arrival.request)]);
        nth[usize::from(arrival.request)] += 1;
    }
    // 20,000 draws at 3 in 4: mean 15,000, deviation 61.
    assert!(nth[0].abs_diff(15_000) < 400, "{nth:?}");
}

#[test]
fn poisson_has_its_mean_and_variance() {
    // 100,000 s at 1/s. Counts of 10-s bins have mean and variance 10; the standard error of the
    // variance of 10,000 such bins is about 0.15. Gaps are exponential: 1/e of them exceed the mean.
    let long = scenario(|s| {
        s.spec.loads[0].spacing = Some(Spacing::Poisson);
        s.spec.loads[0].stages = vec![stage(Phase::Measure, Some(rate("1/s")), 100_000 * SECOND)];
    });
    let due: Vec<u64> = open(&long).map(|a| a.due.0).collect();
    assert!(due.len().abs_diff(100_000) < 1_300, "{}", due.len());
    let mut bins = vec![0_f64; 10_000];
    due.iter()
        .for_each(|due| bins[(due / (10 * SECOND)) as usize] += 1.0);
    let mean = bins.iter().sum::<f64>() / 1e4;
    let variance = bins.iter().map(|count| (count - mean).powi(2)).sum::<f64>() / 1e4;
    assert!(
        (variance / mean - 1.0).abs() < 0.06,
        "mean {mean}, variance {variance}"
    );
    let long_gaps = due
        .windows(2)
        .filter(|pair| pair[1] - pair[0] > SECOND)
        .count();
    assert!(
        (long_gaps as f64 / due.len() as f64 - 0.3679).abs() < 0.006,
        "{long_gaps}"
    );
}

#[test]
fn ramps_follow_the_integral_of_the_rate() {
    // 0 to 100/s in 10 s: 5 t² requests until t, so the n-th lies at sqrt(n / 5) s.
    let ramp = |spacing| {
        scenario(|s| {
            let load = &mut s.spec.loads[0];
            load.executor = Executor::RampingArrivalRate;
            load.spacing = spacing;
            load.stages = vec![
                stage(Phase::Warmup, Some(rate("100/s")), 10 * SECOND),
                stage(Phase::Measure, Some(rate("0/s")), 10 * SECOND),
            ];
        })
    };
    let even: Vec<Arrival> = open(&ramp(None)).collect();
    assert_eq!(even.len(), 1000);
    for (n, arrival) in even.iter().take(500).enumerate() {
        let wanted = (n as f64 / 5.0).sqrt() * 1e9;
        assert!(
            (arrival.due.0 as f64 - wanted).abs() < 2.0,
            "{n}: {} {wanted}",
            arrival.due.0
        );
        // The way down mirrors the way up.
        let mirrored = 20.0e9 - ((500 - n) as f64 / 5.0).sqrt() * 1e9;
        assert!(
            (even[500 + n].due.0 as f64 - mirrored).abs() < 2000.0,
            "{n}"
        );
    }
    let poisson: Vec<Arrival> = open(&ramp(Some(Spacing::Poisson))).collect();
    assert!(poisson.len().abs_diff(1000) < 130, "{}", poisson.len());
    let first_half = poisson.iter().filter(|a| a.due.0 < 5 * SECOND).count();
    assert!(first_half.abs_diff(125) < 50, "{first_half}");
}

#[test]
fn loads_are_merged_by_due() {
    let two = scenario(|s| {
        let mut second = s.spec.loads[0].clone();
        second.name = "two".into();
        second.start_at = Some("1s".parse().unwrap());
        second.spacing = Some(Spacing::Poisson);
        s.spec.loads.push(second);
    });
    let all: Vec<Arrival> = open(&two).collect();
    assert!(all.is_sorted_by_key(|a| (a.due, a.load)));
    assert_eq!(all.iter().filter(|a| a.load == 0).count(), 340);
    let second = || all.iter().filter(|a| a.load == 1);
    assert!(second().all(|a| a.due.0 >= SECOND && a.id.0 >> 40 == 1));
    assert!(second().all(|a| (a.phase == Phase::Warmup) == (a.due.0 < 3 * SECOND)));
    assert_eq!(stretches(&two).len(), 4);
    assert_eq!(stretches(&two)[3].end, Nanos(6 * SECOND));
}

#[test]
fn a_schedule_needs_no_borrow_and_no_collecting() {
    fn is_free<T: Iterator<Item = Arrival> + Send + 'static>(_: &T) {}
    let endless = open(&scenario(|s| {
        s.spec.loads[0].stages = vec![stage(
            Phase::Measure,
            Some(rate("1000000/s")),
            1_000_000 * SECOND,
        )];
    }));
    is_free(&endless);
    assert_eq!(
        endless.skip(1_000_000).map(|a| a.due).next(),
        Some(Nanos(SECOND))
    );
}

fn users(vus: u32, think: Option<ThinkTime>) -> Scenario {
    scenario(|s| {
        let load = &mut s.spec.loads[0];
        load.executor = Executor::ConstantVus;
        load.vus = Some(vus);
        load.think_time = think;
        load.start_at = Some("1s".parse().unwrap());
        load.stages = vec![
            stage(Phase::Warmup, None, SECOND),
            stage(Phase::Measure, None, 2 * SECOND),
        ];
    })
}

#[test]
fn users_think_between_answer_and_request() {
    let think = ThinkTime::Uniform("100ms".parse().unwrap(), "200ms".parse().unwrap());
    let spec = users(3, Some(think));
    assert_eq!(open(&spec).count(), 0);
    assert_eq!(closed_loads(&spec), [0]);
    let mut closed = Closed::new(&spec, 0);
    let first = closed.start();
    assert_eq!(
        first.iter().map(|a| (a.due, a.vu)).collect::<Vec<_>>(),
        [
            (Nanos(SECOND), Some(0)),
            (Nanos(SECOND), Some(1)),
            (Nanos(SECOND), Some(2)),
        ]
    );
    assert!(closed.start().is_empty());
    let at = Nanos(SECOND + 50_000_000);
    let completed = |closed: &mut Closed, vu, at| {
        let mut next = Vec::new();
        closed.completed(vu, at, &mut next);
        next.pop()
    };
    let next = completed(&mut closed, 1, at).unwrap();
    assert!(
        (100_000_000..=200_000_000).contains(&next.due.since(at).0),
        "{next:?}"
    );
    assert_eq!((next.id, next.phase), (RequestId(4), Phase::Warmup));
    // Past the end the user is finished; and none without a request out goes on.
    assert_eq!(completed(&mut closed, 1, Nanos(4 * SECOND)), None);
    assert_eq!(completed(&mut closed, 1, at), None);
    assert_eq!(completed(&mut closed, 7, at), None);
    assert_eq!(closed.outstanding(), 2);
    assert_eq!(
        completed(&mut closed, 0, Nanos(2 * SECOND)).unwrap().phase,
        Phase::Measure
    );
}

proptest! {
    #[test]
    fn even_counts_are_the_integral(events in 1_u64..5_000, per_ms in 1_u64..3_000, lengths in prop::collection::vec(1_u64..4_000, 1..5), ramps in any::<bool>()) {
        let given = Rate { events, per_nanos: per_ms * 1_000_000 };
        let spec = scenario(|s| {
            let load = &mut s.spec.loads[0];
            load.executor = if ramps { Executor::RampingArrivalRate } else { Executor::ConstantArrivalRate };
            load.stages = lengths.iter().map(|ms| stage(Phase::Measure, Some(given), ms * 1_000_000)).collect();
        });
        let all: Vec<Arrival> = open(&spec).take(200_000).collect();
        let length: u64 = lengths.iter().sum();
        let ramped = if ramps { lengths[0] as f64 / 2.0 } else { 0.0 };
        let integral = events as f64 * (length as f64 - ramped) / per_ms as f64;
        prop_assume!(integral < 199_000.0);
        // Arrivals lie where the integral is 0, 1, 2, …: as many as it holds, rounded up.
        prop_assert!((all.len() as f64 - integral.ceil()).abs() <= if integral.fract() < 1e-6 || integral.fract() > 1.0 - 1e-6 { 1.0 } else { 0.0 }, "{} {integral}", all.len());
        prop_assert!(all.is_sorted_by_key(|a| a.due));
        prop_assert!(all.iter().all(|a| a.due.0 < length * 1_000_000));
    }

    #[test]
    fn poisson_stays_in_order_and_inside(seed in any::<u64>(), rates in prop::collection::vec(0_u64..2_000, 1..5), ramps in any::<bool>()) {
        let spec = scenario(|s| {
            s.spec.seed = seed;
            let load = &mut s.spec.loads[0];
            load.executor = if ramps { Executor::RampingArrivalRate } else { Executor::ConstantArrivalRate };
            load.spacing = Some(Spacing::Poisson);
            load.stages = rates.iter().map(|r| stage(Phase::Measure, Some(Rate { events: *r, per_nanos: SECOND }), SECOND)).collect();
        });
        let mut last = Nanos(0);
        for arrival in open(&spec) {
            prop_assert!(arrival.due >= last);
            last = arrival.due;
        }
        prop_assert!(last.0 < rates.len() as u64 * SECOND);
    }

    /// However answers come in, no user ever has two requests out, and each is due after the answer before.
    #[test]
    fn a_user_never_has_two_requests_out(vus in 1_u32..6, picks in prop::collection::vec((0_usize..6, 0_u64..300_000_000), 1..200)) {
        let think = ThinkTime::Uniform("0s".parse().unwrap(), "50ms".parse().unwrap());
        let mut closed = Closed::new(&users(vus, Some(think)), 0);
        let mut out = closed.start();
        let mut seen: Vec<RequestId> = out.iter().map(|a| a.id).collect();
        for (pick, took) in picks {
            if out.is_empty() {
                break;
            }
            let done = out.swap_remove(pick % out.len());
            let vu = done.vu.unwrap();
            let at = Nanos(done.due.0 + took);
            let mut following = Vec::new();
            closed.completed(vu, at, &mut following);
            prop_assert!(following.len() <= 1);
            if let Some(next) = following.pop() {
                prop_assert!(next.due >= at && next.due < closed.end());
                prop_assert_eq!(next.vu, Some(vu));
                seen.push(next.id);
                out.push(next);
            }
            prop_assert_eq!(closed.outstanding(), out.len());
            prop_assert!(out.len() <= vus as usize);
        }
        let issued = seen.len();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!(seen.len(), issued);
    }
}

//! Numbers that look decided and are not, or the other way round.

use super::metrics::only;
use super::{Trap, edit, where_asked};
use crate::objective::Indicator;
use crate::observation::Outcome;
use crate::report::model::Report;
use crate::report::model::Verdict::{Fail, Inconclusive, Pass};

use super::super::testing::Run;

const CLASS: &str = "Statistics at the edge";

/// A point estimate against its target, which is all that most gates look at.
pub(super) fn point_holds(_: &Run, report: &Report) -> bool {
    let mut judged = report.objectives.iter().peekable();
    judged.peek().is_some()
        && judged.all(|o| {
            o.value
                .zip(o.target)
                .is_some_and(|(value, target)| value >= target)
        })
}

fn point_misses(_: &Run, report: &Report) -> bool {
    let shares = report.objectives.iter();
    let mut shares = shares.filter_map(|o| Some((o.value?, o.target?)));
    shares.any(|(value, target)| value < target)
}

/// Keeps so many requests of the measured phase.
fn keep(run: &mut Run, measured: u64) {
    run.rows.retain(|row| row.id.0 < 50 + measured);
    run.world = run.rows.clone();
    run.facts.generator.scheduled = run.rows.len() as u64;
}

/// Makes so many of the measured requests slow, evenly spread.
fn slow(run: &mut Run, number: usize, of: usize) {
    let every = of / number.max(1);
    run.each(|n, row| {
        if n % every == 0 && n / every < number {
            row.done.0 += 600_000_000;
        }
    });
}

/// Latencies of a first-order autoregression: neighbours alike, all far below any limit.
fn alike(run: &mut Run) {
    let mut state = 0_u64;
    let mut level = 0.0_f64;
    let latencies: Vec<u64> = (0..1_200)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let noise = (state >> 40) as f64 / f64::from(1_u32 << 24) - 0.5;
            level = 0.97 * level + noise;
            (8e6 + 1e6 * level) as u64
        })
        .collect();
    run.each(|n, row| row.done.0 = row.due.0 + latencies[n]);
}

pub(super) fn traps() -> Vec<Trap> {
    let open = |name, spoil| Trap::new(CLASS, name, Inconclusive, "undecided", spoil);
    let latency: fn(&mut Run) = |r| only(r, "latency");
    vec![
        open("250 requests without a miss against 99 %", |r| keep(r, 250))
            .base(latency)
            .wrong("pass: 100 % is over 99 %")
            .why("a service that misses 1.1 % gets through 250 requests one time in sixteen; 299 decide")
            .naively(point_holds)
            .says("more at this share"),
        open("298 requests without a miss against 99 %", |r| keep(r, 298))
            .base(latency)
            .wrong("pass: 100 % is over 99 %")
            .why("one less than decides")
            .naively(point_holds),
        Trap::new(CLASS, "299 requests without a miss against 99 %", Pass, "", |r| keep(r, 299))
            .base(latency)
            .wrong("inconclusive by a normal approximation, or by an interval for two sides")
            .why("the exact one-sided bound reaches 99 % at 299, to the request")
            .naively(|_, report| report.objectives[0].samples == Some(299)),
        open("a share just over its target", |r| slow(r, 10, 1_200))
            .base(latency)
            .wrong("pass: 99.17 % is over 99 %")
            .why("so few misses are seen one time in three of a service that misses its target")
            .naively(point_holds),
        open("a share just under its target", |r| slow(r, 14, 1_200))
            .base(latency)
            .wrong("fail: 98.83 % is under 99 %")
            .why("so many misses are seen one time in four of a service that meets its target")
            .naively(point_misses),
        open("a share exactly on its target", |r| slow(r, 12, 1_200))
            .base(latency)
            .wrong("pass or fail by the last digit of a float")
            .why("no number of further requests would decide, and the report says so")
            .naively(|_, report| report.objectives[0].value == Some(0.99))
            .says("no number of further requests"),
        Trap::new(CLASS, "no request of the name that an objective asks for", Inconclusive, "evidence_missing", |r| {
            r.scenario.spec.requests.push(r.scenario.spec.requests[0].clone());
            r.scenario.spec.requests[1].name = "other".into();
            for rows in [&mut r.rows, &mut r.world] {
                rows.iter_mut().for_each(|row| row.request = 1);
            }
        })
        .base(latency)
        .wrong("pass: 0 misses; 0 of 0 is 100 %")
        .why("nothing seen says nothing")
        .without(Pass),
        Trap::new(CLASS, "every request is a miss", Fail, "objective_missed", |r| {
            r.each(|_, row| row.done.0 += 600_000_000);
        })
        .wrong("inconclusive: the misses have no variance to estimate from")
        .why("exact bounds need none"),
        Trap::new(CLASS, "an answer that takes exactly the limit", Pass, "", |r| {
            r.each(|_, row| row.done.0 = row.due.0 + 500_000_000);
        })
        .base(|r| {
            only(r, "latency");
        })
        .wrong("fail: a bucket or a float rounds it over the limit")
        .why("`<= 500ms` holds at 500 ms, counted in whole nanoseconds")
        .naively(|_, report| {
            let slowest = report.load.iter().filter_map(|l| l.latency).map(|q| q.max);
            slowest.fold(0.0, f64::max) >= 0.5
        }),
        open("a thousand requests that are worth thirty: neighbours in a queue are alike", alike)
            .base(latency)
            .wrong("pass: 1,200 of 1,200")
            .why("a slow spell that did not happen to come within so few correlation times may come in the next")
            .says("independent ones"),
        open("one stretch of misses is one event", |r| {
            r.each(|n, row| {
                if (600..630).contains(&n) {
                    row.done.0 += 600_000_000;
                }
            });
        })
        .base(latency)
        .wrong("fail: 30 misses of 1,200, as if each were independent")
        .why("thirty neighbours stood in one queue; whether such a spell is rare, one run does not tell")
        .naively(|_, report| {
            let o = &report.objectives[0];
            let (good, all) = (o.good.unwrap_or(0) as f64, o.samples.unwrap_or(0) as f64);
            super::super::stat::p_missed(good, all, 0.99) < 0.05
        }),
        open("a miss of one of many objectives that chance explains", |r| slow(r, 20, 1_200))
            .base(|r| {
                let one = r.objectives.iter().find(|o| o.name == "latency").cloned().unwrap();
                r.objectives = (0..20)
                    .map(|n| {
                        let mut copy = one.clone();
                        copy.name = format!("latency-{n}");
                        if let (true, Indicator::Ratio { target, .. }) = (n > 0, &mut copy.indicator) {
                            *target = 0.9;
                        }
                        copy
                    })
                    .collect();
            })
            .wrong("fail: under the target at 95 % confidence")
            .why("of twenty objectives one is missed by chance in most runs; Holm's correction asks for more"),
        open("fewer events than the objective asks for", |r| {
            r.objectives.iter_mut().for_each(|o| o.min_samples = Some(5_000));
        })
        .base(latency)
        .wrong("pass: 1,200 of 1,200")
        .why("`harness/min-samples` is a floor")
        .naively(point_holds),
        Trap::new(CLASS, "a percentile that falls among requests without an answer", Fail, "objective_missed", |r| {
            r.each(|n, row| {
                if n % 50 == 0 {
                    row.outcome = Outcome::Timeout;
                    row.status = None;
                }
            });
        })
        .base(|r| {
            r.slo(
                "apiVersion: openslo/v1\nkind: SLO\nmetadata: {name: p99, annotations: {harness/signal: latency}}\n\
                 spec:\n  service: s\n  indicator:\n    metadata: {name: p99}\n    spec:\n      thresholdMetric:\n        \
                 metricSource: {type: LoadClient, spec: {request: classify, metric: latency_p99}}\n  \
                 timeWindow: [{duration: 28d, isRolling: true}]\n  budgetingMethod: Occurrences\n  \
                 objectives: [{displayName: p99, op: lte, value: 0.5, target: 0.99}]\n",
            );
        })
        .wrong("pass: the 99th percentile of what was answered is 8 ms")
        .why("requests without an answer are slower than any limit"),
        open("a service restarts and 40 of its requests are in no counter", |r| {
            r.restarts = vec![20_050_000_000];
            r.scenario.spec.validity.metric_coverage.0 = 0.9;
        })
        .base(|r| only(r, "server-errors"))
        .wrong("pass: no error in what was counted")
        .why("what no scrape saw is taken as bad for a pass")
        .says("taken as bad"),
        open("one trace in a hundred is missing where one in 200 may be slow", |r| {
            where_asked(r, "count_over_time()", |a| {
                edit(a, |v| {
                    let n = v["series"][0]["value"].as_u64().unwrap();
                    v["series"][0]["value"] = (n - 8).into();
                });
            });
        })
        .base(|r| {
            only(r, "queue-wait");
            if let Indicator::Ratio { target, .. } = &mut r.objectives[0].indicator {
                *target = 0.995;
            }
        })
        .wrong("pass: 100 % of the spans that are there")
        .why("what the evidence lacks is taken as bad for a pass: it may be the slow ones")
        .naively(point_holds),
    ]
}

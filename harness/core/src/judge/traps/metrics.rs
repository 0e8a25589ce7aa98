//! Metrics: answers that are empty, odd, partial or old, scrapes that stop, counters that reset.

use super::super::outlived::{self, Began};
use super::{EMPTY, Trap, body, cut_short, edit, gone, status, where_asked};
use crate::query::{Backend, Query};
use crate::report::model::Report;
use crate::report::model::Verdict::{Fail, Inconclusive, Invalid, Pass};

use super::super::testing::Run;
use Backend::Prometheus;

const CLASS: &str = "Metrics";

const NAN: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"NaN"]}]}}"#;
const INF: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"+Inf"]}]}}"#;
const MINUS_INF: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{},"value":[1,"-Inf"]}]}}"#;
const TWO: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"a":"1"},"value":[1,"0.1"]},{"metric":{"a":"2"},"value":[1,"0.9"]}]}}"#;
const WARNED: &str = r#"{"status":"success","warnings":["a store is unreachable"],"data":{"resultType":"vector","result":[{"metric":{},"value":[1,"0"]}]}}"#;
const ERROR_AT_200: &str = r#"{"status":"error","errorType":"timeout","error":"query timed out","data":{"resultType":"vector","result":[]}}"#;
const BEYOND_TIME: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[-1e300,"1"],[1e300,"1"]]}]}}"#;
const CENTURIES: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[0,"1"],[7258118400,"1"]]}]}}"#;
const EMPTY_MATRIX: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;

/// What a reader of values alone would say of the objectives over metrics.
fn value_holds(_: &Run, report: &Report) -> bool {
    let mut judged = report
        .objectives
        .iter()
        .filter(|o| o.source == crate::report::model::Source::Prometheus)
        .peekable();
    judged.peek().is_some()
        && judged.all(|o| match (o.value, o.target, &o.threshold) {
            (Some(value), Some(target), _) => value >= target,
            (Some(value), None, Some(limit)) => match limit.op.as_str() {
                "lte" => value <= limit.value,
                "gte" => value >= limit.value,
                _ => false,
            },
            _ => false,
        })
}

fn value_misses(run: &Run, report: &Report) -> bool {
    !value_holds(run, report)
}

/// Drops points of matrices from so many seconds of the run on, up to others.
pub(super) fn cut_scrapes(run: &mut Run, from: u64, to: u64) {
    let second = run.facts.started.0 / 1_000_000_000;
    let (from, to) = ((second + from) as f64, (second + to) as f64);
    run.spoil(Prometheus, move |answer| {
        edit(answer, |value| {
            for series in value["data"]["result"].as_array_mut().unwrap() {
                if let Some(values) = series.get_mut("values").and_then(|v| v.as_array_mut()) {
                    values.retain(|point| {
                        let at = point[0].as_f64().unwrap();
                        at < from || at >= to
                    });
                }
            }
        });
    });
}

/// Only the objective of this name.
pub(super) fn only(run: &mut Run, name: &str) {
    run.objectives.retain(|o| o.name == name);
    assert_eq!(run.objectives.len(), 1, "no objective {name}");
}

fn threshold(run: &mut Run, source: &str, query: &str, op: &str, value: &str, more: &str) {
    run.slo(&format!(
        "apiVersion: openslo/v1\nkind: SLO\nmetadata: {{name: t, annotations: {{harness/signal: saturation{more}}}}}\n\
         spec:\n  service: s\n  indicator:\n    metadata: {{name: t}}\n    spec:\n      thresholdMetric:\n        \
         metricSource: {{type: {source}, spec: {{query: '{query}'}}}}\n  \
         timeWindow: [{{duration: 28d, isRolling: true}}]\n  budgetingMethod: Occurrences\n  \
         objectives: [{{displayName: t, op: {op}, value: {value}, target: 0.99}}]\n"
    ));
}

fn gauge(run: &mut Run, query: &str, op: &str, value: &str, more: &str) {
    threshold(run, "Prometheus", query, op, value, more);
}

pub(super) fn traps() -> Vec<Trap> {
    [odd(), errors(), scrapes(), resets(), meaning(), quantiles()]
        .into_iter()
        .flatten()
        .collect()
}

fn odd() -> Vec<Trap> {
    let new = |name, spoil| Trap::new(CLASS, name, Inconclusive, "evidence_missing", spoil);
    vec![
        Trap::new(CLASS, "every answer is empty", Inconclusive, "telemetry_incomplete", |r| {
            r.spoil(Prometheus, body(EMPTY));
        })
        .wrong("pass: no error, no miss")
        .why("the service was never seen by this backend; nothing of it is judged"),
        new("one value is empty", |r| where_asked(r, "max_over_time", body(EMPTY)))
            .wrong("pass, or 0")
            .why("empty is no number; only `harness/empty-as` makes it one, and only over whole evidence"),
        new("a value is NaN", |r| where_asked(r, "max_over_time", body(NAN)))
            .wrong("pass where `not (value > limit)` is asked")
            .why("0 divided by 0 is no measurement"),
        new("a value is infinite", |r| where_asked(r, "max_over_time", body(INF)))
            .wrong("fail")
            .why("a division by 0 or the `+Inf` bucket, not a measurement"),
        new("a value is minus infinity", |r| where_asked(r, "max_over_time", body(MINUS_INF)))
            .wrong("pass: under any limit")
            .why("not a measurement"),
        new("several series where one is needed", |r| where_asked(r, "max_over_time", body(TWO)))
            .wrong("pass by the first series")
            .why("the first is not all of them, and which is first is chance"),
        new("the answer warns that a store is unreachable", |r| {
            where_asked(r, "max_over_time", body(WARNED));
        })
        .why("a part of the data may hold a part of the truth"),
        new("status 200 around an error", |r| {
            where_asked(r, "max_over_time", body(ERROR_AT_200));
        })
        .why("the body says that the query failed"),
        new("no series of bad events at either edge", |r| where_asked(r, "5..", body(EMPTY)))
            .wrong("pass: no error was counted")
            .why("no series may be no error or no telemetry; the query has to tell them apart, e.g. with `or 0 * sum(total)`"),
        new("a counter that is negative", |r| {
            where_asked(r, "5..", |a| edit(a, |v| negate(&mut v["data"]["result"])));
        })
        .wrong("pass: it did not grow")
        .why("no count is negative: this is another metric"),
        new("a counter that is no whole number", |r| {
            where_asked(r, "5..", |a| {
                a.body = a.body.replace("\"0\"", "\"0.5\"").replacen("0.5", "0.25", 1);
            });
        })
        .wrong("pass after rounding down")
        .why("events are whole: this is a rate or an average"),
        new("an answer for another time, from a cache on the way", |r| {
            where_asked(r, "max_over_time", |a| {
                edit(a, |v| {
                    let at = &mut v["data"]["result"][0]["value"][0];
                    *at = (at.as_f64().unwrap() - 3600.0).into();
                });
            });
        })
        .why("the value is of an hour before the run"),
        new("the total is gone at the last edge: a stale marker", |r| {
            r.tamper(|query, answer| {
                if let Query::PromInstant { query, time } = query
                    && query.starts_with("sum(http_server_request_duration_seconds_count")
                    && !query.contains("5..")
                    && time.0 > 1_795_351_920_000_000_000
                {
                    answer.body = EMPTY.into();
                }
            });
        })
        .wrong("pass: 0 bad of what there is")
        .why("without the last value the growth is not known"),
        Trap::new(CLASS, "times that no clock shows", Inconclusive, "telemetry_incomplete", |r| {
            where_asked(r, "up{", body(BEYOND_TIME));
        })
        .wrong("a crash, or pass")
        .why("such scrapes are not of this run"),
        new("scrapes two centuries apart", |r| {
            r.facts.backends.get_mut(&Prometheus).unwrap().embedded = false;
            where_asked(r, "up{", body(CENTURIES));
        })
        .wrong("a crash, or pass")
        .why("there is no scrape at the edges of the phase"),
    ]
}

/// Turns the values of an instant vector or a matrix into -5.
fn negate(result: &mut serde_json::Value) {
    for series in result.as_array_mut().unwrap() {
        if let Some(value) = series.get_mut("value") {
            value[1] = "-5".into();
        }
        if let Some(values) = series.get_mut("values").and_then(|v| v.as_array_mut()) {
            values.iter_mut().for_each(|point| point[1] = "-5".into());
        }
    }
}

fn errors() -> Vec<Trap> {
    let new = |name, spoil| Trap::new(CLASS, name, Inconclusive, "telemetry_incomplete", spoil);
    let all = "an error is no evidence, whatever its kind";
    vec![
        new("400: the backend does not understand", |r| {
            r.spoil(
                Prometheus,
                status(400, r#"{"status":"error","errorType":"bad_data"}"#),
            );
        })
        .why(all),
        new("401: not let in", |r| {
            r.spoil(Prometheus, status(401, "no org id"))
        })
        .why(all),
        new("404: a wrong path in front of the backend", |r| {
            r.spoil(Prometheus, status(404, "404 page not found"));
        })
        .why(all),
        new("422: the query cannot be carried out", |r| {
            r.spoil(Prometheus, status(422, "too many samples"));
        })
        .why(all),
        new("429: too many queries", |r| {
            r.spoil(Prometheus, status(429, ""))
        })
        .why(all),
        new("503: overloaded", |r| r.spoil(Prometheus, status(503, ""))).why(all),
        new("a login page under status 200", |r| {
            r.spoil(Prometheus, body("<html>login</html>"));
        })
        .why("it is not an answer of this API"),
        new("an empty body under status 200", |r| {
            r.spoil(Prometheus, body(""))
        })
        .why(all),
        new("`null` under status 200", |r| {
            r.spoil(Prometheus, body("null"))
        })
        .why(all),
        new("a body cut short on the way", |r| {
            r.spoil(Prometheus, cut_short)
        })
        .why("half a JSON document is read as none"),
        new("unreachable once the load is over", |r| {
            r.spoil(Prometheus, gone)
        })
        .why("a backend that is lost leaves its objectives open"),
    ]
}

fn scrapes() -> Vec<Trap> {
    let new = |name, spoil| Trap::new(CLASS, name, Inconclusive, "telemetry_incomplete", spoil);
    vec![
        new("scrapes stop half-way", |r| cut_scrapes(r, 20, 1_000))
            .wrong("pass on the first half")
            .why("half of the requests were never seen; the report says since when")
            .says("missing since"),
        new("no scrape after the last answer", |r| {
            cut_scrapes(r, 35, 1_000)
        })
        .why("the last requests, likely the slowest, are not in the counters"),
        new("scrapes fail for ten seconds and come back", |r| {
            cut_scrapes(r, 15, 25)
        })
        .wrong("pass: the counters agree at both ends")
        .why("a gauge was not seen for a third of the phase, and a restart in it neither"),
        new("the target is down for the scraper: `up` is 0", |r| {
            where_asked(r, "up{", |a| a.body = a.body.replace("\"1\"", "\"0\""));
        })
        .wrong("pass on stale values")
        .why("a scrape that failed is none"),
        new("the counter stands still: a frozen exporter", |r| {
            r.tamper(|_, a| {
                if let Query::PromInstant { query, .. } = &a.query
                    && query.starts_with("http_server")
                    && query.ends_with(']')
                {
                    edit(a, |v| {
                        let values = v["data"]["result"][0]["values"].as_array_mut().unwrap();
                        let middle = values[values.len() / 2][1].clone();
                        let half = values.len() / 2;
                        values[half..]
                            .iter_mut()
                            .for_each(|p| p[1] = middle.clone());
                    });
                }
            });
        })
        .wrong("pass: no error was added")
        .why("it counts fewer requests than the client had answers"),
        new(
            "another job is scraped under the same name of metric",
            |r| {
                where_asked(r, "target-service", body(EMPTY_MATRIX));
            },
        )
        .wrong("pass on another service's metrics")
        .why("this service's own scrapes and counter are asked for"),
        Trap::new(
            CLASS,
            "the service is scraped twice and every request counts double",
            Invalid,
            "foreign_traffic",
            |r| {
                r.tamper(|query, a| {
                    if let Query::PromInstant { query, .. } = query
                        && query.ends_with(']')
                    {
                        edit(a, |v| {
                            let result = v["data"]["result"].as_array_mut().unwrap();
                            let mut second = result[0].clone();
                            second["metric"]["instance"] = "127.0.0.1:9001".into();
                            result.push(second);
                        });
                    }
                });
            },
        )
        .wrong("pass, with twice the samples")
        .why("twice the requests sent cannot be ours alone"),
    ]
}

fn resets() -> Vec<Trap> {
    vec![
        Trap::new(CLASS, "the target restarts and its counters begin at 0 again", Fail, "objective_missed", |r| {
            r.restarts = vec![20_000_000_000];
        })
        .base(|r| {
            only(r, "server-errors");
            // All errors lie before the restart.
            r.world
                .iter_mut()
                .filter(|row| row.due.0 < 17_000_000_000 && row.id.0 % 8 == 0)
                .for_each(|row| row.status = Some(500));
        })
        .wrong("pass: last minus first is small or negative")
        .why("growth is summed up across the reset, with what no scrape saw taken as bad for a pass")
        .naively(|run, _| run.reads("5..", 36) - run.reads("5..", 6) <= 0.0),
        Trap::new(
            CLASS,
            "a restart that the counter of errors hides: it soon has as many as before",
            Fail,
            "objective_missed",
            |r| r.restarts = vec![6_000_000_000],
        )
        .base(|r| {
            only(r, "server-errors");
            // Twenty errors before the first scrape of the phase, and as many before the second.
            let mut errors = 0;
            for row in &mut r.world {
                let until = if row.due.0 < 6_000_000_000 { 20 } else { 40 };
                if errors < until && row.done.0 < 6_850_000_000 {
                    row.status = Some(500);
                    errors += 1;
                }
            }
        })
        .wrong("pass: from one scrape to the next the counter did not move")
        .why("`process_start_time_seconds` tells that its count began anew")
        .naively(|run, _| run.reads("5..", 36) - run.reads("5..", 6) <= 0.0)
        .says("restarted in between"),
        Trap::new(CLASS, "a counter that falls although the target did not restart", Inconclusive, "evidence_missing", |r| {
            r.tamper(|query, a| {
                if let Query::PromRange { query, .. } = query
                    && query.contains("5..")
                {
                    edit(a, |v| {
                        let values = v["data"]["result"][0]["values"].as_array_mut().unwrap();
                        let middle = values.len() / 2;
                        values[middle][1] = "7".into();
                    });
                }
            });
        })
        .wrong("pass: it ends where it began")
        .why("what falls is a gauge, and its growth says nothing"),
        Trap::new(CLASS, "the process of the run before, under the same address", Pass, "", |r| {
            *r = outlived::after_another(1_095.0, Began::Said(-0.4));
        })
        .wrong("invalid or fail: a reset, or more requests than were sent")
        .why("the process under test began before the load; its forerunner's samples are not its own")
        .naively(|run, _| {
            // The forerunner's 1,095 and then this one's: a reset, or more than was sent.
            let first = run.reads("_count", 1);
            first < 1_095.0 && run.reads("_count", 36) + 1_095.0 > 1.01 * 1_250.0
        }),
    ]
}

fn meaning() -> Vec<Trap> {
    let new = |name, base, spoil| {
        Trap::new(CLASS, name, Inconclusive, "evidence_missing", spoil).base(base)
    };
    let unit =
        |name, base, spoil| Trap::new(CLASS, name, Inconclusive, "undecided", spoil).base(base);
    vec![
        unit(
            "a share given in percent against a limit of 0.99",
            |r| {
                gauge(
                    r,
                    "max_over_time(share[$window])",
                    "gte",
                    "0.1",
                    ", harness/unit: ratio",
                )
            },
            |r| {
                gauge(
                    r,
                    "100 * max_over_time(share[$window])",
                    "gte",
                    "0.99",
                    ", harness/unit: ratio",
                )
            },
        )
        .wrong("pass: 12.5 is over 0.99")
        .why("a share lies between 0 and 1; this is a wrong unit")
        .naively(value_holds)
        .says("not between 0 and 1"),
        unit(
            "a fill in percent against a limit of 0.8",
            |r| {
                gauge(
                    r,
                    "max_over_time(share[$window])",
                    "lte",
                    "0.8",
                    ", harness/unit: share",
                )
            },
            |r| {
                gauge(
                    r,
                    "100 * max_over_time(share[$window])",
                    "lte",
                    "0.8",
                    ", harness/unit: share",
                )
            },
        )
        .wrong("fail: 12.5 is over 0.8")
        .why("a share lies between 0 and 1; this is a wrong unit")
        .naively(value_misses),
        new(
            "a range of an hour, over more than the run",
            |r| gauge(r, "max_over_time(queue[$window])", "lte", "0.8", ""),
            |r| gauge(r, "max_over_time(queue[1h])", "lte", "0.8", ""),
        )
        .wrong("pass, diluted by what was before; or fail for what was before")
        .why("it reaches back before the measured phase; `$window` is the phase"),
        new(
            "a range of ten seconds, over less than the phase",
            |r| gauge(r, "max_over_time(queue[$window])", "lte", "0.8", ""),
            |r| gauge(r, "max_over_time(queue[10s])", "lte", "0.8", ""),
        )
        .wrong("pass on the last ten seconds")
        .why("two thirds of the phase were not looked at"),
        new(
            "`offset` moves the window into the past",
            |r| gauge(r, "max_over_time(queue[$window])", "lte", "0.8", ""),
            |r| {
                gauge(
                    r,
                    "max_over_time(queue[$window] offset 1h)",
                    "lte",
                    "0.8",
                    "",
                )
            },
        )
        .wrong("pass on another hour's data")
        .why("the window asked about is not the measured phase"),
        Trap::new(
            CLASS,
            "`or vector(0)` over telemetry that is dead",
            Inconclusive,
            "telemetry_incomplete",
            |r| {
                // The expression always has a value; everything of the service is gone.
                where_asked(r, "job=\"target-service\"", body(EMPTY_MATRIX));
            },
        )
        .base(|r| gauge(r, "sum(errors) or vector(0)", "lte", "0.8", ""))
        .wrong("pass: 0 errors")
        .why("a value from a backend that does not hold the run is none"),
    ]
}

const P99: &str = "histogram_quantile(0.99, sum by (le) (rate(h_bucket[$window])))";

fn quantiles() -> Vec<Trap> {
    let open = |name, spoil| Trap::new(CLASS, name, Inconclusive, "undecided", spoil);
    vec![
        open("a limit inside the bucket that the quantile fell in", |r| gauge(r, P99, "lte", "0.00999", ""))
            .base(|r| gauge(r, P99, "lte", "0.01", ""))
            .wrong("pass: the interpolated 9.95 ms is under 9.99 ms")
            .why("all that is known is that it lies between 5 and 10 ms; the report names the boundary to add")
            .naively(value_holds)
            .says("add a bucket boundary at 0.00999"),
        open("a limit inside the bucket, and the estimate is over it", |r| gauge(r, P99, "lte", "0.0085", ""))
            .base(|r| gauge(r, P99, "lte", "0.01", ""))
            .wrong("fail: 9.95 ms is over 8.5 ms, where the truth is 8 ms")
            .why("an even spread within the bucket is a guess")
            .naively(value_misses),
        open("the quantile lies beyond the last boundary", |r| {
            where_asked(r, "histogram_quantile", |a| {
                a.body = a.body.replace("0.00995", "0.5");
            });
            r.world.iter_mut().for_each(|row| row.done.0 += 900_000_000);
        })
        .base(|r| gauge(r, P99, "lte", "0.5", ""))
        .wrong("pass: `histogram_quantile` answers the last boundary, 0.5, for whatever is above it")
        .why("it lies above 0.5, however far")
        .naively(value_holds)
        .says("+Inf"),
        Trap::new(CLASS, "the buckets behind a quantile are gone", Inconclusive, "evidence_missing", |r| {
            where_asked(r, "sum by (le)", |a| {
                if matches!(&a.query, Query::PromInstant { query, .. } if query.starts_with("sum by")) {
                    a.body = EMPTY.into();
                }
            });
        })
        .base(|r| gauge(r, P99, "lte", "0.01", ""))
        .why("a quantile without its buckets cannot be told from a guess"),
        open("Tempo's quantile, from buckets of powers of two", |r| {
            threshold(r, "Tempo", "{ } | quantile_over_time(duration, .99)", "lte", "0.00835", "");
        })
        .base(|r| {
            threshold(r, "Tempo", "{ } | quantile_over_time(duration, .99)", "lte", "0.02", "");
        })
        .wrong("pass: 8.3 ms is under 8.35 ms")
        .why("it lies anywhere between 4.19 and 8.39 ms; count spans at or under the limit instead")
        .naively(|_, report| report.objectives[0].value.is_some_and(|v| v <= 0.00835))
        .says("duration <= 0.00835s"),
    ]
}

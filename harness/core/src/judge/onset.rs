//! Which signal moved first: a change point in each series, against the time at which latency departed.
//!
//! A series has moved when it has one stretch whose mean stands out above the rest, found as the
//! stretch `(a, b]` with the greatest `(mean within - mean without) / sqrt(1/k + 1/(n - k))`: the
//! statistic of circular binary segmentation (Olshen et al., Biostatistics 5, 2004), which sees both a
//! step that lasts and a bump that passes. It counts when fewer than 5 in 100 shufflings of the same
//! values hold a stretch that stands out as much. This is a hint where to look, never part of a verdict:
//! values of a service follow one another, so that a drift is found more often than so.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::RunRecord;
use super::client;
use crate::measure;
use crate::observation::Outcome;
use crate::report::model::{Moved, Onset, TimeSeries};
use crate::units::Nanos;

/// Points that a series is thinned to: the search is quadratic in them.
const POINTS: usize = 240;
/// Fewest points within the stretch, and outside it.
const FEWEST: usize = 3;
/// Shufflings.
const SHUFFLES: usize = 99;
/// Most of them that may stand out as much.
const BY_CHANCE: usize = 3;
/// Latency must rise by this factor, other signals by this share of what they were.
const LEAST_RISE: f64 = 0.2;
/// Longest time by which a signal that moved before latency is taken to belong to it, seconds.
const LONGEST_LEAD: f64 = 5.0;
/// Fewest requests that make a point of latency.
const LEAST_REQUESTS: usize = 3;

/// When latency departed and what else moved; `None` for a run too short to say.
pub(super) fn onset(record: &RunRecord, saturation: &[TimeSeries]) -> Option<Onset> {
    let (start, end) = record.facts.window()?;
    let end = if record.facts.stop.is_some() {
        end.min(record.facts.drained)
    } else {
        end
    };
    let latency = latency(record, end);
    if latency.points.len() < 2 * FEWEST {
        return None;
    }
    let departed = moved(&latency, LEAST_RISE.ln_1p()).map(|mut found| {
        (found.before, found.during) = (libm::exp(found.before), libm::exp(found.during));
        found
    });
    let mut signals = Vec::new();
    let mut still = Vec::new();
    for series in of_client(record)
        .into_iter()
        .chain(saturation.iter().cloned())
    {
        let series = until(series, end.as_secs_f64());
        match moved(&series, 0.0).filter(|m| m.during - m.before > LEAST_RISE * m.before.abs()) {
            Some(found) => signals.push(found),
            None => still.push(series.name),
        }
    }
    signals.sort_by(|a, b| a.at.total_cmp(&b.at));
    let said = said(departed.as_ref(), &signals, &still, start.as_secs_f64());
    Some(Onset {
        latency: departed,
        signals,
        still,
        said,
    })
}

fn until(mut series: TimeSeries, end: f64) -> TimeSeries {
    series
        .points
        .retain(|(at, value)| *at >= 0.0 && *at <= end && value.is_finite());
    series
}

/// Mean of the logarithm of latencies by the time at which requests were due. Logarithms, so that one
/// request of ten seconds among a hundred of ten milliseconds does not stand for them all.
fn latency(record: &RunRecord, end: Nanos) -> TimeSeries {
    let timeout = Nanos(record.scenario.spec.target.timeout.nanos());
    let rows = || {
        record.rows.iter().filter(|r| {
            r.due < end
                && matches!(
                    r.outcome,
                    Outcome::Expected
                        | Outcome::WrongAnswer
                        | Outcome::Timeout
                        | Outcome::Unfinished
                )
        })
    };
    // So wide that points hold requests, and no finer than a tenth of a second.
    let wide =
        (end.0 / (rows().count() / LEAST_REQUESTS / 2).clamp(1, POINTS) as u64).max(100_000_000);
    let mut bins = vec![(0.0, 0_usize); usize::try_from(end.0 / wide + 1).unwrap_or(1)];
    for row in rows() {
        if let Some((sum, n)) = bins.get_mut((row.due.0 / wide) as usize) {
            *sum += libm::log(measure::shown_latency(row, timeout).as_secs_f64().max(1e-6));
            *n += 1;
        }
    }
    let points = bins
        .iter()
        .enumerate()
        .filter(|(_, (_, n))| *n >= LEAST_REQUESTS);
    TimeSeries {
        name: "latency from due".into(),
        unit: "s".into(),
        points: points
            .map(|(place, (sum, n))| {
                let at = Nanos(wide.saturating_mul(place as u64));
                (at.as_secs_f64(), sum / *n as f64)
            })
            .collect(),
    }
}

/// What the client itself saw that may come before latency.
fn of_client(record: &RunRecord) -> Vec<TimeSeries> {
    let seconds = measure::series(record.scenario, record.facts, record.rows);
    let mut late = vec![(0.0, 0_u32); seconds.len()];
    for row in client::rows(record, None) {
        if let Some((sum, n)) = late.get_mut((row.due.0 / 1_000_000_000) as usize) {
            *sum += row.lateness().as_secs_f64();
            *n += 1;
        }
    }
    let series = |name: &str, unit: &str, points: Vec<(f64, f64)>| TimeSeries {
        name: name.into(),
        unit: unit.into(),
        points,
    };
    let due = seconds.iter().map(|p| (f64::from(p.second), p.due as f64));
    let out = seconds
        .iter()
        .map(|p| (f64::from(p.second), p.in_flight as f64));
    let late = late
        .iter()
        .enumerate()
        .filter(|(_, (_, n))| *n > 0)
        .map(|(second, (sum, n))| (second as f64, sum / f64::from(*n)));
    vec![
        series("requests due a second", "1/s", due.collect()),
        series("requests in flight", "1", out.collect()),
        series("lateness of the generator", "s", late.collect()),
    ]
}

/// The stretch that stands out above the rest by at least `least`, if there is one.
fn moved(series: &TimeSeries, least: f64) -> Option<Moved> {
    let every = series.points.len().div_ceil(POINTS).max(1);
    let points: Vec<(f64, f64)> = series
        .points
        .chunks(every)
        .map(|some| {
            let mean = some.iter().map(|(_, v)| v).sum::<f64>() / some.len() as f64;
            (some[0].0, mean)
        })
        .collect();
    let mut values: Vec<f64> = points.iter().map(|(_, value)| *value).collect();
    let (a, b, stands) = stretch(&values)?;
    let mean = |of: &mut dyn Iterator<Item = f64>| {
        let (sum, n) = of.fold((0.0, 0_u32), |(sum, n), v| (sum + v, n + 1));
        sum / f64::from(n)
    };
    let within = |place: &usize| (a..b).contains(place);
    let of = |inside: bool| {
        mean(
            &mut values
                .iter()
                .enumerate()
                .filter(|(place, _)| within(place) == inside)
                .map(|(_, v)| *v),
        )
    };
    let (before, during) = (of(false), of(true));
    // A stretch from the beginning on has no onset: there is nothing that it departed from.
    if a == 0 || during - before < least.max(f64::MIN_POSITIVE) {
        return None;
    }
    // A seed of its own, so that judging again says the same.
    let mut random = ChaCha8Rng::seed_from_u64(42);
    let mut as_much = 0;
    for _ in 0..SHUFFLES {
        for place in (1..values.len()).rev() {
            values.swap(place, (random.next_u64() % (place as u64 + 1)) as usize);
        }
        as_much += usize::from(stretch(&values).is_some_and(|(.., other)| other >= stands));
        if as_much > BY_CHANCE {
            return None;
        }
    }
    Some(Moved {
        name: series.name.clone(),
        unit: series.unit.clone(),
        at: points[a].0,
        resolution: resolution(&points),
        until: points.get(b).map(|(at, _)| *at),
        before,
        during,
    })
}

/// Median distance of two points.
fn resolution(points: &[(f64, f64)]) -> f64 {
    let mut gaps: Vec<f64> = points.windows(2).map(|w| w[1].0 - w[0].0).collect();
    gaps.sort_by(f64::total_cmp);
    gaps.get(gaps.len() / 2).copied().unwrap_or_default()
}

/// The stretch `a..b` that stands out most above the rest, and by how much.
fn stretch(values: &[f64]) -> Option<(usize, usize, f64)> {
    let n = values.len();
    let mut sums = vec![0.0; n + 1];
    for (place, value) in values.iter().enumerate() {
        sums[place + 1] = sums[place] + value;
    }
    let mut best: Option<(usize, usize, f64)> = None;
    for a in 0..n {
        for b in a + FEWEST..=n {
            let (k, rest) = ((b - a) as f64, (n - (b - a)) as f64);
            if n - (b - a) < FEWEST {
                break;
            }
            let inside = sums[b] - sums[a];
            let differ = inside / k - (sums[n] - inside) / rest;
            let stands = differ / libm::sqrt(1.0 / k + 1.0 / rest);
            if best.is_none_or(|(.., most)| stands > most) {
                best = Some((a, b, stands));
            }
        }
    }
    best
}

fn said(departed: Option<&Moved>, signals: &[Moved], still: &[String], start: f64) -> String {
    let at = crate::report::seconds;
    let Some(latency) = departed else {
        return "no stretch of the run stands out by its latency: it was much alike from beginning to end".into();
    };
    let mut first = format!("latency departed at {}", at(latency.at));
    if (latency.at - start).abs() <= latency.resolution.max(1.0) {
        first.push_str(", as the measured phase began");
    }
    let names = |list: Vec<&Moved>| -> String {
        let names: Vec<&str> = list.iter().map(|m| m.name.as_str()).collect();
        names.join(" and ")
    };
    // What moved long before did not bring it about, least of all the load as a phase began.
    let before: Vec<&Moved> = signals
        .iter()
        .filter(|s| s.at < latency.at - latency.resolution)
        .filter(|s| latency.at - s.at <= LONGEST_LEAD.max(3.0 * s.resolution))
        .collect();
    let with: Vec<&Moved> = signals
        .iter()
        .filter(|s| s.at >= latency.at - latency.resolution)
        .filter(|s| s.at - s.resolution <= latency.at + latency.resolution)
        .collect();
    if let Some(earliest) = before.first() {
        let lead = latency.at - earliest.at;
        format!(
            "{first}; {} moved first, {} before it",
            earliest.name,
            at(lead)
        )
    } else if !with.is_empty() {
        format!(
            "{first}; within what the distance of points can tell, {} moved with it",
            names(with)
        )
    } else if signals.is_empty() && still.is_empty() {
        format!("{first}; no other signal was there to look at")
    } else {
        format!("{first}; none of the signals that were looked at moved before or with it")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(values: impl IntoIterator<Item = f64>) -> TimeSeries {
        TimeSeries {
            name: "queue".into(),
            unit: "1".into(),
            points: values
                .into_iter()
                .enumerate()
                .map(|(at, v)| (at as f64, v))
                .collect(),
        }
    }

    fn noise(n: u64) -> f64 {
        let mut random = ChaCha8Rng::seed_from_u64(n);
        (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    #[test]
    fn a_step_and_a_bump_are_found_where_they_begin() {
        let step = (0..40).map(|n| noise(n) + if n >= 25 { 5.0 } else { 0.0 });
        let found = moved(&series(step), 0.0).unwrap();
        assert_eq!((found.at, found.until), (25.0, None));
        assert!(found.before < 1.0 && found.during > 5.0);
        let bump = (0..60).map(|n| noise(n) + if (20..30).contains(&n) { 5.0 } else { 0.0 });
        let found = moved(&series(bump), 0.0).unwrap();
        assert_eq!((found.at, found.until), (20.0, Some(30.0)));
    }

    #[test]
    fn noise_constancy_and_a_fall_have_no_onset() {
        let by_chance = (0..100_u64)
            .filter(|seed| moved(&series((0..40).map(|n| noise(seed * 1_000 + n))), 0.0).is_some())
            .count();
        assert!(by_chance <= 8, "{by_chance} of 100");
        assert_eq!(moved(&series([3.0; 40]), 0.0), None);
        let fall = (0..40).map(|n| noise(n) + if n < 10 { 5.0 } else { 0.0 });
        assert_eq!(moved(&series(fall), 0.0), None);
        for short in 0..6 {
            assert_eq!(moved(&series((0..short).map(f64::from)), 0.0), None);
        }
    }

    #[test]
    fn the_sentence_tells_what_came_before_from_what_came_with() {
        let at = |name: &str, at: f64| Moved {
            name: name.into(),
            unit: "1".into(),
            at,
            resolution: 1.0,
            until: None,
            before: 0.0,
            during: 9.0,
        };
        let latency = Moved {
            resolution: 0.2,
            ..at("latency from due", 10.0)
        };
        let say = |signals: &[Moved]| said(Some(&latency), signals, &[], 0.0);
        assert!(
            say(&[at("queue", 7.0), at("cpu", 10.0)]).contains("queue moved first, 3 s before")
        );
        assert!(say(&[at("queue", 10.5), at("cpu", 11.0)]).contains("queue and cpu moved with it"));
        assert!(say(&[at("load", 1.0), at("late", 10.5)]).contains("late moved with it"));
        assert!(say(&[at("queue", 20.0)]).contains("none of the signals"));
        assert!(say(&[]).contains("no other signal was there"));
    }
}

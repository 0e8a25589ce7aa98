//! Now against then: one objective's figure beside those of earlier runs.

use crate::noise::between::Between;
use crate::noise::counts::{self, Count};
use crate::objective::{Allowance, Baseline, Worse};
use crate::record::baseline::Figure;

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Compared {
    /// The baseline's value: of one run its own, of several their mean (of shares, pooled).
    pub(crate) then: f64,
    /// The value now; infinite when it falls among requests without an answer.
    pub(crate) now: f64,
    /// One-sided bounds of the change, each at the confidence.
    pub(crate) bounds: [f64; 2],
    /// Chance of so good a figure if it were just over the allowance: small when surely no worse.
    pub(crate) p_no_worse: f64,
    /// Chance of so bad a figure if it were just within the allowance: small when surely worse.
    pub(crate) p_worse: f64,
    /// What noise was reckoned with, a clause.
    pub(crate) how: String,
}

/// Compares. The bounds are of the relative change for a relative allowance, else of the difference.
///
/// # Errors
/// A clause that says why the two cannot be compared.
pub(crate) fn compare(
    now: &Figure,
    then: &[&Figure],
    criterion: &Baseline,
    confidence: f64,
) -> Result<Compared, String> {
    match (now, then) {
        (Figure::Missing { why }, _) => Err(format!("of this run: {why}")),
        (_, []) => Err("no baseline was given; name earlier runs with --baseline".into()),
        (Figure::Share { .. }, _) => shares(now, then, criterion, confidence),
        _ => values(now, then, criterion, confidence),
    }
}

fn share_of(figure: &Figure) -> Result<(Count, f64, f64), String> {
    match figure {
        Figure::Share {
            bad,
            total,
            unseen,
            effective,
        } => Ok((
            Count {
                bad: *bad as f64,
                total: *total as f64,
            },
            *unseen as f64,
            *effective,
        )),
        Figure::Missing { why } => Err(format!("of a baseline run: {why}")),
        _ => Err("the baseline's figure is of another kind".into()),
    }
}

/// Shares of bad events. Counts are made smaller for their dependence, and for how much more the
/// baseline runs differ than their counts explain.
fn shares(
    now: &Figure,
    then: &[&Figure],
    criterion: &Baseline,
    confidence: f64,
) -> Result<Compared, String> {
    let (count, unseen, effective) = share_of(now)?;
    let runs: Vec<(Count, f64, f64)> = then
        .iter()
        .map(|figure| share_of(figure))
        .collect::<Result<_, _>>()?;
    let least = runs.iter().map(|run| run.2).fold(effective, f64::min);
    let made_smaller: Vec<Count> = runs.iter().map(|run| run.0.times(run.2)).collect();
    let spread = counts::overdispersion(&made_smaller);
    let pooled = Count {
        bad: runs.iter().map(|run| run.0.bad).sum(),
        total: runs.iter().map(|run| run.0.total).sum(),
    };
    let lacking: f64 = runs.iter().map(|run| run.1).sum();
    // What the evidence lacks is taken as bad now and good then for "no worse", and as good now and
    // bad then for "worse".
    let factor = least / spread;
    let worst = |count: Count, more: f64| Count {
        bad: count.bad + more,
        total: count.total + more,
    };
    let best = |count: Count, more: f64| Count {
        bad: count.bad,
        total: count.total + more,
    };
    let high = (
        worst(count, unseen).times(factor),
        best(pooled, lacking).times(factor),
    );
    let low = (
        best(count, unseen).times(factor),
        worst(pooled, lacking).times(factor),
    );
    let (bounds, p_no_worse, p_worse) = match criterion.allowance {
        Allowance::Relative(room) => (
            [
                counts::ratio(low.0, low.1, confidence).lower - 1.0,
                counts::ratio(high.0, high.1, confidence).upper - 1.0,
            ],
            counts::ratio_chances(high.0, high.1, 1.0 + room).0,
            counts::ratio_chances(low.0, low.1, 1.0 + room).1,
        ),
        Allowance::Absolute(room) => (
            [
                counts::difference(low.0, low.1, confidence).lower,
                counts::difference(high.0, high.1, confidence).upper,
            ],
            counts::difference_chances(high.0, high.1, room).0,
            counts::difference_chances(low.0, low.1, room).1,
        ),
    };
    let share = |count: Count| count.share().ok_or("no event was counted");
    let mut how = match then.len() {
        1 => "exact, of two counts".to_owned(),
        several => format!("exact, of this count and {several} pooled ones"),
    };
    if least < 1.0 {
        how.push_str(&format!(
            "; neighbouring requests depend on each other and count {least:.2} each"
        ));
    }
    if spread > 1.0 {
        how.push_str(&format!(
            "; the baseline runs spread {spread:.1} times as much as counts do"
        ));
    }
    Ok(Compared {
        then: share(pooled)?,
        now: share(count)?,
        bounds,
        p_no_worse,
        p_worse,
        how,
    })
}

fn value_of(figure: &Figure) -> Result<f64, String> {
    match figure {
        Figure::Sampled { value, .. } | Figure::Value { value, .. } => Ok(*value),
        Figure::Missing { why } => Err(format!("of a baseline run: {why}")),
        Figure::Share { .. } => Err("the baseline's figure is of another kind".into()),
    }
}

fn replicates(figure: &Figure) -> Option<(&[f64], usize)> {
    match figure {
        Figure::Sampled {
            replicates, block, ..
        } => Some((replicates, *block)),
        _ => None,
    }
}

/// Values: by the spread between several runs, never less than by the noise within them; of one run
/// by the noise within alone.
fn values(
    now: &Figure,
    then: &[&Figure],
    criterion: &Baseline,
    confidence: f64,
) -> Result<Compared, String> {
    let value = value_of(now)?;
    let values: Vec<f64> = then
        .iter()
        .map(|figure| value_of(figure))
        .collect::<Result<_, _>>()?;
    if values.iter().any(|v| !v.is_finite()) {
        return Err("a baseline's value is no finite number".into());
    }
    let relative = matches!(criterion.allowance, Allowance::Relative(_));
    if relative && !values.iter().chain([&value]).all(|v| *v > 0.0) {
        return Err(
            "a value that is 0 or less cannot be compared by a percentage; write an absolute allowance"
                .into(),
        );
    }
    let within = within(now, then, criterion, confidence);
    if values.len() == 1 {
        let found = within?;
        return Ok(Compared {
            then: values[0],
            now: value,
            ..found
        });
    }
    let between = between(value, &values, criterion, confidence)?;
    Ok(match within {
        Ok(within) => wider(between, &within),
        // Not known within; between holds by itself, since what differs within differs between.
        Err(_) => between,
    })
}

fn wider(mut between: Compared, within: &Compared) -> Compared {
    if within.p_no_worse > between.p_no_worse || within.p_worse > between.p_worse {
        between
            .how
            .push_str(&format!("; where it is more, {}", within.how));
    }
    between.bounds[0] = between.bounds[0].min(within.bounds[0]);
    between.bounds[1] = between.bounds[1].max(within.bounds[1]);
    between.p_no_worse = between.p_no_worse.max(within.p_no_worse);
    between.p_worse = between.p_worse.max(within.p_worse);
    between
}

/// By the replicates of each run.
fn within(
    now: &Figure,
    then: &[&Figure],
    criterion: &Baseline,
    confidence: f64,
) -> Result<Compared, String> {
    let sampled = |figure: &Figure| match figure {
        Figure::Value { why, .. } => Err(format!(
            "{why}, so that {} comparison needs several baseline runs",
            if then.len() > 1 { "this" } else { "a" }
        )),
        _ => Ok(()),
    };
    sampled(now)?;
    then.iter().try_for_each(|figure| sampled(figure))?;
    let (Some((current, block)), Some(runs)) = (
        replicates(now),
        then.iter()
            .map(|figure| replicates(figure))
            .collect::<Option<Vec<_>>>(),
    ) else {
        return Err("the figures are of different kinds".into());
    };
    let draws = runs
        .iter()
        .map(|run| run.0.len())
        .fold(current.len(), usize::min);
    if draws == 0 {
        return Err("no replicates were kept".into());
    }
    let mut changes = Vec::with_capacity(draws);
    let (mut not_no_worse, mut not_worse) = (0_u32, 0_u32);
    for (draw, now) in current.iter().copied().enumerate().take(draws) {
        let then = runs.iter().map(|run| run.0[draw]).sum::<f64>() / runs.len() as f64;
        let limit = criterion.limit(then);
        let within = match criterion.worse {
            Worse::Higher => now <= limit,
            Worse::Lower => now >= limit,
        };
        // Where neither is answered the one is not known to be no worse, nor to be worse.
        not_no_worse += u32::from(!within || now.is_infinite());
        not_worse += u32::from(within);
        changes.push(change(now, then, criterion));
    }
    changes.sort_by(f64::total_cmp);
    let at = |q: f64| changes[((q * draws as f64) as usize).min(draws - 1)];
    let chance = |count: u32| f64::from(count + 1) / (draws + 1) as f64;
    let blocks = runs.iter().map(|run| run.1).chain([block]);
    let (least, most) = blocks.fold((usize::MAX, 0), |(l, m), b| (l.min(b), m.max(b)));
    let stretches = if least == most {
        format!("{most}")
    } else {
        format!("{least} to {most}")
    };
    Ok(Compared {
        then: f64::NAN,
        now: f64::NAN,
        bounds: [at(1.0 - confidence), at(confidence)],
        p_no_worse: chance(not_no_worse),
        p_worse: chance(not_worse),
        how: format!("noise within the runs, by a block bootstrap over stretches of {stretches}"),
    })
}

fn change(now: f64, then: f64, criterion: &Baseline) -> f64 {
    match criterion.allowance {
        Allowance::Relative(_) if now.is_infinite() => f64::INFINITY,
        Allowance::Relative(_) => now / then - 1.0,
        Allowance::Absolute(_) => now - then,
    }
}

/// By the spread between the baseline runs; on the logarithm for a relative allowance.
fn between(
    value: f64,
    values: &[f64],
    criterion: &Baseline,
    confidence: f64,
) -> Result<Compared, String> {
    let count = values.len();
    let mean = values.iter().sum::<f64>() / count as f64;
    if count > 2 && values.iter().all(|v| *v == value) {
        return Ok(Compared {
            then: mean,
            now: value,
            bounds: [0.0, 0.0],
            p_no_worse: 0.0,
            p_worse: 1.0,
            how: format!("all {} runs have the same value", count + 1),
        });
    }
    let sign = match criterion.worse {
        Worse::Higher => 1.0,
        Worse::Lower => -1.0,
    };
    let (scaled, now, limit): (Vec<f64>, f64, f64) = match criterion.allowance {
        Allowance::Relative(room) => (
            values.iter().map(|v| libm::log(*v)).collect(),
            libm::log(value),
            libm::log((1.0 + sign * room).max(f64::MIN_POSITIVE)),
        ),
        Allowance::Absolute(room) => (values.to_vec(), value, sign * room),
    };
    let between = Between::of(&scaled)?;
    let reach = between.reach(confidence);
    let off = now - between.mean;
    let (low, high) = between.chances(now, limit);
    let (p_no_worse, p_worse) = match criterion.worse {
        Worse::Higher => (low, high),
        Worse::Lower => (high, low),
    };
    let (then, bounds) = match criterion.allowance {
        Allowance::Relative(_) => (
            libm::exp(between.mean),
            [libm::expm1(off - reach), libm::expm1(off + reach)],
        ),
        Allowance::Absolute(_) => (between.mean, [off - reach, off + reach]),
    };
    Ok(Compared {
        then,
        now: value,
        bounds,
        p_no_worse,
        p_worse,
        how: format!("spread between {count} baseline runs, Student's t"),
    })
}

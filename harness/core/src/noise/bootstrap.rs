//! The circular block bootstrap (Politis and Romano 1992): what else a run might have measured.
//!
//! Blocks of neighbouring requests are drawn with replacement and put in a row as long as the run;
//! what is dependent stays together. Each row gives one replicate of the statistic, and the spread of
//! the replicates is the noise within the run.

use statrs::distribution::{ContinuousCDF, Normal, StudentsT};

use super::dependence::block_length;
use crate::judge::stat::correlation;
use crate::schedule::random::{Purpose, Stream};

/// Replicates drawn: enough that a chance of 1 in 2,000 can be told, which fifty objectives at 95 %
/// need after their correction.
#[cfg(not(test))]
const REPLICATES: usize = 1_999;
/// In tests fewer, since they run without optimisation.
#[cfg(test)]
const REPLICATES: usize = 499;
/// Most places at which blocks may begin; longer series are cut into equal steps.
const MOST_STEPS: usize = 10_000;
/// Most candidate values for a quantile.
const CANDIDATES: usize = 256;
/// Fewest blocks in a series: with fewer, the replicates are too alike to say anything.
const FEWEST_BLOCKS: usize = 10;
/// Fewest values expected beyond a quantile, once made fewer for their dependence: with fewer, the
/// largest value of the run says too little of what lies beyond it.
const FEWEST_BEYOND: f64 = 10.0;

/// Replicates of a statistic, in the order drawn.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Replicates {
    /// One value a replicate.
    pub(crate) values: Vec<f64>,
    /// Values a block.
    pub(crate) block: usize,
}

/// Replicates of the quantile `q` by nearest rank of `values` in the order of time; infinite values
/// stand for requests without an answer.
///
/// # Errors
/// A clause that says why they would mean nothing: too few values beyond the quantile, or too few
/// blocks.
pub(crate) fn quantile(values: &[f64], q: f64, seed: u64) -> Result<Replicates, String> {
    let n = values.len();
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(found) = sorted.get(rank(n, q).saturating_sub(1)).copied() else {
        return Err("there are no requests".into());
    };
    // Both the times and the crossing of the quantile: the one shows dependence even where hardly
    // any request lies beyond, the other how those beyond come in bunches.
    let logs: Vec<f64> = values.iter().map(|v| libm::log(v.max(1e-9))).collect();
    let beyond: Vec<f64> = values
        .iter()
        .map(|v| f64::from(u8::from(*v > found)))
        .collect();
    let crossing = correlation::of_events(values.iter().map(|v| *v > found));
    let outside = n as f64 * q.min(1.0 - q) / crossing;
    if outside < FEWEST_BEYOND {
        return Err(format!(
            "only about {outside:.1} independent requests lie beyond the quantile, and {FEWEST_BEYOND} are needed"
        ));
    }
    // Twice the length that is best for the variance: what is best for the error of an interval is longer,
    // and the difference is seen in a busy queue (see `calibration`).
    let block = enough_blocks(n, 2 * block_length(&logs).max(block_length(&beyond)))?;
    let wide = spread(n, q, crossing.max(correlation::of_latencies(values)));
    let mut found_again = resample(values, &candidates(&sorted, q, wide), q, block, seed);
    widen(&mut found_again.values, found, n / block);
    Ok(found_again)
}

/// Replicates of the mean of `values` in the order of time.
///
/// # Errors
/// A clause that says why they would mean nothing: too few values or blocks.
pub(crate) fn mean(values: &[f64], seed: u64) -> Result<Replicates, String> {
    let n = values.len();
    let block = enough_blocks(n, block_length(values))?;
    let mut before = Vec::with_capacity(n + 1);
    before.push(0.0);
    let mut sum = 0.0;
    for value in values {
        sum += value;
        before.push(sum);
    }
    let mut stream = Stream::new(seed, Purpose::Noise, 0);
    let replicate = |_| {
        let mut sum = 0.0;
        each_block(&mut stream, n, block, |from, to| {
            sum += before[to] - before[from]
        });
        sum / n as f64
    };
    Ok(Replicates {
        values: (0..REPLICATES).map(replicate).collect(),
        block,
    })
}

/// Spreads replicates about `found` as much further as Student's t is wider than the normal distribution with
/// one degree of freedom fewer than there are blocks: so few do not tell their own spread well. On the
/// logarithm of the values, which keeps them positive.
fn widen(values: &mut [f64], found: f64, blocks: usize) {
    const TAIL: f64 = 0.95;
    let freedom = (blocks.max(2) - 1) as f64;
    let Ok(t) = StudentsT::new(0.0, 1.0, freedom) else {
        return;
    };
    let factor = t.inverse_cdf(TAIL) / Normal::standard().inverse_cdf(TAIL);
    if !(found > 0.0 && found.is_finite()) {
        return;
    }
    for value in values.iter_mut().filter(|v| **v > 0.0) {
        *value = found * libm::pow(*value / found, factor);
    }
}

fn enough_blocks(n: usize, block: usize) -> Result<usize, String> {
    if n / block < FEWEST_BLOCKS {
        return Err(format!(
            "{n} values that depend on each other over some {block} hold fewer than {FEWEST_BLOCKS} independent stretches"
        ));
    }
    Ok(block)
}

/// Nearest rank, from 1.
fn rank(n: usize, q: f64) -> usize {
    ((q * n as f64 - 1e-9).ceil().max(1.0) as usize).min(n)
}

/// How many ranks a replicate may lie off, generously: eight standard deviations.
fn spread(n: usize, q: f64, time: f64) -> usize {
    (8.0 * (n as f64 * q * (1.0 - q) * time).sqrt()).ceil() as usize + 8
}

/// The values that a replicate of the quantile can have, rising and each once: the order statistics
/// around it, thinned where there are many, and the largest.
fn candidates(sorted: &[f64], q: f64, wide: usize) -> Vec<f64> {
    let n = sorted.len();
    let middle = rank(n, q) - 1;
    let (low, high) = (middle.saturating_sub(wide), (middle + wide).min(n - 1));
    let every = (high - low).div_ceil(CANDIDATES).max(1);
    let mut found: Vec<f64> = sorted[low..=high].iter().step_by(every).copied().collect();
    found.push(sorted[middle]);
    found.push(sorted[n - 1]);
    found.sort_by(f64::total_cmp);
    found.dedup();
    found
}

fn resample(values: &[f64], candidates: &[f64], q: f64, block: usize, seed: u64) -> Replicates {
    let step = values.len().div_ceil(MOST_STEPS).max(1);
    let steps = values.len() / step;
    let width = candidates.len();
    // For each step, how many values before it are at or under each candidate.
    let mut before = vec![0_u32; (steps + 1) * width];
    for (at, chunk) in values.chunks_exact(step).enumerate() {
        let (done, next) = before.split_at_mut((at + 1) * width);
        next[..width].copy_from_slice(&done[at * width..]);
        for value in chunk {
            let first = candidates.partition_point(|c| c < value);
            next[first..width].iter_mut().for_each(|count| *count += 1);
        }
    }
    let block = block.div_ceil(step);
    let wanted = rank(steps * step, q) as u64;
    let mut stream = Stream::new(seed, Purpose::Noise, 0);
    let mut drawn = Vec::new();
    let replicate = |_| {
        drawn.clear();
        each_block(&mut stream, steps, block, |from, to| {
            drawn.push((from * width, to * width))
        });
        let at_or_under = |candidate: usize| -> u64 {
            let count =
                |(from, to): &(usize, usize)| before[to + candidate] - before[from + candidate];
            drawn.iter().map(|part| u64::from(count(part))).sum()
        };
        let (mut low, mut high) = (0, width - 1);
        while low < high {
            let middle = low + (high - low) / 2;
            if at_or_under(middle) >= wanted {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        candidates[low]
    };
    Replicates {
        values: (0..REPLICATES).map(replicate).collect(),
        block: block * step,
    }
}

/// Draws blocks until `n` places are filled, and gives each as `[from, to)`; one that runs over the
/// end goes on at the beginning, as two parts.
fn each_block(stream: &mut Stream, n: usize, block: usize, mut part: impl FnMut(usize, usize)) {
    let mut left = n;
    while left > 0 {
        let length = block.min(left);
        left -= length;
        let from = usize::try_from(stream.below(n as u64)).unwrap_or(0);
        let to = from + length;
        part(from, to.min(n));
        if to > n {
            part(0, to - n);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::dependence::tests::Noise;
    use super::*;

    fn times(n: usize) -> Vec<f64> {
        let mut noise = Noise(5);
        (0..n).map(|_| noise.exponential(0.01)).collect()
    }

    fn spread_of(values: &[f64]) -> f64 {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt()
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes() {
        let times = times(1_500);
        assert_eq!(quantile(&times, 0.9, 3), quantile(&times, 0.9, 3));
        assert_ne!(quantile(&times, 0.9, 3), quantile(&times, 0.9, 4));
        assert_eq!(mean(&times, 3), mean(&times, 3));
    }

    #[test]
    fn spread_is_that_of_theory() {
        let times = times(4_000);
        // A mean of n exponentials spreads by mean / √n.
        let means = mean(&times, 1).unwrap();
        assert!((spread_of(&means.values) / (0.01 / 4_000_f64.sqrt()) - 1.0).abs() < 0.15);
        // A quantile spreads by √(q (1 - q) / n) / density; of an exponential the density is (1 - q) / mean.
        let medians = quantile(&times, 0.5, 1).unwrap();
        let theory = (0.25_f64 / 4_000.0).sqrt() / (0.5 / 0.01);
        assert!((spread_of(&medians.values) / theory - 1.0).abs() < 0.25);
    }

    #[test]
    fn thinned_series_spread_alike() {
        let times = times(60_000);
        let thinned = quantile(&times, 0.99, 1).unwrap();
        let theory = (0.99_f64 * 0.01 / 60_000.0).sqrt() / (0.01 / 0.01);
        assert!((spread_of(&thinned.values) / theory - 1.0).abs() < 0.3);
    }

    #[test]
    fn too_little_is_refused() {
        assert!(quantile(&[], 0.9, 1).is_err());
        assert!(quantile(&times(500), 0.99, 1).is_err());
        assert!(quantile(&times(500), 0.5, 1).is_ok());
        assert!(mean(&times(5), 1).is_err());
        // One long wave: every value depends on all.
        let wave: Vec<f64> = (0..200).map(|n| 1.0 + f64::from(n) / 200.0).collect();
        assert!(quantile(&wave, 0.5, 1).is_err());
    }

    #[test]
    fn requests_without_an_answer_stay_in() {
        let mut times = times(2_000);
        times
            .iter_mut()
            .step_by(20)
            .for_each(|t| *t = f64::INFINITY);
        let replicates = quantile(&times, 0.95, 1).unwrap();
        let lost = replicates.values.iter().filter(|v| v.is_infinite()).count();
        assert!(lost > 200 && lost < 1_800, "{lost}");
    }
}

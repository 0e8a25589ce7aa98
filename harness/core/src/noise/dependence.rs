//! How long the blocks of a block bootstrap have to be: over how many neighbouring requests values depend
//! on each other. What such requests are worth is told by [`crate::judge::stat::correlation`].

/// Most values looked at one by one; longer series are averaged in equal batches first, which keeps
/// what is slow (queues, garbage collection) and is all that matters for blocks of that length.
const MOST: usize = 50_000;

/// Values that a block of a block bootstrap of this series, in the order of time, has to hold; at least 1.
/// Values that are not finite count as the largest finite one: a request that was never answered is slow,
/// not absent.
///
/// Politis and White (2004) with the correction of Patton, Politis and White (2009), for the circular block
/// bootstrap.
pub(crate) fn block_length(values: &[f64]) -> usize {
    let every = values.len().div_ceil(MOST).max(1);
    let series = batched(values, every);
    let alone = every;
    let n = series.len();
    if n < 16 {
        return alone;
    }
    let mean = series.iter().sum::<f64>() / n as f64;
    let centred: Vec<f64> = series.iter().map(|v| v - mean).collect();
    let variance = products(&centred, 0) / n as f64;
    if !(variance > 0.0 && variance.is_finite()) {
        return alone;
    }
    let autocovariance = lags(&centred);
    let m = autocovariance.len() - 1;
    let (mut weighted, mut long_run) = (0.0, autocovariance[0]);
    for (k, covariance) in autocovariance.iter().enumerate().skip(1) {
        // The flat-top window: whole up to half of the lags, then falling to nothing.
        let share = k as f64 / m as f64;
        let window = if share <= 0.5 {
            1.0
        } else {
            2.0 * (1.0 - share)
        };
        weighted += 2.0 * window * k as f64 * covariance;
        long_run += 2.0 * window * covariance;
    }
    if long_run <= 0.0 {
        return alone;
    }
    let count = n as f64;
    let length = libm::cbrt(1.5 * (weighted / long_run).powi(2) * count);
    let most = (3.0 * count.sqrt()).min(count / 3.0).ceil();
    let batches = length.min(most).ceil().max(1.0) as usize;
    (batches * every).min(values.len()).max(1)
}

fn batched(values: &[f64], every: usize) -> Vec<f64> {
    let largest = values.iter().copied().filter(|v| v.is_finite());
    let largest = largest.fold(0.0, f64::max);
    values
        .chunks_exact(every)
        .map(|batch| {
            let finite = batch
                .iter()
                .map(|v| if v.is_finite() { *v } else { largest });
            finite.sum::<f64>() / every as f64
        })
        .collect()
}

fn products(centred: &[f64], lag: usize) -> f64 {
    centred[lag..]
        .iter()
        .zip(centred)
        .map(|(later, earlier)| later * earlier)
        .sum()
}

/// Autocovariances from lag 0 to twice the lag after which `run` of them in a row mean nothing.
fn lags(centred: &[f64]) -> Vec<f64> {
    let n = centred.len();
    let count = n as f64;
    let digits = libm::log10(count);
    let run = (digits as usize).max(5);
    let most = (count.sqrt().ceil() as usize + run).min(n - 2);
    let noise = 2.0 * (digits / count).sqrt();
    let all = products(centred, 0);
    let (mut head, mut tail) = (all, all);
    let mut found = Vec::with_capacity(64);
    let mut quiet = 0;
    let mut wanted = most;
    for lag in 0..=most {
        let product = products(centred, lag);
        found.push(product / count);
        // Sums of squares of the two overlapping parts, as in a correlation of the two.
        head -= centred[lag] * centred[lag];
        tail -= centred[n - 1 - lag] * centred[n - 1 - lag];
        if wanted == most {
            let scale = (head * tail).max(0.0).sqrt();
            let correlation = if scale > 0.0 {
                product.abs() / scale
            } else {
                0.0
            };
            quiet = if correlation < noise { quiet + 1 } else { 0 };
            if quiet == run {
                wanted = (2 * (lag + 1 - run)).clamp(2, most);
            }
        }
        if wanted < most && lag >= wanted {
            break;
        }
    }
    found.truncate(wanted + 1);
    found
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// SplitMix64, as numbers in `[0, 1)`.
    pub(crate) struct Noise(pub(crate) u64);

    impl Noise {
        pub(crate) fn unit(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }

        pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
            -mean * (1.0 - self.unit()).ln()
        }

        /// Irwin–Hall with twelve terms: normal enough, and the same on every machine.
        pub(crate) fn normal(&mut self) -> f64 {
            (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
        }
    }

    /// Autoregression of order one.
    fn chain(noise: &mut Noise, n: usize, rho: f64) -> Vec<f64> {
        let mut value = 0.0;
        (0..n)
            .map(|_| {
                value = rho * value + noise.normal();
                value
            })
            .collect()
    }

    #[test]
    fn blocks_are_as_long_as_the_reference_says() {
        // From arch 8 (Python), `optimal_block_length(x)["circular"]`, on these very series.
        for (rho, n, expected) in REFERENCE {
            let series = chain(&mut Noise(1), n, rho);
            let block = block_length(&series);
            assert_eq!(block, expected.ceil().max(1.0) as usize, "rho {rho}, n {n}");
        }
    }

    /// `(rho, n, block length)`.
    const REFERENCE: [(f64, usize, f64); 4] = [
        (0.0, 1_000, 2.614_751_5),
        (0.5, 1_000, 14.258_739),
        (0.9, 1_000, 51.580_645),
        (0.9, 5_000, 101.272_051),
    ];

    #[test]
    fn odd_series_are_taken() {
        assert_eq!(block_length(&[]), 1);
        assert_eq!(block_length(&[1.0; 3]), 1);
        assert_eq!(block_length(&[1.0; 300]), 1);
        assert_eq!(block_length(&[f64::INFINITY; 300]), 1);
        let mut some = chain(&mut Noise(3), 300, 0.5);
        some[10] = f64::INFINITY;
        some[11] = f64::NAN;
        assert!(block_length(&some) >= 1);
        assert!(block_length(&chain(&mut Noise(4), 120_000, 0.5)) >= 3);
    }
}

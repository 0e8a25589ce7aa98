//! The element-wise work between the multiplications. Plain loops without calls or branches in their bodies: the compiler vectorises
//! them, which it cannot do to the library's `exp` and `erf`.

use super::super::Norm;

/// Adds `from` to `to`, element by element.
#[inline(always)]
pub(in crate::model::bert) fn add(to: &mut [f32], from: &[f32]) {
    for (a, b) in to.iter_mut().zip(from) {
        *a += b;
    }
}

/// `e^x` for `x` at most 0, to about 2e-7 relative; below -87 it is `e^-87`, which no sum notices.
///
/// Cody–Waite reduction `x = n ln 2 + r` with `|r| ≤ ln 2 / 2`, Taylor's polynomial to the sixth
/// power of `r`, and `2^n` put together from bits. Adding and taking away 1.5 · 2²³ rounds to the
/// nearest integer without a call, and leaves that integer in the low bits of the sum.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0;
    // Not `max`, which would make a number of what is none.
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * 0.693_359_4) + n * 2.121_944_4e-4;
    let mut p = 1.0 / 720.0;
    for c in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        p = p * r + c;
    }
    p * f32::from_bits((shifted.to_bits().wrapping_add(127)) << 23)
}

/// The error function to 2e-6 absolute: Abramowitz and Stegun, 7.1.28. The formula is exact to 3e-7;
/// its sixteenth power multiplies the rounding of single precision.
#[inline(always)]
fn erf(x: f32) -> f32 {
    let a = x.abs();
    let mut p = 0.000_043_063_8;
    for c in [
        0.000_276_567_2,
        0.000_152_014_3,
        0.009_270_527,
        0.042_282_01,
        0.070_523_076,
        1.0,
    ] {
        p = p * a + c;
    }
    let p2 = p * p;
    let p4 = p2 * p2;
    let p8 = p4 * p4;
    (1.0 - 1.0 / (p8 * p8)).copysign(x)
}

/// `0.5 · x · (1 + erf(x / √2))` of every element.
#[inline(always)]
pub(in crate::model::bert) fn gelu(row: &mut [f32]) {
    for x in row.iter_mut() {
        *x = 0.5 * *x * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// Softmax of `scale` times the row.
#[inline(always)]
pub(in crate::model::bert) fn softmax(row: &mut [f32], scale: f32) {
    let max = lanes(row, f32::NEG_INFINITY, f32::max);
    for v in row.iter_mut() {
        *v = exp((*v - max) * scale);
    }
    let inverse = 1.0 / lanes(row, 0.0, |a, b| a + b);
    for v in row.iter_mut() {
        *v *= inverse;
    }
}

/// Brings a row to mean 0 and variance 1, then scales and shifts it.
#[inline(always)]
pub(in crate::model::bert) fn normalise(row: &mut [f32], norm: &Norm) {
    let n = row.len() as f32;
    let mean = lanes(row, 0.0, |a, b| a + b) / n;
    for v in row.iter_mut() {
        *v -= mean;
    }
    let inverse = 1.0 / (squares(row) / n + norm.epsilon).sqrt();
    for ((v, scale), shift) in row.iter_mut().zip(&norm.scale).zip(&norm.shift) {
        *v = *v * inverse * scale + shift;
    }
}

/// Folds a row in sixteen independent lanes, since floating-point sums in order cannot be vectorised.
#[inline(always)]
fn lanes(row: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = [start; 16];
    let chunks = row.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum = join(*sum, *v);
        }
    }
    let all = sums.iter().chain(rest);
    all.fold(start, |sum, v| join(sum, *v))
}

#[inline(always)]
fn squares(row: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let chunks = row.chunks_exact(16);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (sum, v) in sums.iter_mut().zip(chunk) {
            *sum += v * v;
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|v| v * v).sum::<f32>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_and_erf_are_close_to_the_library() {
        for i in 0..=8700 {
            let x = -(i as f32) / 100.0;
            let error = (f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs();
            assert!(error < 5e-7, "exp({x}) is off by {error}");
        }
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
        for i in -1000..=1000 {
            let x = i as f32 / 100.0;
            let error = (f64::from(erf(x)) - candle_core::cpu::erf::erf_f64(f64::from(x))).abs();
            assert!(error < 2e-6, "erf({x}) is off by {error}");
        }
        assert_eq!(erf(1e30), 1.0);
        assert_eq!(erf(-1e30), -1.0);
    }

    #[test]
    fn softmax_of_large_and_equal_scores_is_finite() {
        for length in [1, 3, 16, 37] {
            let mut row = vec![1e30; length];
            softmax(&mut row, 0.125);
            assert!(row.iter().all(|v| (v - 1.0 / length as f32).abs() < 1e-6));
        }
        let mut row = [0.0, -1e9, f32::ln(3.0)];
        softmax(&mut row, 1.0);
        for (v, want) in row.iter().zip([0.25, 0.0, 0.75]) {
            assert!((v - want).abs() < 1e-6, "{row:?}");
        }
    }

    #[test]
    fn numbers_that_are_none_stay_visible() {
        let mut row = [1.0, f32::NAN, 2.0];
        gelu(&mut row);
        assert!(row[1].is_nan());
        let mut row = [1.0, f32::NAN, 2.0];
        softmax(&mut row, 1.0);
        assert!(row.iter().any(|v| v.is_nan()), "{row:?}");
    }

    #[test]
    fn normalised_rows_have_mean_zero_and_variance_one() {
        let norm = Norm {
            scale: vec![1.0; 37],
            shift: vec![0.0; 37],
            epsilon: 0.0,
        };
        let mut row: Vec<f32> = (0..37).map(|i| (i * i) as f32).collect();
        normalise(&mut row, &norm);
        let mean: f32 = row.iter().sum::<f32>() / 37.0;
        assert!(mean.abs() < 1e-5 && (squares(&row) / 37.0 - 1.0).abs() < 1e-4);
    }
}

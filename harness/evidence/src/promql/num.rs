//! Floating point as Prometheus computes it: compensated sums, Go's `math.Min`, quantiles, printing.

/// A sum with Kahan-Neumaier compensation.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Kahan {
    pub(super) sum: f64,
    pub(super) c: f64,
}

impl Kahan {
    pub(super) fn new(sum: f64) -> Self {
        Kahan { sum, c: 0.0 }
    }

    pub(super) fn add(&mut self, inc: f64) {
        let t = self.sum + inc;
        if t.is_infinite() {
            self.c = 0.0;
        } else if self.sum.abs() >= inc.abs() {
            self.c += (self.sum - t) + inc;
        } else {
            self.c += (inc - t) + self.sum;
        }
        self.sum = t;
    }

    pub(super) fn value(self) -> f64 {
        if self.sum.is_infinite() {
            self.sum
        } else {
            self.sum + self.c
        }
    }
}

/// The mean of values that come one by one. It sums while the sum stays finite, which is exact for
/// integers, and falls back to a running mean when it overflows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mean {
    n: f64,
    sum: Kahan,
    running: bool,
}

impl Mean {
    pub(super) fn new(first: f64) -> Self {
        Mean {
            n: 1.0,
            sum: Kahan::new(first),
            running: false,
        }
    }

    pub(super) fn add(&mut self, v: f64) {
        self.n += 1.0;
        if !self.running {
            let mut next = self.sum;
            next.add(v);
            if !next.sum.is_infinite() {
                self.sum = next;
                return;
            }
            self.running = true;
            self.sum.sum /= self.n - 1.0;
            self.sum.c /= self.n - 1.0;
        }
        let q = (self.n - 1.0) / self.n;
        self.sum = Kahan {
            sum: q * self.sum.sum,
            c: q * self.sum.c,
        };
        self.sum.add(v / self.n);
    }

    pub(super) fn value(self) -> f64 {
        if self.running {
            self.sum.sum + self.sum.c
        } else {
            self.sum.sum / self.n + self.sum.c / self.n
        }
    }
}

/// Population variance by Welford's method with compensated sums.
pub(super) fn variance(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut n, mut mean, mut aux) = (0.0, Kahan::default(), Kahan::default());
    for v in values {
        n += 1.0;
        let delta = v - (mean.sum + mean.c);
        mean.add(delta / n);
        aux.add(delta * (v - (mean.sum + mean.c)));
    }
    (aux.sum + aux.c) / n
}

/// Go's `math.Max`: an infinity wins over NaN, NaN over everything else.
pub(super) fn go_max(a: f64, b: f64) -> f64 {
    if a == f64::INFINITY || b == f64::INFINITY {
        f64::INFINITY
    } else if a.is_nan() || b.is_nan() {
        f64::NAN
    } else if a == 0.0 && b == 0.0 {
        if a.is_sign_negative() { b } else { a }
    } else {
        a.max(b)
    }
}

/// Go's `math.Min`.
pub(super) fn go_min(a: f64, b: f64) -> f64 {
    -go_max(-a, -b)
}

/// The q-quantile by linear interpolation between the closest ranks; NaN sorts lowest.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_by(|a, b| match (a.is_nan(), b.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Less,
        (false, true) => std::cmp::Ordering::Greater,
        _ => a.total_cmp(b),
    });
    let rank = q * (values.len() - 1) as f64;
    let lower = rank.floor().max(0.0) as usize;
    let upper = (lower + 1).min(values.len() - 1);
    let weight = rank - rank.floor();
    values[lower] * (1.0 - weight) + values[upper] * weight
}

/// Slope per second and value at `at_ms` of the least-squares line through the samples.
pub(super) fn regression(times: &[i64], values: &[f64], at_ms: i64) -> (f64, f64) {
    let first = values[0];
    if values.iter().all(|&v| v == first) {
        return if first.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, first)
        };
    }
    let n = values.len() as f64;
    let [mut sx, mut sy, mut sxy, mut sx2] = [Kahan::default(); 4];
    for (&t, &y) in times.iter().zip(values) {
        let x = (t - at_ms) as f64 / 1e3;
        sx.add(x);
        sy.add(y);
        sxy.add(x * y);
        sx2.add(x * x);
    }
    let full = |k: Kahan| k.sum + k.c;
    let (sx, sy, sxy, sx2) = (full(sx), full(sy), full(sxy), full(sx2));
    let slope = (sxy - sx * sy / n) / (sx2 - sx * sx / n);
    (slope, sy / n - slope * sx / n)
}

/// A value as the HTTP API prints it: shortest digits, an exponent only below 1e-6 or from 1e21 on.
pub(crate) fn format_value(v: f64) -> String {
    if v.is_nan() {
        return "NaN".into();
    }
    if v.is_infinite() {
        return if v > 0.0 { "+Inf" } else { "-Inf" }.into();
    }
    let a = v.abs();
    if a != 0.0 && !(1e-6..1e21).contains(&a) {
        go_exponent(v)
    } else {
        v.to_string()
    }
}

/// As Go's `%g` and `strconv.FormatFloat(v, 'f', -1, 64)` users see it in messages.
pub(super) fn format_plain(v: f64) -> String {
    if v.is_finite() {
        v.to_string()
    } else {
        format_value(v)
    }
}

fn go_exponent(v: f64) -> String {
    let s = format!("{v:e}");
    match s.split_once('e') {
        Some((m, e)) => {
            let (sign, digits) = e.strip_prefix('-').map_or(('+', e), |d| ('-', d));
            format!("{m}e{sign}{digits:0>2}")
        }
        None => s,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_keep_what_plain_addition_loses() {
        let mut k = Kahan::default();
        for v in [1.0, 1e100, 1.0, -1e100] {
            k.add(v);
        }
        assert_eq!(k.value(), 2.0);
        let mut m = Mean::new(f64::MAX);
        m.add(f64::MAX);
        assert_eq!(m.value(), f64::MAX);
    }

    #[test]
    fn min_and_max_follow_go() {
        assert!(go_max(f64::NAN, 1.0).is_nan());
        assert_eq!(go_max(f64::NAN, f64::INFINITY), f64::INFINITY);
        assert_eq!(go_min(f64::NEG_INFINITY, f64::NAN), f64::NEG_INFINITY);
        assert_eq!(go_min(1.0, 2.0), 1.0);
    }

    #[test]
    fn values_print_as_the_api_does() {
        for (v, want) in [
            (1.0, "1"),
            (0.085_714_285_714_285_73, "0.08571428571428573"),
            (1e-7, "1e-07"),
            (1e20, "100000000000000000000"),
            (2.5e21, "2.5e+21"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(format_value(v), want);
        }
    }
}

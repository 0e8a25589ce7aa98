//! The spread between several runs of one thing, and where one more run should fall.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The mean of several runs and how far one further run may lie from it by chance.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Between {
    /// Mean of the runs.
    pub(crate) mean: f64,
    /// Standard deviation of the difference between one further run and the mean:
    /// `s·√(1 + 1/m)`, not 0.
    pub(crate) deviation: f64,
    /// Degrees of freedom, `m - 1`.
    pub(crate) freedom: f64,
}

impl Between {
    /// Of at least two runs.
    ///
    /// # Errors
    /// A clause that says why there is no spread to judge by: fewer than two runs, or all of one value.
    pub(crate) fn of(runs: &[f64]) -> Result<Self, String> {
        let m = runs.len();
        if m < 2 {
            return Err("one run shows no spread between runs".into());
        }
        if runs.iter().any(|v| !v.is_finite()) {
            return Err("a baseline's value is no finite number".into());
        }
        let mean = runs.iter().sum::<f64>() / m as f64;
        let squares: f64 = runs.iter().map(|v| (v - mean).powi(2)).sum();
        let deviation = (squares / (m - 1) as f64 * (1.0 + 1.0 / m as f64)).sqrt();
        if deviation <= mean.abs() * 1e-12 {
            return Err(format!(
                "all {m} baseline runs have the same value, so that their noise is not known"
            ));
        }
        Ok(Self {
            mean,
            deviation,
            freedom: (m - 1) as f64,
        })
    }

    /// How far one further run may lie from the mean to one side, at `confidence`.
    pub(crate) fn reach(&self, confidence: f64) -> f64 {
        self.deviation
            * self
                .student()
                .map_or(f64::INFINITY, |t| t.inverse_cdf(confidence))
    }

    /// Chances that a further run lies `(so low, so high)` if its true distance from the mean were `limit`.
    pub(crate) fn chances(&self, value: f64, limit: f64) -> (f64, f64) {
        let t = (value - self.mean - limit) / self.deviation;
        self.student()
            .map_or((1.0, 1.0), |student| (student.cdf(t), student.cdf(-t)))
    }

    fn student(&self) -> Option<StudentsT> {
        StudentsT::new(0.0, 1.0, self.freedom).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_hand() {
        // Mean 12, s = 2, m = 3: the deviation is 2·√(4/3), and t with 2 degrees at 95 % is 2.919986.
        let between = Between::of(&[10.0, 12.0, 14.0]).unwrap();
        assert!((between.mean - 12.0).abs() < 1e-12);
        let reach = between.reach(0.95);
        assert!(
            (reach - 2.919_986 * 2.0 * (4.0_f64 / 3.0).sqrt()).abs() < 1e-4,
            "{reach}"
        );
        let (low, high) = between.chances(12.0 + reach, 0.0);
        assert!((high - 0.05).abs() < 1e-6 && (low - 0.95).abs() < 1e-6);
    }

    #[test]
    fn without_spread_nothing_is_known() {
        assert!(Between::of(&[]).is_err());
        assert!(Between::of(&[1.0]).is_err());
        assert!(Between::of(&[1.0, 1.0, 1.0]).is_err());
        assert!(Between::of(&[0.0, 0.0]).is_err());
        assert!(Between::of(&[1.0, f64::INFINITY]).is_err());
    }
}

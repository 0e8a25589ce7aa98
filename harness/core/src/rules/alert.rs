//! Windows and burn rates of the SRE workbook's alerts.

/// One pair of windows.
pub(super) struct Alert {
    /// Must be over the rate as well, so that the alert ends soon after its cause.
    pub(super) short: &'static str,
    /// Must be over the rate, so that a blip does not raise it.
    pub(super) long: &'static str,
    /// Share of the period's budget that burns within the long window, in percent.
    pub(super) percent: f64,
    /// `page` or `ticket`.
    pub(super) severity: &'static str,
}

/// Table 5-8 of the workbook, and its fourth row split off `6h`/`3d` as the text has it.
pub(super) const ALERTS: [Alert; 4] = [
    Alert {
        short: "5m",
        long: "1h",
        percent: 2.0,
        severity: "page",
    },
    Alert {
        short: "30m",
        long: "6h",
        percent: 5.0,
        severity: "page",
    },
    Alert {
        short: "2h",
        long: "1d",
        percent: 10.0,
        severity: "ticket",
    },
    Alert {
        short: "6h",
        long: "3d",
        percent: 10.0,
        severity: "ticket",
    },
];

/// Length of one of the windows above, seconds.
pub(super) fn seconds(window: &str) -> u64 {
    let (digits, unit) = window.split_at(window.len() - 1);
    let unit = match unit {
        "m" => 60,
        "h" => 3_600,
        _ => 86_400,
    };
    digits.parse::<u64>().map_or(0, |count| count * unit)
}

/// How many times faster than the budget allows errors come when the alert's share of it burns within
/// the long window: `percent / 100 · period / long`; 14.4, 6, 3 and 1 for 30 days. Never under 1,
/// where the budget would last the period.
pub(super) fn burn_rate(alert: &Alert, period: u64) -> f64 {
    let rate = alert.percent * period as f64 / (100.0 * seconds(alert.long) as f64);
    ((rate * 1e6).round() / 1e6).max(1.0)
}

impl Alert {
    /// Both windows over the rate.
    pub(super) fn expr(&self, selector: &str, factor: f64, budget: f64) -> String {
        let over = |window: &str| {
            format!("slo:sli_error:ratio_rate{window}{selector} > ({factor} * {budget})")
        };
        format!("({} and {})", over(self.short), over(self.long))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirty_days_give_the_numbers_of_the_workbook() {
        let rates = ALERTS.map(|alert| burn_rate(&alert, 30 * 86_400));
        assert_eq!(rates, [14.4, 6.0, 3.0, 1.0]);
        let rates = ALERTS.map(|alert| burn_rate(&alert, 28 * 86_400));
        assert_eq!(rates, [13.44, 5.6, 2.8, 1.0]);
    }
}

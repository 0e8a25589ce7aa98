//! The rule file's text. Strings are written as JSON, which is YAML, or as a block when they are long;
//! so there is nothing that could be misread.

use std::fmt::Write as _;

/// A rule group being written.
pub(super) struct Group {
    name: String,
    interval: Option<&'static str>,
    rules: String,
}

/// A string in double quotes, as YAML and PromQL both read it.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

impl Group {
    pub(super) fn new(slo: &str) -> Self {
        Self {
            name: format!("slo-{slo}"),
            interval: None,
            rules: String::new(),
        }
    }

    /// Evaluated so often instead of as often as the server does.
    pub(super) fn every(mut self, interval: &'static str) -> Self {
        self.interval = Some(interval);
        self
    }

    /// A recording rule.
    pub(super) fn record(&mut self, name: &str, expr: &str, labels: &[(&'static str, String)]) {
        self.put(&format!("      - record: {name}\n"));
        self.expr(expr);
        self.labels(labels);
    }

    /// An alert.
    pub(super) fn alert(
        &mut self,
        name: &str,
        expr: &str,
        severity: &'static str,
        labels: &[(&'static str, String)],
        summary: &str,
    ) {
        self.put(&format!("      - alert: {name}\n"));
        self.expr(expr);
        if name == "SLOWithoutData" {
            self.put("        for: 15m\n");
        }
        let mut all = vec![("severity", severity.to_owned())];
        all.extend(labels.iter().cloned());
        self.labels(&all);
        // Alert templates would expand `{{`; a name must not.
        let summary = summary.replace("{{", "{ {");
        self.put(&format!(
            "        annotations:\n          summary: {}\n",
            quoted(&summary)
        ));
    }

    fn put(&mut self, text: &str) {
        self.rules.push_str(text);
    }

    fn expr(&mut self, expr: &str) {
        self.put("        expr: |\n");
        for line in expr.lines() {
            self.put(&format!("          {line}\n"));
        }
    }

    fn labels(&mut self, labels: &[(&'static str, String)]) {
        self.put("        labels:\n");
        for (name, value) in labels {
            let value = value.replace("{{", "{ {");
            self.put(&format!("          {name}: {}\n", quoted(&value)));
        }
    }
}

/// The whole file.
pub(super) fn file(groups: &[Group], left_out: &[(String, String)]) -> String {
    let mut out = String::from(
        "# Made by `harness export rules` from OpenSLO objectives; do not edit.\n\
         # Windows and burn rates: Google SRE workbook, chapter 5, scaled to each SLO's period.\n",
    );
    for (name, why) in left_out {
        // Writing into a `String` cannot fail.
        let _ = writeln!(out, "# Left out: {}: {}", plain(name), plain(why));
    }
    if groups.is_empty() {
        out.push_str("groups: []\n");
        return out;
    }
    out.push_str("groups:\n");
    for group in groups {
        let _ = writeln!(out, "  - name: {}", quoted(&group.name));
        if let Some(interval) = group.interval {
            let _ = writeln!(out, "    interval: {interval}");
        }
        let _ = writeln!(out, "    rules:\n{}", group.rules.trim_end());
    }
    out
}

/// Text that stays in its comment line.
fn plain(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{85}') {
                ' '
            } else {
                c
            }
        })
        .collect()
}

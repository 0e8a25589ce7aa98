//! Everything that makes a scenario impossible, found before the first request: a rule per
//! function, in the order of the scenario's keys.

use std::collections::BTreeSet;

use super::{AbortRule, Dur, FEWEST_ROWS, Fault, FaultKind, Scenario};

mod load;
mod request;
mod target;

/// One thing wrong, before its place in the text is known.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) key: String,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Collects flaws.
#[derive(Default)]
struct Found(Vec<Flaw>);

impl Found {
    fn add(&mut self, key: impl Into<String>, message: impl Into<String>, hint: impl Into<String>) {
        let hint = hint.into();
        self.0.push(Flaw {
            key: key.into(),
            message: message.into(),
            hint: (!hint.is_empty()).then_some(hint),
        });
    }

    fn not_zero(&mut self, key: impl Into<String>, value: Dur) {
        if value.nanos() == 0 {
            self.add(key, "must be longer than zero", "write for instance 10s");
        }
    }
}

/// Whether a text still waits for an environment variable.
fn waits(text: &str) -> bool {
    text.contains("${")
}

impl Scenario {
    pub(super) fn flaws(&self) -> Vec<Flaw> {
        let mut found = Found::default();
        if self.api_version != "harness/v1" {
            found.add(
                "apiVersion",
                format!("`{}` is not supported", self.api_version),
                "write harness/v1",
            );
        }
        if self.kind != "Scenario" {
            found.add(
                "kind",
                format!("`{}` is not a scenario", self.kind),
                "write Scenario",
            );
        }
        let name = &self.metadata.name;
        if !is_label(name) {
            found.add(
                "metadata.name",
                format!("`{name}` is not a name"),
                "lower-case letters, digits and `-`, at most 63, beginning and ending with a letter or digit",
            );
        }
        for (index, slo) in self.spec.slo.iter().enumerate() {
            if slo.is_empty() {
                found.add(
                    format!("spec.slo[{index}]"),
                    "is empty",
                    "name an OpenSLO file or directory",
                );
            }
        }
        target::target(&self.spec.target, &mut found);
        target::telemetry(&self.spec.telemetry, &self.spec.target, &mut found);
        if !(0.0..=1.0).contains(&self.spec.trace.sampled) {
            found.add(
                "spec.trace.sampled",
                format!("{} is not a share", self.spec.trace.sampled),
                "from 0 to 1",
            );
        }
        request::requests(self, &mut found);
        load::loads(self, &mut found);
        self.faults(&mut found);
        found.not_zero(
            "spec.validity.lateSends.over",
            self.spec.validity.late_sends.over,
        );
        self.timer_slack(&mut found);
        self.rows(&mut found);
        for (index, rule) in self.spec.abort.iter().enumerate() {
            abort(&format!("spec.abort[{index}]"), rule, &mut found);
        }
        found.0
    }

    /// What pacing itself holds a request back must be far from what counts as late.
    fn timer_slack(&self, found: &mut Found) {
        let (slack, late) = (self.spec.timer_slack(), self.spec.validity.late_sends.over);
        if slack.0 > late.0 / 2 {
            found.add(
                "spec.timerSlack",
                format!("`{slack}` is more than half of validity.lateSends.over, `{late}`: requests that wait for others would count as sent late"),
                "leave it out (1ms), or write 0s where every request is to be sent at its instant",
            );
        }
    }

    fn rows(&self, found: &mut Found) {
        let rows = self.spec.record.rows;
        if rows < FEWEST_ROWS {
            found.add(
                "spec.record.rows",
                format!("{rows} rows tell next to nothing of a run"),
                format!("at least {FEWEST_ROWS}; leave it out for 1,000,000"),
            );
        }
    }

    fn faults(&self, found: &mut Found) {
        let ends = (0..self.spec.loads.len()).map(|load| self.load_end(load).0);
        let end = ends.max().unwrap_or(0);
        for (index, fault) in self.spec.faults.iter().enumerate() {
            let key = format!("spec.faults[{index}]");
            if self.spec.target.start.is_none() {
                found.add(
                    key.clone(),
                    "faults are put only on a target that the harness starts",
                    "add spec.target.start, or take the fault out",
                );
            }
            check_fault(&key, fault, end, found);
        }
    }
}

fn is_label(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    name.len() <= 63
        && name.bytes().all(|b| plain(b) || b == b'-')
        && name.bytes().next().is_some_and(plain)
        && name.bytes().last().is_some_and(plain)
}

fn name_is_new<'a>(key: &str, name: &'a str, names: &mut BTreeSet<&'a str>, found: &mut Found) {
    if name.is_empty() || name.chars().any(char::is_control) {
        found.add(
            format!("{key}.name"),
            "is not a name",
            "a short text without control characters",
        );
    } else if !names.insert(name) {
        found.add(
            format!("{key}.name"),
            format!("`{name}` is used twice"),
            "give each its own name",
        );
    }
}

/// What the judge asks backends with, and looks answers up by, cannot wait for the environment: the
/// run is judged from its directory, where the environment is not.
fn without_variables(key: String, text: &str, hint: &str, found: &mut Found) {
    if waits(text) || text.contains("$$") {
        found.add(
            key,
            "takes neither `${…}` nor `$$`: a run is judged again where the variable is not known",
            hint,
        );
    }
}

/// A token of RFC 9110, as header names are.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

fn check_fault(key: &str, fault: &Fault, end: u64, found: &mut Found) {
    found.not_zero(format!("{key}.for"), fault.length);
    if fault.at.nanos() >= end {
        found.add(
            format!("{key}.at"),
            "lies after the end of the load",
            "earlier",
        );
    }
    let adds = matches!(fault.kind, FaultKind::Latency);
    match fault.add {
        None if adds => found.add(
            key,
            "a latency fault needs `add`",
            "add for instance add: 300ms",
        ),
        Some(_) if !adds => found.add(
            format!("{key}.add"),
            "only a latency fault adds time",
            "take it out",
        ),
        Some(add) => found.not_zero(format!("{key}.add"), add),
        None => {}
    }
    let shared = matches!(
        fault.kind,
        FaultKind::Latency | FaultKind::Errors | FaultKind::WrongAnswers
    );
    if fault.share.is_some() && !shared {
        found.add(
            format!("{key}.share"),
            "this kind of fault meets all requests",
            "take it out",
        );
    }
}

fn abort(key: &str, rule: &AbortRule, found: &mut Found) {
    found.not_zero(format!("{key}.over"), rule.over);
    if let Err(message) = rule.condition() {
        found.add(
            format!("{key}.when"),
            message,
            "write for instance error_ratio > 0.5, or p99 > 2s",
        );
    }
}

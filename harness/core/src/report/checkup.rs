//! What `harness doctor` found, as data and for a terminal.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::json::inert;
use super::model::Verdict;
use super::terminal::canvas::{Canvas, Tone, tone};
use super::text;

/// Version of what `harness doctor --format json` prints.
pub const CHECKUP_SCHEMA: &str = "harness.checkup/v1";

/// Columns of the area's name.
const AREA: usize = 11;

/// How one check came out.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it must be.
    Ok,
    /// A run would work, and something may surprise.
    Warn,
    /// A run would end without a verdict.
    Fail,
}

/// One line of a checkup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Check {
    /// Whom it is about: `generator`, `target`, `prometheus`, `loki`, `tempo`, `objectives`.
    pub area: String,
    /// What was looked at, e.g. `reachable`, `clock`, `traceparent`.
    pub name: String,
    /// How it came out.
    pub state: State,
    /// What was found. Untrusted.
    pub said: String,
    /// What would be right, where it is not.
    pub hint: Option<String>,
}

/// All lines of a checkup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Checkup {
    /// [`CHECKUP_SCHEMA`].
    pub schema: String,
    /// The scenario's name.
    pub scenario: String,
    /// 0 when nothing failed, 2 when something is set up wrongly, 13 and 14 when a backend or the
    /// target cannot be reached.
    pub exit_code: u8,
    /// The checks, in the order in which they were made.
    pub checks: Vec<Check>,
}

impl Checkup {
    /// Nothing looked at yet.
    #[must_use]
    pub fn new(scenario: &str) -> Self {
        Self {
            schema: CHECKUP_SCHEMA.to_owned(),
            scenario: scenario.to_owned(),
            exit_code: 0,
            checks: Vec::new(),
        }
    }

    /// Adds a line. A failed one sets the exit code to 2, unless something worse is there.
    pub fn add(&mut self, area: &str, name: &str, state: State, said: String, hint: Option<&str>) {
        if state == State::Fail {
            self.exit_code = self.exit_code.max(2);
        }
        self.checks.push(Check {
            area: area.to_owned(),
            name: name.to_owned(),
            state,
            said,
            hint: hint.filter(|_| state != State::Ok).map(str::to_owned),
        });
    }

    /// The worst of all lines.
    #[must_use]
    pub fn worst(&self) -> State {
        let states = self.checks.iter().map(|check| check.state);
        states.max().unwrap_or(State::Ok)
    }

    /// As indented JSON.
    #[must_use]
    pub fn json(&self) -> String {
        inert(self)
    }

    /// For a terminal of `width` columns (at least 60), with ANSI colours if `color`.
    #[must_use]
    pub fn text(&self, width: usize, color: bool) -> String {
        let mut canvas = Canvas::new(width.max(60), color);
        for check in &self.checks {
            let area = text::fit(&text::name(&check.area), AREA);
            let area = format!("{area}{}", " ".repeat(AREA + 1 - text::width(&area)));
            let label = format!("{:<5}{area}", word(check.state));
            let said = format!("{}: {}", text::name(&check.name), text::line(&check.said));
            canvas.hanging(0, tone(verdict(check.state)), &label, &said);
            if let Some(hint) = &check.hint {
                let indent = AREA + 6;
                canvas.text(indent, Tone::Bold, &format!("→ {}", text::line(hint)));
            }
        }
        canvas.blank();
        canvas.line(&[
            (Tone::Banner(verdict(self.worst())), &self.banner()),
            (Tone::Bold, &format!(" {}", text::name(&self.scenario))),
            (Tone::Plain, &format!(": {}", self.gist())),
        ]);
        canvas.finish()
    }

    fn banner(&self) -> String {
        format!(" {} ", word(self.worst()).to_uppercase())
    }

    fn gist(&self) -> String {
        let of = |state| self.checks.iter().filter(|c| c.state == state).count();
        let (fail, warn) = (of(State::Fail), of(State::Warn));
        let checks = text::plural(self.checks.len(), "check", "checks");
        match (fail, warn) {
            (0, 0) => format!("all {checks} are well"),
            (0, warn) => format!(
                "{} of {checks}, none failed",
                text::plural(warn, "warning", "warnings")
            ),
            (fail, _) => format!("{fail} of {checks} failed"),
        }
    }
}

fn word(state: State) -> &'static str {
    match state {
        State::Ok => "ok",
        State::Warn => "warn",
        State::Fail => "fail",
    }
}

/// Whose colours a state wears.
fn verdict(state: State) -> Verdict {
    match state {
        State::Ok => Verdict::Pass,
        State::Warn => Verdict::Inconclusive,
        State::Fail => Verdict::Fail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_how_it_is_and_what_would_be_right() {
        let mut checkup = Checkup::new("quickstart");
        checkup.add(
            "generator",
            "cores",
            State::Ok,
            "2".into(),
            Some("not shown"),
        );
        assert_eq!((checkup.worst(), checkup.exit_code), (State::Ok, 0));
        checkup.add(
            "loki",
            "clock",
            State::Warn,
            "3.2 s behind ours".into(),
            Some("synchronise the clocks (NTP)"),
        );
        assert_eq!((checkup.worst(), checkup.exit_code), (State::Warn, 0));
        checkup.add(
            "tempo",
            "traceparent",
            State::Fail,
            "no span under ours".into(),
            None,
        );
        assert_eq!((checkup.worst(), checkup.exit_code), (State::Fail, 2));
        insta::assert_snapshot!("checkup", checkup.text(80, false));
        let read: Checkup = serde_json::from_str(&checkup.json()).unwrap();
        assert_eq!(read, checkup);
    }

    #[test]
    fn what_backends_say_cannot_steer_the_terminal() {
        let evil = "\x1b[2J\u{202e}\r\n<script>".repeat(4_000);
        let mut checkup = Checkup::new(&evil);
        checkup.add(&evil, &evil, State::Fail, evil.clone(), Some(&evil));
        let shown = checkup.text(80, false);
        assert!(
            shown
                .chars()
                .all(|c| c == '\n' || !(c.is_control() || text::is_hidden(c)))
        );
        assert!(shown.lines().all(|line| text::width(line) <= 80));
        assert!(shown.len() < 20_000, "{}", shown.len());
        assert!(
            checkup
                .json()
                .chars()
                .all(|c| c == '\n' || !(c.is_control() || text::is_hidden(c)))
        );
    }
}

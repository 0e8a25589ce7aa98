//! The file format: written-down telemetry in, expected verdicts out, in the words of
//! `promtool test rules` where it has them. `docs/SLO-TESTS.md` describes it.

use std::collections::BTreeMap;

use harness_core::observation::Outcome;
use harness_core::problem::{Problem, Problems};
use harness_core::query::Backend;
use harness_core::report::model::Verdict;
use harness_core::scenario::Dur;
use serde::Deserialize;
use serde_saphyr::Spanned;

/// Most repetitions of one entry, and most samples of one series.
const MOST: u64 = 1_000_000;

/// A test file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TestFile {
    /// OpenSLO files, directories or globs, relative to this file.
    pub(super) slo_files: Vec<String>,
    /// Distance of two scrapes.
    #[serde(default = "second")]
    pub(super) evaluation_interval: Dur,
    pub(super) tests: Vec<Spanned<Test>>,
}

fn second() -> Dur {
    Dur(std::time::Duration::from_secs(1))
}

/// One test: a run written down, and what has to be said of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Test {
    pub(super) name: Option<String>,
    /// Distance of two samples of an input series; the evaluation interval without it.
    pub(super) interval: Option<Dur>,
    /// Length of the measured phase; as long as the input without it.
    pub(super) window: Option<Dur>,
    #[serde(default)]
    pub(super) input_series: Vec<Spanned<Series>>,
    #[serde(default)]
    pub(super) input_logs: Vec<Stream>,
    #[serde(default)]
    pub(super) input_spans: Vec<Spanned<SpanSet>>,
    #[serde(default)]
    pub(super) input_requests: Vec<Spanned<Requests>>,
    /// When the service restarted.
    #[serde(default)]
    pub(super) restarts: Vec<Dur>,
    /// Backends that do not hold the run.
    #[serde(default)]
    pub(super) missing: Vec<Backend>,
    #[serde(default)]
    pub(super) expect: Vec<Spanned<Expect>>,
    /// What has to be said of the run as a whole.
    pub(super) verdict: Option<Spanned<Verdict>>,
}

/// A series in the notation of promtool.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Series {
    pub(super) series: String,
    pub(super) values: String,
}

/// When something happens, and how often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) at: Dur,
    pub(super) every: Dur,
    pub(super) repeat: u64,
}

impl Times {
    fn new(at: Option<Dur>, every: Option<Dur>, repeat: Option<u64>) -> Self {
        Self {
            at: at.unwrap_or(Dur(std::time::Duration::ZERO)),
            every: every.unwrap_or(Dur(std::time::Duration::ZERO)),
            repeat: repeat.unwrap_or(1),
        }
    }

    /// The instants, nanoseconds since the start of the measured phase.
    pub(super) fn instants(self) -> impl Iterator<Item = u64> {
        let (at, every) = (self.at.nanos(), self.every.nanos());
        (0..self.repeat).map(move |n| at.saturating_add(every.saturating_mul(n)))
    }

    pub(super) fn last(self) -> u64 {
        self.instants().last().unwrap_or(0)
    }
}

/// Lines of one log stream.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    pub(super) stream: BTreeMap<String, String>,
    pub(super) lines: Vec<Spanned<Line>>,
}

/// A log line, perhaps many times.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    at: Option<Dur>,
    every: Option<Dur>,
    repeat: Option<u64>,
    pub(super) line: String,
    /// Structured metadata.
    #[serde(default)]
    pub(super) metadata: BTreeMap<String, String>,
}

/// A span, perhaps many times, each in a trace of its own.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SpanSet {
    at: Option<Dur>,
    every: Option<Dur>,
    repeat: Option<u64>,
    pub(super) service: String,
    pub(super) name: String,
    pub(super) duration: Dur,
    #[serde(default)]
    pub(super) status: SpanStatus,
    #[serde(default)]
    pub(super) kind: SpanKind,
    /// Attributes of the span.
    #[serde(default)]
    pub(super) attributes: BTreeMap<String, serde_json::Value>,
    /// Attributes of the resource beside `service.name`.
    #[serde(default)]
    pub(super) resource: BTreeMap<String, serde_json::Value>,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SpanStatus {
    #[default]
    Unset,
    Ok,
    Error,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum SpanKind {
    #[default]
    Internal,
    Server,
    Client,
    Producer,
    Consumer,
}

/// Requests of the load generator.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Requests {
    at: Option<Dur>,
    every: Option<Dur>,
    repeat: Option<u64>,
    /// The request's name in the scenario.
    pub(super) name: String,
    /// From due to done.
    pub(super) latency: Dur,
    /// From due to the head of the answer; the latency without it.
    pub(super) first_byte: Option<Dur>,
    /// From due to the first event of a streamed answer.
    pub(super) first_event: Option<Dur>,
    /// Gaps between its events.
    #[serde(default)]
    pub(super) gaps: Vec<Dur>,
    pub(super) outcome: Outcome,
    pub(super) status: Option<u16>,
    /// Whether the answer agreed with the truth.
    pub(super) correct: Option<bool>,
}

macro_rules! timed {
    ($($type:ty),*) => {$(
        impl $type {
            pub(super) fn times(&self) -> Times {
                Times::new(self.at, self.every, self.repeat)
            }
        }
    )*};
}
timed!(Line, SpanSet, Requests);

/// What has to be said of one objective.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Expect {
    /// Name of the SLO; `NAME/2` for the second of several objectives.
    pub(super) slo: Spanned<String>,
    pub(super) verdict: Verdict,
    /// Its value, within a millionth.
    pub(super) value: Option<f64>,
    /// Events it was decided on.
    pub(super) samples: Option<u64>,
    /// What the reason has to contain: one text or several.
    #[serde(default)]
    pub(super) reason: Texts,
}

/// One text or several.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(untagged)]
pub(super) enum Texts {
    #[default]
    None,
    One(String),
    Several(Vec<String>),
}

impl Texts {
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        let all: &[String] = match self {
            Self::None => &[],
            Self::One(text) => std::slice::from_ref(text),
            Self::Several(texts) => texts,
        };
        all.iter().map(String::as_str)
    }
}

/// Line and column of a value, where known.
pub(super) fn at<T>(spanned: &Spanned<T>) -> Option<(usize, usize)> {
    let location = spanned.referenced;
    let number = |n: u64| usize::try_from(n).ok().filter(|n| *n > 0);
    Some((number(location.line())?, number(location.column())?))
}

/// Reads a test file.
///
/// # Errors
/// What is wrong with it, with line and column.
pub(super) fn parse(text: &str, file: &str) -> Result<TestFile, Problems> {
    let parsed: Result<TestFile, _> = serde_saphyr::from_str(text);
    let tests = parsed.map_err(|error| {
        let location = error.location().map(|l| (l.line(), l.column()));
        let number = |n: u64| usize::try_from(n).unwrap_or(1);
        Problems(vec![Problem {
            file: file.to_owned(),
            at: location.map(|(line, column)| (number(line), number(column))),
            key: String::new(),
            message: error.without_snippet().to_string(),
            hint: Some("docs/SLO-TESTS.md describes the format".into()),
        }])
    })?;
    let mut problems = Vec::new();
    let mut problem = |at, key: String, message: &str, hint: &str| {
        problems.push(Problem {
            file: file.to_owned(),
            at,
            key,
            message: message.to_owned(),
            hint: Some(hint.to_owned()),
        });
    };
    if tests.tests.is_empty() {
        let hint = "a file without tests would succeed at nothing";
        problem(None, "tests".into(), "is empty", hint);
    }
    if tests.evaluation_interval.0.is_zero() {
        problem(
            None,
            "evaluation_interval".into(),
            "is zero",
            "write for instance 1s",
        );
    }
    for (index, test) in tests.tests.iter().enumerate() {
        let key = |rest: &str| format!("tests[{index}].{rest}");
        if test.value.expect.is_empty() && test.value.verdict.is_none() {
            let hint =
                "a test that expects nothing cannot fail: `expect: [{slo: NAME, verdict: pass}]`";
            problem(at(test), key("expect"), "is empty", hint);
        }
        if test.value.interval.is_some_and(|i| i.0.is_zero()) {
            problem(
                at(test),
                key("interval"),
                "is zero",
                "write for instance 1s",
            );
        }
        let lines = test.value.input_logs.iter().flat_map(|s| &s.lines);
        let all = lines
            .map(|l| (at(l), l.value.times()))
            .chain(
                test.value
                    .input_spans
                    .iter()
                    .map(|s| (at(s), s.value.times())),
            )
            .chain(
                test.value
                    .input_requests
                    .iter()
                    .map(|r| (at(r), r.value.times())),
            );
        for (place, times) in all {
            if times.repeat == 0 || times.repeat > MOST {
                let hint = "from 1 to 1000000";
                problem(place, key("input"), "`repeat` is out of range", hint);
            }
        }
    }
    if problems.is_empty() {
        Ok(tests)
    } else {
        Err(Problems(problems))
    }
}

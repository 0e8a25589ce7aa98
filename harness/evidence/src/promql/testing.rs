//! Runs scripts in the language of Prometheus' `promqltest`: `load`, `clear`, `eval instant`,
//! `eval range`, `expect`. It is documented in `promql/promqltest/README.md` of Prometheus.
//!
//! An evaluation passes, fails, or is refused because it needs what is not built (native histograms,
//! experimental functions and syntax): three different things. What answers is an [`Engine`]: the
//! evaluator of this crate ([`run`]) or anything else ([`run_on`]), a server reached over HTTP for one.

mod expect;
pub mod series;

use super::plan;
use super::{Answer, Options, QueryError, QueryValue};
use crate::store::metrics::{Labels, METRIC_NAME, MetricStore, SeriesData};
use expect::{
    Expected, When, check_notes, check_value, expectations, judge_error, millis, near, parse_eval,
};
use series::Described;
use std::collections::BTreeMap;

/// An evaluation that did not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Miss {
    /// Line of the script, from 1.
    pub line: usize,
    /// The query.
    pub query: String,
    /// What differed, or what is not supported.
    pub why: String,
}

/// What became of a script.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Evaluations that did as expected.
    pub passed: usize,
    /// Evaluations that did not, and lines that are no script.
    pub failed: Vec<Miss>,
    /// Evaluations that need what is not supported.
    pub refused: Vec<Miss>,
}

/// What a script is run on.
pub trait Engine {
    /// Forgets all samples.
    ///
    /// # Errors
    /// Why it cannot.
    fn clear(&mut self) -> Result<(), String>;

    /// Stores samples: labels, Unix milliseconds, value. Stale markers are among them.
    ///
    /// # Errors
    /// Why it cannot.
    fn load(&mut self, samples: Vec<(Labels, i64, f64)>) -> Result<(), String>;

    /// Evaluates at one instant, Unix milliseconds.
    ///
    /// # Errors
    /// What the engine answered instead of a value.
    fn instant(&mut self, query: &str, t_ms: i64) -> Result<Answer, EngineError>;

    /// Evaluates at every step of a range; start, end and step in milliseconds.
    ///
    /// # Errors
    /// What the engine answered instead of a value.
    fn range(&mut self, query: &str, bounds: (i64, i64), step: i64) -> Result<Answer, EngineError>;
}

/// Why an engine gave no value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EngineError {
    /// It says that it does not support what the query needs.
    Refused(String),
    /// Anything else: what a script means by `expect fail`.
    Failed(String),
}

/// The evaluator of this crate over a store of its own.
struct Embedded {
    store: MetricStore,
    options: Options,
}

impl From<QueryError> for EngineError {
    fn from(e: QueryError) -> Self {
        match e {
            QueryError::Unsupported { .. } => EngineError::Refused(e.to_string()),
            other => EngineError::Failed(other.to_string()),
        }
    }
}

impl Engine for Embedded {
    fn clear(&mut self) -> Result<(), String> {
        self.store = MetricStore::default();
        Ok(())
    }

    fn load(&mut self, samples: Vec<(Labels, i64, f64)>) -> Result<(), String> {
        for (labels, t, v) in samples {
            self.store
                .append(&labels, t, v)
                .map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    fn instant(&mut self, query: &str, t_ms: i64) -> Result<Answer, EngineError> {
        Ok(super::instant(&self.store, query, t_ms, &self.options)?)
    }

    fn range(&mut self, query: &str, bounds: (i64, i64), step: i64) -> Result<Answer, EngineError> {
        Ok(super::range(
            &self.store,
            query,
            bounds,
            step,
            &self.options,
        )?)
    }
}

/// Runs a script on the evaluator of this crate, from an empty store and with delayed name removal,
/// which the scripts assume.
pub fn run(script: &str) -> Report {
    run_on(
        &mut Embedded {
            store: MetricStore::default(),
            options: Options {
                delayed_name_removal: true,
                ..Options::default()
            },
        },
        script,
    )
}

/// Runs a script on an engine that holds no samples yet.
pub fn run_on(engine: &mut dyn Engine, script: &str) -> Report {
    let lines: Vec<&str> = script
        .lines()
        .map(str::trim)
        .map(|l| if l.starts_with('#') { "" } else { l })
        .collect();
    let mut r = Runner {
        engine,
        beyond: Vec::new(),
        report: Report::default(),
    };
    let mut i = 0;
    while i < lines.len() {
        let end = lines[i..]
            .iter()
            .position(|l| l.is_empty())
            .map_or(lines.len(), |n| i + n);
        let word = lines[i].split_whitespace().next().unwrap_or("");
        // `clear` and `eval` may follow one another without a blank line.
        let stop = |from: usize| {
            let next = lines[from..end].iter().position(|l| starts_command(l));
            next.map_or(end, |n| from + n)
        };
        match word {
            "" => i += 1,
            "clear" => {
                if let Err(e) = r.engine.clear() {
                    r.fail(i, lines[i], &e);
                }
                r.beyond.clear();
                i += 1;
            }
            "load" | "load_with_nhcb" => {
                let last = stop(i + 1);
                if let Err(e) = r.load(lines[i], &lines[i + 1..last], word != "load") {
                    r.fail(i, lines[i], &e);
                }
                i = last;
            }
            w if w == "eval" || w.starts_with("eval_") => {
                let last = stop(i + 1);
                r.evaluate(i, lines[i], &lines[i + 1..last]);
                i = last;
            }
            _ => {
                r.fail(i, lines[i], "expected load, clear or eval");
                i += 1;
            }
        }
    }
    r.report
}

fn starts_command(line: &str) -> bool {
    line == "clear"
        || ["load ", "load_with_nhcb ", "eval ", "eval_"]
            .iter()
            .any(|w| line.starts_with(w))
}

struct Runner<'e> {
    engine: &'e mut dyn Engine,
    /// Series that hold in the script what is not supported, and what that is.
    beyond: Vec<(Labels, &'static str)>,
    report: Report,
}

enum Outcome {
    Passed,
    Failed(String),
    Refused(String),
}

impl Runner<'_> {
    fn fail(&mut self, line: usize, query: &str, why: &str) {
        self.report.failed.push(Miss {
            line: line + 1,
            query: query.into(),
            why: why.into(),
        });
    }

    fn load(&mut self, head: &str, lines: &[&str], custom_buckets: bool) -> Result<(), String> {
        let every = head
            .split_whitespace()
            .nth(1)
            .ok_or("expected an interval after load")?;
        let every = millis(every)?;
        let mut described: BTreeMap<Labels, Described> = BTreeMap::new();
        for line in lines {
            let s = series::describe(line).map_err(|e| format!("{line}: {e}"))?;
            match s.beyond {
                Some(what) => self.beyond.push((s.labels, what)),
                // Of two lines for one series the later counts, as in promqltest.
                None => drop(described.insert(s.labels.clone(), s)),
            }
        }
        let mut samples = Vec::new();
        for s in described.into_values() {
            if custom_buckets && let Some(base) = s.labels.metric_name().strip_suffix("_bucket") {
                let labels = s.labels.with(METRIC_NAME, base).with("le", "");
                self.beyond.push((labels, "native histograms"));
            }
            for (k, v) in s.values.iter().enumerate() {
                if let Some(v) = v {
                    samples.push((s.labels.clone(), k as i64 * every, *v));
                }
            }
        }
        self.engine.load(samples)
    }

    fn evaluate(&mut self, line: usize, head: &str, rest: &[&str]) {
        let (when, query, mode) = match parse_eval(head) {
            Ok(x) => x,
            Err(e) => return self.fail(line, head, &e),
        };
        let outcome = if rest.iter().any(|l| l.contains("{{")) {
            Outcome::Refused("native histograms".into())
        } else {
            match expectations(rest, mode) {
                Ok(expected) => self.judge(&when, query, &expected),
                Err(e) => Outcome::Failed(e),
            }
        };
        let miss = |why| Miss {
            line: line + 1,
            query: query.to_string(),
            why,
        };
        match outcome {
            Outcome::Passed => self.report.passed += 1,
            Outcome::Failed(why) => self.report.failed.push(miss(why)),
            Outcome::Refused(why) => self.report.refused.push(miss(why)),
        }
    }

    fn judge(&mut self, when: &When, query: &str, expected: &Expected) -> Outcome {
        if let Some(what) = self.beyond(query) {
            return Outcome::Refused(what.into());
        }
        let result = match *when {
            When::Instant(t) => self.engine.instant(query, t),
            When::Range(a, b, step) => self.engine.range(query, (a, b), step),
        };
        let answer = match result {
            Err(EngineError::Refused(why)) => return Outcome::Refused(why),
            Err(EngineError::Failed(why)) => return judge_error(&why, expected),
            Ok(_) if expected.fail.is_some() => {
                return Outcome::Failed("expected a failure, got an answer".into());
            }
            Ok(answer) => answer,
        };
        let checked = check_notes(&answer, expected)
            .and_then(|()| check_value(when, &answer.value, expected))
            .and_then(|()| self.check_in_range(when, query, &answer.value));
        match checked {
            Ok(()) => Outcome::Passed,
            Err(why) => Outcome::Failed(why),
        }
    }

    /// What the query selects that is not supported.
    fn beyond(&self, query: &str) -> Option<&'static str> {
        let plan = plan::plan(query).ok()?;
        let selected = |labels: &Labels| {
            plan.selectors.iter().any(|s| {
                s.matchers
                    .iter()
                    .all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
            })
        };
        self.beyond
            .iter()
            .find(|(labels, _)| selected(labels))
            .map(|(_, what)| *what)
    }

    /// An instant query and the same instant inside a range query must agree.
    fn check_in_range(
        &mut self,
        when: &When,
        query: &str,
        value: &QueryValue,
    ) -> Result<(), String> {
        let (When::Instant(t), QueryValue::Vector(v)) = (when, value) else {
            return Ok(());
        };
        if ["range()", "step()", "start()", "end()"]
            .iter()
            .any(|f| query.contains(f))
        {
            return Ok(());
        }
        let minute = 60_000;
        let around = self
            .engine
            .range(query, (t - minute, t + minute), minute)
            // A neighbouring instant may fail where this one does not.
            .unwrap_or_else(|_| Answer {
                value: QueryValue::Matrix(
                    v.iter()
                        .map(|s| SeriesData {
                            labels: s.labels.clone(),
                            times: vec![*t],
                            values: vec![s.value],
                        })
                        .collect(),
                ),
                warnings: Vec::new(),
                infos: Vec::new(),
            });
        let QueryValue::Matrix(m) = around.value else {
            return Err("range query gave no matrix".into());
        };
        let at_t: BTreeMap<&Labels, f64> = m
            .iter()
            .filter_map(|s| Some((&s.labels, s.values[s.times.binary_search(t).ok()?])))
            .collect();
        let same = at_t.len() == v.len()
            && v.iter()
                .all(|s| at_t.get(&s.labels).is_some_and(|&x| near(s.value, x)));
        if same {
            Ok(())
        } else {
            Err(format!(
                "as an instant query {v:?}, inside a range query {at_t:?}"
            ))
        }
    }
}

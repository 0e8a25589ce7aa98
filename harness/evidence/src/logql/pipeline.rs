//! A checked, compiled pipeline: what it does to one line.

mod ip;
mod json;
mod label_filter;
mod lanes;
mod line_filter;
mod logfmt;
mod pattern;
mod template;
mod view;

pub(crate) use label_filter::{CompiledFilter, holds, number};
pub(crate) use template::days_since_epoch;
pub(crate) use view::{Category, LabelView};

use super::ast::{Extraction, FormatSource, LogExpr, MatchOp, Matcher, NameMatch, Stage};
use super::display;
use super::error::QueryError;
use crate::go_regex;
use crate::store::logs::{Entry, Labels, sanitize_name};
use line_filter::CompiledLineFilter;
use pattern::Pattern;
use regex::Regex;
use std::borrow::Cow;
use template::Template;

/// A text condition, compiled.
#[derive(Clone, Debug)]
pub(crate) struct TextMatch {
    op: MatchOp,
    value: String,
    regex: Option<Regex>,
}

impl TextMatch {
    /// # Errors
    /// When the value is no regular expression though it should be one.
    pub(crate) fn new(op: MatchOp, value: &str) -> Result<Self, String> {
        let regex = match op {
            MatchOp::Regex | MatchOp::NotRegex => Some(go_regex::whole(value)?),
            MatchOp::Equal | MatchOp::NotEqual => None,
        };
        Ok(Self {
            op,
            value: value.to_owned(),
            regex,
        })
    }

    /// Whether this text (empty for an absent label) satisfies the condition.
    pub(crate) fn fits(&self, text: &str) -> bool {
        let found = || self.regex.as_ref().is_some_and(|r| r.is_match(text));
        match self.op {
            MatchOp::Equal => text == self.value,
            MatchOp::NotEqual => text != self.value,
            MatchOp::Regex => found(),
            MatchOp::NotRegex => !found(),
        }
    }
}

/// The matchers of a selector, compiled.
#[derive(Clone, Debug)]
pub(crate) struct Selector(Vec<(String, TextMatch)>);

impl Selector {
    /// # Errors
    /// When a regular expression is malformed, or no matcher excludes streams without its label.
    pub(crate) fn new(matchers: &[Matcher]) -> Result<Self, QueryError> {
        let mut compiled = Vec::with_capacity(matchers.len());
        for matcher in matchers {
            let text = TextMatch::new(matcher.op, &matcher.value).map_err(QueryError::invalid)?;
            compiled.push((matcher.name.clone(), text));
        }
        let selective = compiled
            .iter()
            .any(|(_, m)| matches!(m.op, MatchOp::Equal | MatchOp::Regex) && !m.fits(""));
        if !selective {
            return Err(QueryError::invalid(
                "queries require at least one regexp or equality matcher that does not have an \
                 empty-compatible value. For instance, app=~\".*\" does not meet this requirement, \
                 but app=~\".+\" will",
            ));
        }
        Ok(Self(compiled))
    }

    /// Whether a stream's labels satisfy all matchers.
    pub(crate) fn fits(&self, labels: &Labels) -> bool {
        self.0
            .iter()
            .all(|(name, text)| text.fits(labels.get(name).unwrap_or("")))
    }
}

enum Step {
    Line(CompiledLineFilter),
    Json(Vec<(String, Vec<json::PathPart>)>),
    Logfmt(logfmt::Logfmt),
    Regexp(Regex),
    Pattern(Pattern),
    Unpack,
    Decolorize(Regex),
    LineFormat(Template),
    LabelFormat(Vec<(String, LabelSource)>),
    Label(CompiledFilter),
    Drop(Vec<(String, Option<TextMatch>)>),
    Keep(Vec<(String, Option<TextMatch>)>),
}

enum LabelSource {
    Rename(String),
    Template(Template),
}

/// A compiled log expression.
pub(crate) struct Pipeline {
    pub(crate) selector: Selector,
    /// Line filters at the front, which see lines as they are stored.
    head: Vec<CompiledLineFilter>,
    steps: Vec<Step>,
}

impl Pipeline {
    /// # Errors
    /// When a part does not compile (regular expression, pattern, template …), naming the stage.
    pub(crate) fn new(log: &LogExpr) -> Result<Self, QueryError> {
        let mut head = Vec::new();
        let mut steps = Vec::new();
        for stage in &log.stages {
            match compile(stage)? {
                Step::Line(filter) if steps.is_empty() => head.push(filter),
                step => steps.push(step),
            }
        }
        Ok(Self {
            selector: Selector::new(&log.matchers)?,
            head,
            steps,
        })
    }

    /// The places of those entries that pass the line filters at the front.
    pub(crate) fn passing(&mut self, entries: &[Entry]) -> Vec<usize> {
        let mut places = (0..entries.len()).collect();
        for filter in &mut self.head {
            filter.narrow(entries, &mut places);
        }
        places
    }

    /// Takes a line that passed the line filters at the front through the other stages.
    pub(crate) fn process_passing(
        &self,
        ts: i64,
        line: &mut Cow<'_, str>,
        view: &mut LabelView,
    ) -> bool {
        self.steps.iter().all(|step| run(step, ts, line, view))
    }

    /// Takes one line through all stages; `false` when a filter drops it.
    pub(crate) fn process(&self, ts: i64, line: &mut Cow<'_, str>, view: &mut LabelView) -> bool {
        self.head.iter().all(|filter| filter.passes(line)) && self.process_passing(ts, line, view)
    }
}

fn compile(stage: &Stage) -> Result<Step, QueryError> {
    let in_stage =
        |error: String| QueryError::invalid(format!("stage '{}' : {error}", display::stage(stage)));
    Ok(match stage {
        Stage::Line(filter) => Step::Line(CompiledLineFilter::new(filter).map_err(in_stage)?),
        Stage::Json(extractions) => Step::Json(json_paths(extractions).map_err(in_stage)?),
        Stage::Logfmt {
            strict,
            keep_empty,
            extractions,
        } => Step::Logfmt(logfmt::Logfmt {
            strict: *strict,
            keep_empty: *keep_empty,
            wanted: extractions
                .iter()
                .map(|e| (e.path.clone(), e.label.clone()))
                .collect(),
        }),
        Stage::Regexp(text) => {
            let invalid = |e: String| QueryError::invalid(format!("invalid regexp parser: {e}"));
            let compiled = go_regex::anywhere(text).map_err(invalid)?;
            if compiled.capture_names().flatten().next().is_none() {
                return Err(invalid(
                    "at least one named capture must be supplied".into(),
                ));
            }
            Step::Regexp(compiled)
        }
        Stage::Pattern(text) => Step::Pattern(
            Pattern::parser(text)
                .map_err(|e| QueryError::invalid(format!("invalid pattern parser: {e}")))?,
        ),
        Stage::Unpack => Step::Unpack,
        Stage::Decolorize => {
            Step::Decolorize(go_regex::anywhere("\x1b\\[[0-9;]*m").map_err(in_stage)?)
        }
        Stage::LineFormat(text) => Step::LineFormat(
            Template::new(text)
                .map_err(|e| in_stage(format!("invalid line template: template: line:1: {e}")))?,
        ),
        Stage::LabelFormat(formats) => {
            let mut compiled = Vec::with_capacity(formats.len());
            for format in formats {
                let source = match &format.source {
                    FormatSource::Rename(from) => LabelSource::Rename(from.clone()),
                    FormatSource::Template(text) => {
                        LabelSource::Template(Template::new(text).map_err(|e| {
                            in_stage(format!(
                                "invalid template for label '{}': {e}",
                                format.target
                            ))
                        })?)
                    }
                };
                compiled.push((format.target.clone(), source));
            }
            Step::LabelFormat(compiled)
        }
        Stage::Label(filter) => Step::Label(CompiledFilter::new(filter).map_err(in_stage)?),
        Stage::Drop(names) => Step::Drop(name_matches(names).map_err(in_stage)?),
        Stage::Keep(names) => Step::Keep(name_matches(names).map_err(in_stage)?),
    })
}

fn name_matches(names: &[NameMatch]) -> Result<Vec<(String, Option<TextMatch>)>, String> {
    names
        .iter()
        .map(|name| {
            let value = match &name.value {
                Some((op, value)) => Some(TextMatch::new(*op, value)?),
                None => None,
            };
            Ok((name.name.clone(), value))
        })
        .collect()
}

fn json_paths(extractions: &[Extraction]) -> Result<Vec<(String, Vec<json::PathPart>)>, String> {
    extractions
        .iter()
        .map(|e| Ok((e.label.clone(), json::path(&e.path)?)))
        .collect()
}

fn run(step: &Step, ts: i64, line: &mut Cow<'_, str>, view: &mut LabelView) -> bool {
    match step {
        Step::Line(filter) => return filter.passes(line),
        Step::Json(wanted) if wanted.is_empty() => json::all(line, view),
        Step::Json(wanted) => json::some(line, wanted, view),
        Step::Logfmt(logfmt) => logfmt.parse(line, view),
        Step::Regexp(regex) => {
            if let Some(found) = regex.captures(line) {
                for name in regex.capture_names().flatten() {
                    if let Some(value) = found.name(name) {
                        view.extract(&sanitize_name(name), value.as_str());
                    }
                }
            }
        }
        Step::Pattern(pattern) => {
            for (name, value) in pattern.captures(line) {
                view.extract(name, value);
            }
        }
        Step::Unpack => json::unpack(line, view),
        Step::Decolorize(colors) => {
            if let Cow::Owned(plain) = colors.replace_all(line, "") {
                *line = Cow::Owned(plain);
            }
        }
        Step::LineFormat(template) => match template.render(ts, line, view) {
            Ok(text) => *line = Cow::Owned(text),
            Err(error) => view.fail("TemplateFormatErr", &error),
        },
        Step::LabelFormat(formats) => format_labels(formats, ts, line, view),
        Step::Label(filter) => return filter.passes(view),
        Step::Drop(names) => {
            for (name, value) in names {
                let fits = value
                    .as_ref()
                    .is_none_or(|m| m.fits(view.get(name).unwrap_or("")));
                if fits {
                    view.remove(name);
                }
            }
        }
        Step::Keep(names) => view.keep(|name, value| {
            names
                .iter()
                .any(|(n, m)| n == name && m.as_ref().is_none_or(|m| m.fits(value)))
        }),
    }
    true
}

fn format_labels(formats: &[(String, LabelSource)], ts: i64, line: &str, view: &mut LabelView) {
    for (target, source) in formats {
        match source {
            LabelSource::Rename(from) => {
                // A name that is not there leaves the target as it is.
                if let Some(value) = view.get(from).map(str::to_owned) {
                    view.set(target, value);
                    if from != target {
                        view.remove(from);
                    }
                }
            }
            LabelSource::Template(template) => match template.render(ts, line, view) {
                Ok(text) => view.set(target, text),
                Err(error) => view.fail("TemplateFormatErr", &error),
            },
        }
    }
}

#[cfg(test)]
mod tests;

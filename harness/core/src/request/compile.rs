//! The scenario's requests, made ready: templates read, names looked up, every row tried.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Map, Value};

use super::expect::{Capturing, Check, Dynamic, Expectations, Wrong};
use super::fill::{Escape, Filling, JsonFilling, Values, percent};
use super::rows::{self, Fields, Ordering};
use crate::dataset::{self, Row};
use crate::problem::{Problem, Problems};
use crate::scenario::{Body, Dur, HeaderValue, Request, Scenario, Status};

/// One entry of the scenario's `requests`, compiled.
pub(super) struct Kind {
    pub(super) method: Arc<str>,
    path: Path,
    headers: Headers,
    body: Bodies,
    pub(super) rows: Option<RowSource>,
    pub(super) status: Option<Status>,
    pub(super) expect: Expectations,
    dynamic: Dynamic,
    pub(super) latency: Option<Dur>,
    pub(super) timeout: Option<Dur>,
}

/// Where rows come from, and in which order.
pub(super) struct RowSource {
    pub(super) fields: Fields,
    pub(super) ordering: Ordering,
}

enum Path {
    Fixed(Arc<str>),
    Filled {
        path: Filling,
        query: Vec<(String, Filling)>,
    },
}

enum Headers {
    Fixed(Arc<[(String, String)]>),
    Filled(Vec<(String, Filling)>),
}

enum Bodies {
    Fixed(Arc<[u8]>),
    /// By row.
    Field(Vec<Arc<[u8]>>),
    Text(Filling),
    Json(JsonFilling),
}

/// The parts of a request that templates fill.
pub(super) struct Parts {
    pub(super) path: Arc<str>,
    pub(super) headers: Arc<[(String, String)]>,
    pub(super) body: Arc<[u8]>,
    pub(super) wanted: Arc<[Value]>,
}

impl Kind {
    pub(super) fn fields(&self, row: usize) -> Option<&Map<String, Value>> {
        self.rows.as_ref()?.fields.get(row)
    }

    /// Fills all templates. That rows have the fields was checked; a captured value that is missing
    /// leaves its place empty, which a flow's driver never lets come to pass.
    pub(super) fn parts(&self, values: &Values<'_>, row: Option<usize>) -> Parts {
        let headers = match &self.headers {
            Headers::Fixed(headers) => Arc::clone(headers),
            Headers::Filled(all) => all
                .iter()
                .map(|(name, value)| {
                    let value = value.text(values, Escape::None).unwrap_or_default();
                    (name.clone(), value)
                })
                .collect(),
        };
        let body = match &self.body {
            Bodies::Fixed(body) => Arc::clone(body),
            Bodies::Field(rows) => row
                .and_then(|row| rows.get(row))
                .cloned()
                .unwrap_or_default(),
            Bodies::Text(text) => Arc::from(
                text.text(values, Escape::None)
                    .unwrap_or_default()
                    .into_bytes(),
            ),
            Bodies::Json(json) => {
                let value = json.value(values).unwrap_or_default();
                Arc::from(value.to_string().into_bytes())
            }
        };
        let wanted = self
            .dynamic
            .iter()
            .map(|filling| filling.value(values).unwrap_or_default());
        Parts {
            path: self.path.fill(values),
            headers,
            body,
            wanted: wanted.collect(),
        }
    }
}

impl Path {
    fn new(request: &Request, captured: &BTreeSet<&str>) -> Result<Self, String> {
        let path = Filling::new(&request.path, captured)?;
        let query = request.query.iter();
        let query = query.map(|(name, value)| Ok((name.clone(), Filling::new(value, captured)?)));
        let query: Vec<(String, Filling)> = query.collect::<Result<_, String>>()?;
        let filled = Self::Filled { path, query };
        if let Self::Filled { path, query } = &filled
            && path.plain().is_some()
            && query.iter().all(|(_, value)| value.plain().is_some())
        {
            let plain = |value: &Filling, _| value.plain().unwrap_or_default().to_owned();
            return Ok(Self::Fixed(written(path, query, plain)));
        }
        Ok(filled)
    }

    fn fill(&self, values: &Values<'_>) -> Arc<str> {
        match self {
            Self::Fixed(path) => Arc::clone(path),
            Self::Filled { path, query } => written(path, query, |filling, escape| {
                filling.text(values, escape).unwrap_or_default()
            }),
        }
    }
}

/// Path and query, with all values of the query percent-encoded, and of the path those put in.
fn written(
    path: &Filling,
    query: &[(String, Filling)],
    fill: impl Fn(&Filling, Escape) -> String,
) -> Arc<str> {
    let mut text = fill(path, Escape::Percent);
    for (name, value) in query {
        text.push(if text.contains('?') { '&' } else { '?' });
        percent(&mut text, name);
        text.push('=');
        percent(&mut text, &fill(value, Escape::None));
    }
    text.into()
}

/// Compiles all requests, or says everything that is wrong with them and with their datasets.
pub(super) fn kinds(
    scenario: &Scenario,
    datasets: &BTreeMap<String, String>,
) -> Result<Vec<Kind>, Problems> {
    let mut problems = Vec::new();
    let mut read: BTreeMap<&str, Dataset> = BTreeMap::new();
    for request in &scenario.spec.requests {
        let Some(data) = request.data() else { continue };
        if read.contains_key(data.dataset)
            || problems.iter().any(|p: &Problem| p.file == data.dataset)
        {
            continue;
        }
        match datasets
            .get(data.dataset)
            .map(|text| dataset::rows(data.dataset, text, data.format()))
        {
            Some(Ok(rows)) => drop(read.insert(data.dataset, Dataset::new(rows))),
            Some(Err(wrong)) => problems.extend(dataset::shorten(wrong)),
            None => problems.push(dataset::unread(data.dataset)),
        }
    }
    if !problems.is_empty() {
        return Err(Problems(problems));
    }
    let mut kinds = Vec::new();
    for (index, request) in scenario.spec.requests.iter().enumerate() {
        let mut compiler = Compiler {
            file: &scenario.metadata.name,
            key: format!("spec.requests[{index}]"),
            request,
            data: request.data().and_then(|data| read.get(data.dataset)),
            captured: scenario.captured_before(&request.name),
            problems: Vec::new(),
        };
        kinds.extend(compiler.kind());
        problems.append(&mut compiler.problems);
    }
    let counts = read.iter().map(|(file, data)| (*file, data.fields.len()));
    if problems.is_empty()
        && let Err(wrong) = rows::check(scenario, &counts.collect(), datasets)
    {
        problems.extend(wrong.0);
    }
    if problems.is_empty() {
        Ok(kinds)
    } else {
        Err(Problems(problems))
    }
}

struct Dataset {
    lines: Vec<usize>,
    fields: Fields,
}

impl Dataset {
    fn new(rows: Vec<Row>) -> Self {
        Self {
            lines: rows.iter().map(|row| row.line).collect(),
            fields: rows.into_iter().map(|row| row.fields).collect(),
        }
    }
}

struct Compiler<'a> {
    file: &'a str,
    key: String,
    request: &'a Request,
    data: Option<&'a Dataset>,
    captured: BTreeSet<&'a str>,
    problems: Vec<Problem>,
}

impl Compiler<'_> {
    fn kind(&mut self) -> Option<Kind> {
        let request = self.request;
        let path = Path::new(request, &self.captured);
        let path = self.or_problem("path", path);
        let headers = self.headers();
        let body = self.body();
        let mut dynamic = Dynamic::new();
        let expect = self.expectations(&mut dynamic);
        self.fields_are_there();
        self.names_are_one();
        if !self.problems.is_empty() {
            return None;
        }
        Some(Kind {
            method: Arc::from(request.method.as_str()),
            path: path?,
            headers: headers?,
            body: body?,
            rows: request.data().zip(self.data).map(|(data, read)| RowSource {
                ordering: Ordering::new(data.order, read.fields.len()),
                fields: Arc::clone(&read.fields),
            }),
            status: request.expect.status.clone(),
            expect: expect?,
            dynamic,
            latency: request.expect.latency,
            timeout: request.timeout,
        })
    }

    fn or_problem<T>(&mut self, part: &str, made: Result<T, String>) -> Option<T> {
        made.map_err(|message| self.problem(part, message)).ok()
    }

    fn problem(&mut self, part: &str, message: String) {
        self.problems.push(Problem {
            file: self.file.to_owned(),
            at: None,
            key: format!("{}.{part}", self.key),
            message,
            hint: None,
        });
    }

    fn headers(&mut self) -> Option<Headers> {
        let mut all = Vec::new();
        for (name, value) in &self.request.headers {
            let filling = Filling::new(value, &self.captured);
            let filling = self.or_problem(&format!("headers.{name}"), filling)?;
            all.push((name.to_ascii_lowercase(), filling));
        }
        let kind = match self.request.body {
            None => None,
            Some(Body::Json { .. }) => Some("application/json"),
            Some(_) => Some("text/plain; charset=utf-8"),
        };
        if let Some(kind) = kind
            && !all.iter().any(|(name, _)| name == "content-type")
        {
            all.push((
                "content-type".into(),
                Filling::new(kind, &BTreeSet::new()).ok()?,
            ));
        }
        let plain: Option<Vec<(String, String)>> = all
            .iter()
            .map(|(name, value)| Some((name.clone(), value.plain()?.to_owned())))
            .collect();
        Some(match plain {
            Some(plain) => Headers::Fixed(plain.into()),
            None => Headers::Filled(all),
        })
    }

    fn body(&mut self) -> Option<Bodies> {
        match &self.request.body {
            None => Some(Bodies::Fixed(Arc::from([]))),
            Some(Body::Text { text }) => {
                let filling = Filling::new(text, &self.captured);
                let filling = self.or_problem("body.text", filling)?;
                Some(match filling.plain() {
                    Some(plain) => Bodies::Fixed(Arc::from(plain.as_bytes())),
                    None => Bodies::Text(filling),
                })
            }
            Some(Body::Json { json }) => {
                let filling = JsonFilling::new(json, &self.captured);
                let filling = self.or_problem("body.json", filling)?;
                Some(if filling.is_plain() {
                    Bodies::Fixed(Arc::from(json.to_string().into_bytes()))
                } else {
                    Bodies::Json(filling)
                })
            }
            Some(Body::Dataset { dataset, field, .. }) => {
                let data = self.data?;
                let (bodies, wrong) = bodies(dataset, data, field);
                self.problems.extend(wrong);
                Some(Bodies::Field(bodies))
            }
        }
    }

    fn expectations(&mut self, dynamic: &mut Dynamic) -> Option<Expectations> {
        let request = self.request;
        let rows = self.data.map(|data| &data.fields);
        let captured = self.captured.clone();
        let mut checks = Vec::new();
        for (path, wanted) in &request.expect.json {
            let check = Check::json(path, wanted, rows, &captured, dynamic);
            checks.extend(self.or_wrong("expect.json", check));
        }
        for (name, wanted) in &request.expect.headers {
            if let HeaderValue::Is(wanted) = wanted {
                let check = Check::header(name, wanted, rows, &captured, dynamic);
                checks.extend(self.or_wrong("expect.headers", check));
            }
        }
        let mut score = Vec::new();
        for (path, wanted) in &request.score {
            let wanted = Value::String(wanted.clone());
            let check = Check::json(path, &wanted, rows, &captured, dynamic);
            score.extend(self.or_wrong("score", check));
        }
        let mut captures = Vec::new();
        for (name, capture) in &request.capture {
            let capturing = Capturing::new(name, capture);
            captures.extend(self.or_problem(&format!("capture.{name}"), capturing));
        }
        let made = Expectations::new(checks, score, &request.expect, captures);
        self.or_problem("expect", made)
    }

    /// Keeps a check, or says what is wrong with it: by line where it is wrong in some rows.
    fn or_wrong(&mut self, part: &str, made: Result<Check, Vec<Wrong>>) -> Option<Check> {
        let wrong = match made {
            Ok(check) => return Some(check),
            Err(wrong) => wrong,
        };
        let source = self.request.data().zip(self.data);
        let wrong = wrong.into_iter().map(|(row, message)| match (row, source) {
            (Some(row), Some((data, read))) => {
                let hint = format!("`{part}` of the request `{}` takes it", self.request.name);
                dataset::problem(data.dataset, read.lines[row], &message, &hint)
            }
            _ => Problem {
                file: self.file.to_owned(),
                at: None,
                key: format!("{}.{part}", self.key),
                message,
                hint: None,
            },
        });
        let wrong = dataset::shorten(wrong.collect());
        self.problems.extend(wrong);
        None
    }

    /// Every row must have the fields that path, query, headers and body take. Expectations are
    /// filled with every row as they are compiled.
    fn fields_are_there(&mut self) {
        let mut names = BTreeSet::new();
        let request = self.request;
        let mut take = |text: &String| {
            if let Ok(filling) = Filling::new(text, &self.captured) {
                names.extend(filling.fields().map(str::to_owned));
            }
        };
        take(&request.path);
        request.query.values().for_each(&mut take);
        request.headers.values().for_each(&mut take);
        match &request.body {
            Some(Body::Text { text }) => take(text),
            Some(Body::Json { json }) => {
                if let Ok(filling) = JsonFilling::new(json, &self.captured) {
                    filling.fields(&mut names);
                }
            }
            _ => {}
        }
        let Some((data, read)) = request.data().zip(self.data) else {
            return;
        };
        for name in names {
            let lacking = read.lines.iter().zip(read.fields.iter());
            let lacking = lacking.filter(|(_, fields)| !fields.contains_key(&name));
            let wrong = lacking.map(|(line, fields)| {
                let message = format!("the row has no field `{name}`");
                dataset::problem(data.dataset, *line, &message, &has(fields))
            });
            let wrong = dataset::shorten(wrong.collect());
            self.problems.extend(wrong);
        }
    }

    /// A name cannot be a field and a captured value both.
    fn names_are_one(&mut self) {
        let first = self.data.and_then(|data| data.fields.first());
        let both = first.and_then(|row| self.captured.iter().find(|name| row.contains_key(**name)));
        if let Some(name) = both {
            let message =
                format!("`{name}` is captured by an earlier step, and is a field of the rows too");
            self.problem("capture", message);
        }
    }
}

fn has(fields: &Map<String, Value>) -> String {
    let names: Vec<&str> = fields.keys().map(String::as_str).take(8).collect();
    format!("it has {}", names.join(", "))
}

fn bodies(file: &str, data: &Dataset, field: &str) -> (Vec<Arc<[u8]>>, Vec<Problem>) {
    let mut bodies = Vec::with_capacity(data.fields.len());
    let mut wrong = Vec::new();
    for (line, fields) in data.lines.iter().zip(data.fields.iter()) {
        match fields.get(field) {
            Some(Value::String(text)) => bodies.push(Arc::from(text.as_bytes())),
            Some(_) => wrong.push(dataset::problem(
                file,
                *line,
                &format!("the field `{field}` is not a text"),
                "bodies are texts",
            )),
            None => wrong.push(dataset::problem(
                file,
                *line,
                &format!("the row has no field `{field}`"),
                &has(fields),
            )),
        }
    }
    (bodies, dataset::shorten(wrong))
}

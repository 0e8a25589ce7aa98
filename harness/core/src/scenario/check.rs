//! Everything that makes a scenario impossible, found before the first request.
//!
//! One file because it is one list: a rule per function, in the order of the scenario's keys.

use std::collections::BTreeSet;

use serde_json_path::JsonPath;

use super::{
    AbortRule, BackendAddress, Body, Dur, Executor, Fault, FaultKind, Load, Order, Rate, Request,
    Scenario, Spacing, Stage, Start, Target, Telemetry, ThinkTime,
};
use crate::units::Phase;

/// One thing wrong, before its place in the text is known.
#[derive(Debug)]
pub(super) struct Flaw {
    pub(super) key: String,
    pub(super) message: String,
    pub(super) hint: Option<String>,
}

/// Highest rate of one load, events a second: beyond what one process can send by far.
const MOST_PER_SECOND: f64 = 1e6;
/// Longest load. Keeps the schedule's integer arithmetic in range.
const LONGEST_LOAD: u64 = 30 * 24 * 3_600 * 1_000_000_000;
/// Requests of one load: its part of a request's id has 40 bits.
const MOST_ARRIVALS: u128 = 1 << 40;
const MOST_VUS: u32 = 100_000;
/// Headers that the harness or HTTP itself sets.
const RESERVED_HEADERS: [&str; 6] = [
    "traceparent",
    "tracestate",
    "content-length",
    "transfer-encoding",
    "connection",
    "baggage",
];

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

    fn not_built(&mut self, key: impl Into<String>, what: &str, instead: &str) {
        self.add(
            key,
            format!("{what} is not built yet"),
            format!("use {instead}"),
        );
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
        target(&self.spec.target, &mut found);
        telemetry(&self.spec.telemetry, &self.spec.target, &mut found);
        if !(0.0..=1.0).contains(&self.spec.trace.sampled) {
            found.add(
                "spec.trace.sampled",
                format!("{} is not a share", self.spec.trace.sampled),
                "from 0 to 1",
            );
        }
        self.requests(&mut found);
        self.loads(&mut found);
        self.faults(&mut found);
        found.not_zero(
            "spec.validity.lateSends.over",
            self.spec.validity.late_sends.over,
        );
        for (index, rule) in self.spec.abort.iter().enumerate() {
            abort(&format!("spec.abort[{index}]"), rule, &mut found);
        }
        found.0
    }

    fn requests(&self, found: &mut Found) {
        let requests = &self.spec.requests;
        if requests.is_empty() {
            found.add(
                "spec.requests",
                "has no request",
                "add one with name, method and path",
            );
        }
        if requests.len() > usize::from(u16::MAX) {
            found.add("spec.requests", "has more than 65,535 requests", "");
        }
        let mut names = BTreeSet::new();
        for (index, request) in requests.iter().enumerate() {
            let key = format!("spec.requests[{index}]");
            name_is_new(&key, &request.name, &mut names, found);
            check_request(&key, request, found);
        }
    }

    fn loads(&self, found: &mut Found) {
        let loads = &self.spec.loads;
        if loads.is_empty() {
            found.add(
                "spec.loads",
                "has no load",
                "add one with name, mix, executor and stages",
            );
        }
        if loads.len() > usize::from(u16::MAX) {
            found.add("spec.loads", "has more than 65,535 loads", "");
        }
        let known: Vec<&str> = self.spec.requests.iter().map(|r| r.name.as_str()).collect();
        let mut names = BTreeSet::new();
        for (index, load) in loads.iter().enumerate() {
            let key = format!("spec.loads[{index}]");
            name_is_new(&key, &load.name, &mut names, found);
            mix(&key, load, &known, found);
            executor(&key, load, found);
            stages(&key, load, found);
        }
        let measured = loads
            .iter()
            .flat_map(|l| &l.stages)
            .any(|s| s.phase == Phase::Measure);
        if !loads.is_empty() && !measured {
            found.add(
                "spec.loads",
                "no load has a measured stage: nothing would be judged",
                "add a stage such as {phase: measure, rate: 20/s, for: 60s}",
            );
        }
    }

    fn faults(&self, found: &mut Found) {
        let end = self
            .spec
            .loads
            .iter()
            .map(|load| load.end().0)
            .max()
            .unwrap_or(0);
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

/// What is wrong with a base URL, and what would be right.
fn url_flaw(url: &str, https: bool) -> Option<(String, String)> {
    let right = || "write for instance http://127.0.0.1:3010".to_owned();
    if !https && url.starts_with("https://") {
        return Some((
            "https for the target is not built yet".into(),
            "use http".into(),
        ));
    }
    let rest = match url.strip_prefix("http://") {
        Some(rest) => rest,
        None => match url.strip_prefix("https://") {
            Some(rest) => rest,
            None => return Some((format!("`{url}` is not an http URL"), right())),
        },
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.is_empty()
        || authority.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c))
    {
        return Some((format!("`{url}` names no host"), right()));
    }
    if authority.contains('@') {
        return Some((
            "credentials in a URL are printed and stored".into(),
            "use a header or `bearer: ${TOKEN}`".into(),
        ));
    }
    let port = authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'));
    if port.is_some_and(|(_, port)| port.parse::<u16>().is_err()) {
        return Some((format!("`{url}` has a port that is none"), right()));
    }
    if !https && !path.is_empty() {
        return Some((
            "the base URL has a path".into(),
            "put it into the `path` of the requests".into(),
        ));
    }
    path.contains(['?', '#'])
        .then(|| ("the URL has a query".into(), right()))
}

fn target(target: &Target, found: &mut Found) {
    match (&target.url, &target.start) {
        (None, None) => found.add(
            "spec.target",
            "neither `url` nor `start` says what to put under load",
            "add url: http://host:port, or start: {command: […], ready: /readyz, within: 60s}",
        ),
        (Some(url), _) if !waits(url) => {
            if let Some((message, hint)) = url_flaw(url, false) {
                found.add("spec.target.url", message, hint);
            }
        }
        _ => {}
    }
    if let Some(Start {
        command,
        ready,
        within,
        ..
    }) = &target.start
    {
        if command.first().is_none_or(String::is_empty) {
            found.add(
                "spec.target.start.command",
                "names no program",
                "write [program, argument, …]",
            );
        }
        if !waits(ready) && !is_path(ready) {
            found.add(
                "spec.target.start.ready",
                format!("`{ready}` is not a path"),
                "write for instance /readyz",
            );
        }
        found.not_zero("spec.target.start.within", *within);
    }
    found.not_zero("spec.target.timeout", target.timeout);
    if target.max_connections == Some(0) {
        found.add(
            "spec.target.maxConnections",
            "no request could be sent over 0 connections",
            "at least 1",
        );
    }
    if target.expect_version.as_ref().is_some_and(String::is_empty) {
        found.add(
            "spec.target.expectVersion",
            "is empty",
            "name the version, or leave the key out",
        );
    }
}

fn telemetry(telemetry: &Telemetry, target: &Target, found: &mut Found) {
    let mut jobs = BTreeSet::new();
    for (index, job) in telemetry
        .embedded
        .iter()
        .flat_map(|e| &e.scrape)
        .enumerate()
    {
        let key = format!("spec.telemetry.embedded.scrape[{index}]");
        if job.job.is_empty() || !jobs.insert(&job.job) {
            found.add(format!("{key}.job"), "must be a name of its own", "");
        }
        found.not_zero(format!("{key}.every"), job.every);
        match &job.url {
            Some(url) if !waits(url) => {
                if let Some((message, hint)) = url_flaw(url, true) {
                    found.add(format!("{key}.url"), message, hint);
                }
            }
            None if target.start.is_none() => found.add(
                format!("{key}.url"),
                "is missing: only a target that the harness starts reports where its metrics are",
                "write for instance url: http://127.0.0.1:9100/metrics",
            ),
            _ => {}
        }
    }
    let backends = [
        ("prometheus", &telemetry.prometheus),
        ("loki", &telemetry.loki),
        ("tempo", &telemetry.tempo),
    ];
    for (name, backend) in backends {
        if let Some(BackendAddress { url, .. }) = backend
            && !waits(url)
            && let Some((message, hint)) = url_flaw(url, true)
        {
            found.add(format!("spec.telemetry.{name}.url"), message, hint);
        }
    }
    for (name, query) in [
        ("requestCounter", &telemetry.request_counter),
        ("requestLog", &telemetry.request_log),
    ] {
        if let Some(query) = query {
            let hint = "write the labels out";
            without_variables(format!("spec.telemetry.{name}"), query, hint, found);
        }
    }
    if let Some(otlp) = &telemetry.otlp
        && !waits(otlp)
        && let Some((message, hint)) = url_flaw(otlp, true)
    {
        found.add("spec.telemetry.otlp", message, hint);
    }
}

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic() && b != b'#')
}

/// A token of RFC 9110, as header names are.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
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

fn check_request(key: &str, request: &Request, found: &mut Found) {
    without_variables(
        format!("{key}.name"),
        &request.name,
        "write the name out",
        found,
    );
    match &request.route {
        Some(route) => {
            without_variables(format!("{key}.route"), route, "write the route out", found);
        }
        None => without_variables(
            format!("{key}.path"),
            request.path.split('?').next().unwrap_or_default(),
            "write the path out, or add `route` as the service's telemetry names it",
            found,
        ),
    }
    let method = &request.method;
    if !waits(method)
        && (method.is_empty()
            || !method.bytes().all(|b| b.is_ascii_uppercase())
            || method == "CONNECT")
    {
        found.add(
            format!("{key}.method"),
            format!("`{method}` is not a method"),
            "write GET, POST, PUT, PATCH, DELETE, HEAD or OPTIONS",
        );
    }
    if !waits(&request.path) && !is_path(&request.path) {
        found.add(
            format!("{key}.path"),
            format!("`{}` is not a path", request.path),
            "begin with `/`, percent-encode spaces and other characters outside ASCII",
        );
    }
    let mut names = BTreeSet::new();
    for (name, value) in &request.headers {
        let header_key = format!("{key}.headers.{name}");
        let lower = name.to_ascii_lowercase();
        if !is_token(name) {
            found.add(header_key, format!("`{name}` is not a header name"), "");
        } else if RESERVED_HEADERS.contains(&lower.as_str()) {
            found.add(
                header_key,
                format!("the header `{lower}` is set by the harness"),
                "leave it out",
            );
        } else if !names.insert(lower) {
            found.add(
                header_key,
                "the header is given twice",
                "names differ only in case",
            );
        } else if !waits(value)
            && !value
                .bytes()
                .all(|b| b == b'\t' || (b' '..=b'~').contains(&b))
        {
            found.add(
                header_key,
                "the value has characters that a header cannot carry",
                "use printable ASCII",
            );
        }
    }
    if let Some(Body::Dataset {
        dataset,
        field,
        order,
    }) = &request.body
    {
        if dataset.is_empty() || field.is_empty() {
            found.add(format!("{key}.body"), "`dataset` or `field` is empty", "");
        }
        if *order == Order::Zipf {
            found.not_built(
                format!("{key}.body.order"),
                "`zipf`",
                "sequential or shuffled",
            );
        }
    }
    expectations(key, request, found);
}

fn expectations(key: &str, request: &Request, found: &mut Found) {
    if request
        .expect
        .status
        .is_some_and(|status| !(200..=599).contains(&status))
    {
        found.add(
            format!("{key}.expect.status"),
            "is not the status of an answer",
            "200 to 599",
        );
    }
    let has_rows = matches!(request.body, Some(Body::Dataset { .. }));
    let expected = request
        .expect
        .json
        .iter()
        .map(|(path, value)| ("expect.json", path, value.as_str().unwrap_or("")));
    let scored = request
        .score
        .iter()
        .map(|(path, value)| ("score", path, value.as_str()));
    for (part, path, value) in expected.chain(scored) {
        let key = format!("{key}.{part}");
        if let Err(error) = JsonPath::parse(path) {
            found.add(
                key.clone(),
                format!("`{path}` is not a JSONPath: {error}"),
                "write for instance $.result",
            );
        }
        if value.contains("{{") && !has_rows {
            found.add(
                key,
                format!("`{value}` takes a field of a dataset's row, and the body has no dataset"),
                "add body: {dataset: …, field: …}",
            );
        }
    }
}

fn mix(key: &str, load: &Load, known: &[&str], found: &mut Found) {
    for name in load
        .mix
        .keys()
        .filter(|name| !known.contains(&name.as_str()))
    {
        found.add(
            format!("{key}.mix.{name}"),
            format!("no request is named `{name}`"),
            format!("one of {}", known.join(", ")),
        );
    }
    if load.mix.values().all(|weight| *weight == 0) {
        found.add(
            format!("{key}.mix"),
            "the weights add up to 0",
            "give at least one request a weight of 1 or more",
        );
    }
}

fn executor(key: &str, load: &Load, found: &mut Found) {
    let here = format!("{key}.executor");
    match load.executor {
        Executor::ConstantArrivalRate | Executor::RampingArrivalRate => open_load(key, load, found),
        Executor::ConstantVus => closed_load(key, load, found),
        Executor::RampingVus => found.not_built(here, "`ramping-vus`", "constant-vus"),
        Executor::PerVuIterations => found.not_built(here, "`per-vu-iterations`", "constant-vus"),
        Executor::SharedIterations => found.not_built(here, "`shared-iterations`", "constant-vus"),
        Executor::Replay => found.not_built(here, "`replay`", "constant-arrival-rate"),
    }
}

fn open_load(key: &str, load: &Load, found: &mut Found) {
    if load.vus.is_some() {
        found.add(
            format!("{key}.vus"),
            "an open load has no users",
            "take it out, or use executor: constant-vus",
        );
    }
    if load.think_time.is_some() {
        found.add(
            format!("{key}.thinkTime"),
            "an open load waits for no answer",
            "take it out, or use executor: constant-vus",
        );
    }
    if load.max_in_flight == Some(0) {
        found.add(
            format!("{key}.maxInFlight"),
            "every request would be dropped",
            "at least 1",
        );
    }
    if let Some(Spacing::Gamma(_)) = load.spacing {
        found.not_built(format!("{key}.spacing"), "`gamma`", "even or poisson");
    }
    for (index, stage) in load.stages.iter().enumerate() {
        let key = format!("{key}.stages[{index}]");
        match stage.rate {
            None => found.add(
                key,
                "a stage of an open load needs a rate",
                "add for instance rate: 20/s",
            ),
            Some(rate) if rate.per_second() > MOST_PER_SECOND => {
                found.add(
                    format!("{key}.rate"),
                    format!("{rate} is beyond 1000000/s"),
                    "split the load",
                );
            }
            Some(rate) if rate.events == 0 && load.executor == Executor::ConstantArrivalRate => {
                found.add(
                    format!("{key}.rate"),
                    "a rate of 0 sends nothing",
                    "use startAt for a pause",
                );
            }
            Some(_) => {}
        }
    }
}

fn closed_load(key: &str, load: &Load, found: &mut Found) {
    match load.vus {
        None => found.add(key, "a closed load needs `vus`", "add for instance vus: 5"),
        Some(0) => found.add(format!("{key}.vus"), "0 users send nothing", "at least 1"),
        Some(vus) if vus > MOST_VUS => {
            found.add(
                format!("{key}.vus"),
                format!("{vus} users are beyond {MOST_VUS}"),
                "split the load",
            );
        }
        Some(_) => {}
    }
    if load.spacing.is_some() {
        found.add(
            format!("{key}.spacing"),
            "spacing belongs to open loads",
            "use thinkTime",
        );
    }
    if load.max_in_flight.is_some() {
        found.add(
            format!("{key}.maxInFlight"),
            "users of a closed load have one request out at most",
            "take it out",
        );
    }
    if let Some(ThinkTime::Uniform(low, high)) = load.think_time
        && low > high
    {
        found.add(
            format!("{key}.thinkTime"),
            format!("{low} is longer than {high}"),
            "write the shorter first",
        );
    }
    for (index, stage) in load.stages.iter().enumerate() {
        if stage.rate.is_some() {
            found.add(
                format!("{key}.stages[{index}].rate"),
                "a closed load has no rate",
                "take it out, or use executor: constant-arrival-rate",
            );
        }
    }
}

fn stages(key: &str, load: &Load, found: &mut Found) {
    let key = format!("{key}.stages");
    if load.stages.is_empty() {
        found.add(
            key.clone(),
            "has no stage",
            "add {phase: measure, rate: 20/s, for: 60s}",
        );
    }
    for (index, stage) in load.stages.iter().enumerate() {
        found.not_zero(format!("{key}[{index}].for"), stage.length);
        if index > 0 && stage.phase < load.stages[index - 1].phase {
            // Judged is the window from the first to the last measured instant: nothing else may lie within.
            found.add(
                format!("{key}[{index}].phase"),
                format!(
                    "{} cannot follow {}",
                    stage.phase,
                    load.stages[index - 1].phase
                ),
                "phases run warmup, measure, cooldown",
            );
        }
    }
    if load.end().0 > LONGEST_LOAD {
        found.add(key.clone(), "the load ends after more than 30 days", "");
        return;
    }
    if !load.executor.is_open() {
        return;
    }
    let ramps = load.executor == Executor::RampingArrivalRate;
    let expected = |wanted: &dyn Fn(&Stage) -> bool| -> u128 {
        // Twice the integral of the rate, so that ramps stay whole.
        let mut before: Option<Rate> = None;
        let mut doubled = 0;
        for stage in &load.stages {
            let Some(rate) = stage.rate else { continue };
            let length = stage.length.nanos();
            let first = if ramps { before } else { Some(rate) };
            if wanted(stage) {
                doubled += rate.events_in(length) + first.map_or(0, |rate| rate.events_in(length));
            }
            before = Some(rate);
        }
        doubled / 2
    };
    let is_measured = |stage: &Stage| stage.phase == Phase::Measure;
    let complete = load.stages.iter().all(|stage| stage.rate.is_some());
    if complete && load.stages.iter().any(is_measured) && expected(&is_measured) == 0 {
        found.add(
            key.clone(),
            "the measured phase would hold no request: rate times length is below 1",
            "raise the rate or the length",
        );
    }
    if expected(&|_| true) >= MOST_ARRIVALS {
        found.add(key, "the load has more than 2^40 requests", "");
    }
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
    if let Err(message) = rule.error_ratio_limit() {
        found.add(
            format!("{key}.when"),
            message,
            "write for instance error_ratio > 0.5",
        );
    }
}

impl AbortRule {
    /// The `X` of `error_ratio > X`, at least 0 and below 1.
    ///
    /// # Errors
    /// Any other rule, by name.
    pub fn error_ratio_limit(&self) -> Result<f64, String> {
        let words: Vec<&str> = self.when.split_whitespace().collect();
        match words.as_slice() {
            ["error_ratio", ">", limit] => {
                let limit = limit.parse::<super::Share>()?.0;
                if limit < 1.0 {
                    Ok(limit)
                } else {
                    Err("error_ratio never exceeds 1".into())
                }
            }
            ["error_ratio", ..] => Err(format!("`{}` is not a rule", self.when)),
            _ => Err(format!(
                "the abort rule `{}` is not built yet; only error_ratio is",
                self.when
            )),
        }
    }
}

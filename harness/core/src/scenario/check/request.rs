//! What is wrong with requests, with what a right answer to them is, and with flows of them.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json_path::JsonPath;

use super::{Found, is_path, is_token, name_is_new, waits, without_variables};
use crate::scenario::template::Template;
use crate::scenario::{
    Body, Capture, Flow, HeaderValue, Order, Request, Scenario, Size, Spec, Status,
};

/// Headers that the harness or HTTP itself sets.
const RESERVED_HEADERS: [&str; 6] = [
    "traceparent",
    "tracestate",
    "content-length",
    "transfer-encoding",
    "connection",
    "baggage",
];
/// Steps of a flow: their number has eight bits of a request's id.
const MOST_STEPS: usize = 255;
/// Nearly all rows of a longer law are never drawn, and its weights leave the range of numbers.
const STEEPEST_ZIPF: f64 = 20.0;

pub(super) fn requests(scenario: &Scenario, found: &mut Found) {
    let spec = &scenario.spec;
    let requests = &spec.requests;
    if requests.is_empty() {
        found.add(
            "spec.requests",
            "has no request",
            "add one with name, method and path",
        );
    }
    if requests.len() + spec.flows.len() > usize::from(u16::MAX) {
        found.add(
            "spec.requests",
            "has more than 65,535 requests and flows",
            "",
        );
    }
    let mut names = BTreeSet::new();
    for (index, request) in requests.iter().enumerate() {
        let key = format!("spec.requests[{index}]");
        name_is_new(&key, &request.name, &mut names, found);
        check_request(&key, request, found);
        expectations(&key, request, found);
        for (name, capture) in &request.capture {
            check_capture(&format!("{key}.capture.{name}"), name, capture, found);
        }
    }
    for (index, flow) in spec.flows.iter().enumerate() {
        let key = format!("spec.flows[{index}]");
        name_is_new(&key, &flow.name, &mut names, found);
        check_flow(&key, flow, spec, found);
    }
    values_are_there(scenario, found);
}

fn check_request(key: &str, request: &Request, found: &mut Found) {
    without_variables(
        format!("{key}.name"),
        &request.name,
        "write the name out",
        found,
    );
    let before_query = request.path.split('?').next().unwrap_or_default();
    match &request.route {
        Some(route) => {
            without_variables(format!("{key}.route"), route, "write the route out", found);
        }
        None if before_query.contains("{{") => found.add(
            format!("{key}.path"),
            "is a template, and the service's telemetry names its route otherwise",
            "add `route`, as the service names it, for instance /items/{id}",
        ),
        None => without_variables(
            format!("{key}.path"),
            before_query,
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
    if !waits(&request.path) && !is_path(&without_templates(&request.path)) {
        found.add(
            format!("{key}.path"),
            format!("`{}` is not a path", request.path),
            "begin with `/`, percent-encode spaces and other characters outside ASCII",
        );
    }
    headers(key, request, found);
    data(key, request, found);
    if let Some(timeout) = request.timeout {
        found.not_zero(format!("{key}.timeout"), timeout);
    }
}

/// A template's text with a letter for each name.
fn without_templates(text: &str) -> String {
    use crate::scenario::template::Part;
    match Template::parse(text) {
        Ok(template) => template
            .0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.as_str(),
                _ => "x",
            })
            .collect(),
        Err(_) => text.to_owned(),
    }
}

fn headers(key: &str, request: &Request, found: &mut Found) {
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
}

fn data(key: &str, request: &Request, found: &mut Found) {
    if let Some(Body::Dataset { field, .. }) = &request.body {
        if field.is_empty() {
            found.add(format!("{key}.body"), "`field` is empty", "");
        }
        if request.data.is_some() {
            found.add(
                format!("{key}.data"),
                "the body has a dataset of its own",
                "keep one: with `data` write the body as text: \"{{ FIELD }}\"",
            );
        }
    }
    let Some(data) = request.data() else { return };
    let key = if request.data.is_some() {
        format!("{key}.data")
    } else {
        format!("{key}.body")
    };
    if data.dataset.is_empty() {
        found.add(format!("{key}.dataset"), "names no file", "");
    }
    if let Order::Zipf(exponent) = data.order {
        if !(exponent > 0.0 && exponent <= STEEPEST_ZIPF) {
            found.add(
                format!("{key}.order"),
                format!("{exponent} is not an exponent"),
                "above 0 and at most 20; web traffic lies about 1",
            );
        }
        if !data.reuse {
            found.add(
                format!("{key}.reuse"),
                "zipf draws rows again and again",
                "take one of the two out",
            );
        }
    }
}

fn expectations(key: &str, request: &Request, found: &mut Found) {
    let expect = &request.expect;
    if let Some(Status::Any(all)) = &expect.status
        && (all.is_empty() || all.iter().any(|status| !(200..=599).contains(status)))
    {
        found.add(
            format!("{key}.expect.status"),
            "is not the status of an answer",
            "200 to 599",
        );
    }
    let json = expect.json.keys().map(|path| ("expect.json", path));
    for (part, path) in json.chain(request.score.keys().map(|path| ("score", path))) {
        json_path(format!("{key}.{part}"), path, found);
    }
    for (name, value) in &expect.headers {
        let key = format!("{key}.expect.headers.{name}");
        if !is_token(name) {
            found.add(key.clone(), format!("`{name}` is not a header name"), "");
        }
        if let HeaderValue::Matches { regex } = value {
            expression(key, regex, found);
        }
    }
    if let Some(regex) = &expect.regex {
        expression(format!("{key}.expect.regex"), regex, found);
    }
    if let Some(Size { at_least, at_most }) = expect.size {
        let key = format!("{key}.expect.size");
        match (at_least, at_most) {
            (None, None) => found.add(key, "says nothing", "add atLeast or atMost, in bytes"),
            (Some(least), Some(most)) if least > most => found.add(
                key,
                format!("at least {least} and at most {most} bytes is impossible"),
                "write the smaller as atLeast",
            ),
            _ => {}
        }
    }
    if let Some(latency) = expect.latency {
        found.not_zero(format!("{key}.expect.latency"), latency);
    }
}

fn json_path(key: String, path: &str, found: &mut Found) {
    if let Err(error) = JsonPath::parse(path) {
        found.add(
            key,
            format!("`{path}` is not a JSONPath: {error}"),
            "write for instance $.result",
        );
    }
}

fn expression(key: String, text: &str, found: &mut Found) {
    if waits(text) {
        return;
    }
    if let Err(error) = Regex::new(text) {
        let error = error.to_string();
        let last = error.lines().last().unwrap_or_default().trim();
        found.add(
            key,
            format!("`{text}` is not a regular expression: {last}"),
            "the syntax is that of the crate regex, near to RE2's",
        );
    }
}

fn check_capture(key: &str, name: &str, capture: &Capture, found: &mut Found) {
    let plain = |c: char| c.is_alphanumeric() || "_-.".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        found.add(
            key,
            format!("`{name}` is not a name"),
            "letters, digits, `_`, `-` and `.`",
        );
    }
    match (&capture.json, &capture.header, &capture.regex) {
        (Some(_), Some(_), _) => {
            found.add(key, "is found in one place only", "keep `json` or `header`")
        }
        (None, None, None) => found.add(
            key,
            "says not where the value is found",
            "add json: $.PATH, header: NAME or regex: EXPRESSION",
        ),
        _ => {}
    }
    if let Some(path) = &capture.json {
        json_path(format!("{key}.json"), path, found);
    }
    if let Some(header) = &capture.header
        && !is_token(header)
    {
        found.add(
            format!("{key}.header"),
            format!("`{header}` is not a header name"),
            "",
        );
    }
    if let Some(regex) = &capture.regex {
        expression(format!("{key}.regex"), regex, found);
    }
}

fn check_flow(key: &str, flow: &Flow, spec: &Spec, found: &mut Found) {
    without_variables(
        format!("{key}.name"),
        &flow.name,
        "write the name out",
        found,
    );
    if flow.steps.is_empty() || flow.steps.len() > MOST_STEPS {
        found.add(
            format!("{key}.steps"),
            format!("has {} steps", flow.steps.len()),
            "from 1 to 255 names of requests",
        );
    }
    for (index, step) in flow.steps.iter().enumerate() {
        if !spec.requests.iter().any(|request| request.name == *step) {
            let known: Vec<&str> = spec.requests.iter().map(|r| r.name.as_str()).collect();
            found.add(
                format!("{key}.steps[{index}]"),
                format!("no request is named `{step}`"),
                format!("one of {}", known.join(", ")),
            );
        }
    }
}

/// Every name in a template must be a field of a row, or a value captured earlier wherever the request
/// is used. Whether rows have the field is checked when they are read.
fn values_are_there(scenario: &Scenario, found: &mut Found) {
    for (index, request) in scenario.spec.requests.iter().enumerate() {
        let captured = scenario.captured_before(&request.name);
        for (part, text) in templates(request) {
            let key = format!("spec.requests[{index}].{part}");
            let template = match Template::parse(&text) {
                Ok(template) => template,
                Err(message) => {
                    found.add(key, message, "write {{ name }}");
                    continue;
                }
            };
            let unknown = |name: &&str| request.data().is_none() && !captured.contains(name);
            if let Some(name) = template.names().find(unknown) {
                found.add(
                    key,
                    format!(
                        "`{{{{ {name} }}}}` stands for nothing: the request has no dataset, and no step captures it before, wherever the request is used"
                    ),
                    "add data: {dataset: …}, or capture it in an earlier step of the flow",
                );
            }
        }
    }
}

/// All texts of a request that are templates, with their keys.
fn templates(request: &Request) -> Vec<(String, String)> {
    let mut all = vec![("path".to_owned(), request.path.clone())];
    let named = |part: &'static str| {
        move |(name, text): (&String, &String)| (format!("{part}.{name}"), text.clone())
    };
    all.extend(request.query.iter().map(named("query")));
    all.extend(request.headers.iter().map(named("headers")));
    match &request.body {
        Some(Body::Text { text }) => all.push(("body.text".into(), text.clone())),
        Some(Body::Json { json }) => texts("body.json".into(), json, &mut all),
        Some(Body::Dataset { .. }) | None => {}
    }
    for (name, value) in &request.expect.headers {
        if let HeaderValue::Is(text) = value {
            all.push((format!("expect.headers.{name}"), text.clone()));
        }
    }
    for value in request.expect.json.values() {
        if let Some(text) = value.as_str() {
            all.push(("expect.json".into(), text.to_owned()));
        }
    }
    all.extend(
        request
            .score
            .values()
            .map(|text| ("score".to_owned(), text.clone())),
    );
    all
}

fn texts(key: String, value: &serde_json::Value, all: &mut Vec<(String, String)>) {
    match value {
        serde_json::Value::String(text) => all.push((key, text.clone())),
        serde_json::Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                texts(format!("{key}[{index}]"), item, all);
            }
        }
        serde_json::Value::Object(entries) => {
            for (name, item) in entries {
                texts(format!("{key}.{name}"), item, all);
            }
        }
        _ => {}
    }
}

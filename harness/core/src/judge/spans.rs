//! The spans of one trace, from Tempo's `/api/v2/traces/{id}` (OTLP JSON, ids in base64).

use serde_json::Value;

use super::reading::{Missing, Reading, json};
use crate::query::Query;
use crate::record::AnswerBook;
use crate::units::{SpanId, TraceId};

/// Most bytes of a name or version that are kept.
const MOST_TEXT: usize = 500;

/// One span.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Span {
    pub(super) id: SpanId,
    pub(super) parent: Option<SpanId>,
    pub(super) service: String,
    pub(super) version: Option<String>,
    pub(super) name: String,
    /// Nanoseconds since the epoch.
    pub(super) start: u64,
    /// Likewise.
    pub(super) end: u64,
    pub(super) error: bool,
    /// `http.response.status_code`.
    pub(super) status: Option<u16>,
}

/// All spans of a trace, in the order of the answer. An unknown trace is [`Missing::Empty`].
pub(super) fn spans(answers: &AnswerBook, trace: TraceId) -> Reading<Vec<Span>> {
    let value = json(answers, &Query::TempoTrace { trace })?;
    let odd = || Missing::Because("tempo's trace is malformed".into());
    let trace = value
        .get("trace")
        .and_then(Value::as_object)
        .ok_or_else(odd)?;
    let Some(resources) = trace.get("resourceSpans") else {
        return Err(Missing::Empty);
    };
    let mut found = Vec::new();
    for resource in resources.as_array().ok_or_else(odd)? {
        let attribute = |key| resource.get("resource").and_then(|r| attribute(r, key));
        let service = attribute("service.name").unwrap_or_default();
        let version = attribute("service.version");
        for scope in list(resource, "scopeSpans") {
            for span in list(scope, "spans") {
                found.push(read(span, &service, version.as_deref()).ok_or_else(odd)?);
            }
        }
    }
    if found.is_empty() {
        return Err(Missing::Empty);
    }
    Ok(found)
}

fn list<'a>(value: &'a Value, key: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(key)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

fn value<'a>(holder: &'a Value, key: &str) -> Option<&'a Value> {
    list(holder, "attributes")
        .find(|a| a.get("key").and_then(Value::as_str) == Some(key))
        .and_then(|a| a.get("value"))
}

/// An attribute that is a text, at most [`MOST_TEXT`] bytes of it.
fn attribute(holder: &Value, key: &str) -> Option<String> {
    value(holder, key)?
        .get("stringValue")?
        .as_str()
        .map(bounded)
}

/// Names come from the service and are kept for each span of each request that is shown.
fn bounded(text: &str) -> String {
    text[..text.floor_char_boundary(MOST_TEXT)].to_owned()
}

fn read(span: &Value, service: &str, version: Option<&str>) -> Option<Span> {
    let text = |key: &str| span.get(key).and_then(Value::as_str);
    // Protobuf's JSON writes 64-bit numbers as text.
    let nanos = |key: &str| {
        let value = span.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.parse().ok())
    };
    let parent = text("parentSpanId").filter(|p| !p.is_empty());
    let status = value(span, "http.response.status_code")
        .and_then(|v| v.get("intValue"))
        .and_then(|v| v.as_u64().or_else(|| v.as_str()?.parse().ok()))
        .and_then(|code| u16::try_from(code).ok());
    Some(Span {
        id: SpanId(id(text("spanId")?)?),
        parent: match parent {
            None => None,
            Some(parent) => Some(SpanId(id(parent)?)),
        },
        service: service.to_owned(),
        version: version.map(str::to_owned),
        name: text("name").map(bounded).unwrap_or_default(),
        start: nanos("startTimeUnixNano")?,
        end: nanos("endTimeUnixNano")?,
        error: span
            .get("status")
            .and_then(|s| s.get("code"))
            .is_some_and(|c| c.as_str() == Some("STATUS_CODE_ERROR") || c.as_u64() == Some(2)),
        status,
    })
}

/// An id in base64 or, told apart by its length, in hexadecimal.
fn id<const N: usize>(text: &str) -> Option<[u8; N]> {
    let bytes = if text.len() == N * 2 {
        (0..N)
            .map(|i| u8::from_str_radix(text.get(i * 2..i * 2 + 2)?, 16).ok())
            .collect::<Option<Vec<u8>>>()?
    } else {
        base64(text)?
    };
    bytes.try_into().ok()
}

/// Standard or URL-safe base64 with or without padding. A dozen lines against a dependency.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() * 3 / 4);
    let (mut held, mut bits) = (0_u32, 0_u32);
    for byte in text.trim_end_matches('=').bytes() {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        held = (held << 6 | u32::from(six)) & 0xffff;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::query::Answer;
    use crate::units::UnixNanos;

    fn book(status: u16, body: &str) -> (AnswerBook, TraceId) {
        let trace: TraceId = "8dcd0b682715e32d786b354f2d432146".parse().unwrap();
        let answer = Answer {
            query: Query::TempoTrace { trace },
            at: UnixNanos(1),
            status: Some(status),
            body: body.into(),
            error: None,
        };
        ([answer].into_iter().collect(), trace)
    }

    #[test]
    fn reads_what_a_real_tempo_answered() {
        let body = r#"{"trace":{"resourceSpans":[{"resource":{"attributes":[{"key":"service.version","value":{"stringValue":"1.2"}},{"key":"service.name","value":{"stringValue":"infer"}}]},"scopeSpans":[{"scope":{"name":"cap","version":"1"},"spans":[{"traceId":"jc0LaCcV4y14azVPLUMhRg==","spanId":"ylahZq4xEA4=","name":"POST /v1/predict","kind":"SPAN_KIND_SERVER","startTimeUnixNano":"1795351914306736726","endTimeUnixNano":"1795351914326736726","status":{"code":"STATUS_CODE_ERROR"}},{"traceId":"jc0LaCcV4y14azVPLUMhRg==","spanId":"AXA9RDJ6SwE=","parentSpanId":"ylahZq4xEA4=","name":"preprocess","startTimeUnixNano":"1795351914307736726","endTimeUnixNano":"1795351914309736726","status":{}}]}]}]},"metrics":{"inspectedBytes":"34148"}}"#;
        let (answers, trace) = book(200, body);
        let spans = spans(&answers, trace).unwrap();
        assert_eq!(spans.len(), 2);
        assert_eq!(spans[0].id, "ca56a166ae31100e".parse().unwrap());
        assert!(spans[0].error && spans[0].parent.is_none());
        assert_eq!(spans[1].parent, Some(spans[0].id));
        assert_eq!(
            (spans[1].service.as_str(), spans[1].version.as_deref()),
            ("infer", Some("1.2"))
        );
        assert_eq!(spans[1].end - spans[1].start, 2_000_000);
    }

    #[test]
    fn an_unknown_trace_is_empty_and_a_strange_answer_is_not() {
        let (answers, trace) = book(200, r#"{"trace":{},"metrics":{}}"#);
        assert_eq!(spans(&answers, trace), Err(Missing::Empty));
        let (answers, trace) = book(404, "");
        assert_eq!(spans(&answers, trace), Err(Missing::Empty));
        for body in ["{}", "[]", "oops", r#"{"trace":{"resourceSpans":3}}"#] {
            let (answers, trace) = book(200, body);
            assert!(
                matches!(spans(&answers, trace), Err(Missing::Because(_))),
                "{body}"
            );
        }
    }
}

//! The head of an HTTP/1.1 message: written from a plan, read with httparse (the parser that hyper
//! uses itself).

use std::mem::MaybeUninit;

use harness_core::observation::Outcome;
use harness_core::request::RequestPlan;

use super::events::Framing;
use super::outcome::Fault;

/// Most header fields of an answer.
const MOST_FIELDS: usize = 128;

/// What stands in every request's head.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    /// Value of `host` (HTTP/2: the authority).
    pub(crate) authority: String,
    /// Path of the base URL, without a slash at its end; before every request's path.
    pub(crate) prefix: String,
    /// Value of `baggage`.
    pub(crate) baggage: String,
    /// Whether connections are used again.
    pub(crate) keep_alive: bool,
}

/// How the end of a body is told (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    Known(u64),
    Chunked,
    UntilClose,
}

/// The head of an answer.
#[derive(Debug)]
pub(crate) struct Head {
    /// Bytes it took.
    pub(crate) taken: usize,
    pub(crate) status: u16,
    pub(crate) length: Length,
    /// Whether the connection may be used again.
    pub(crate) reusable: bool,
    /// The body is `text/event-stream`.
    pub(crate) event_stream: bool,
    /// All fields, where they are wanted.
    pub(crate) fields: Option<http::HeaderMap>,
}

impl Head {
    /// How the body is divided into events: as the scenario says, else by its media type.
    pub(crate) fn framing(&self, told: Option<Framing>) -> Option<Framing> {
        told.or(self.event_stream.then_some(Framing::Sse))
    }
}

/// Whether somebody looks at the fields of an answer of this status in any case: where to go
/// instead, and when to come back.
pub(crate) fn fields_matter(status: u16) -> bool {
    matches!(status, 300..=399 | 429 | 503)
}

/// Appends the head and the body of a request.
///
/// # Errors
/// A method, path or field that would change the message's framing.
pub(crate) fn write_request(
    out: &mut Vec<u8>,
    plan: &RequestPlan,
    common: &Common,
) -> Result<(), Fault> {
    let wrong = |what: &str| {
        let why = format!("the request's {what} holds a character that may not be sent");
        Err(Fault::new(Outcome::GeneratorFailed, why))
    };
    if !plan.method.bytes().all(is_token) || plan.method.is_empty() {
        return wrong("method");
    }
    if !plan.path.bytes().all(|byte| byte > b' ' && byte != 0x7f) {
        return wrong("path");
    }
    out.extend_from_slice(plan.method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(common.prefix.as_bytes());
    out.extend_from_slice(plan.path.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    let own = |name: &str| {
        let mut names = plan.headers.iter().map(|(name, _)| name.as_str());
        names.any(|named| named == name)
    };
    if !own("host") {
        field(out, b"host", common.authority.as_bytes());
    }
    out.extend_from_slice(b"traceparent: ");
    traceparent(out, plan);
    out.extend_from_slice(b"\r\n");
    field(out, b"baggage", common.baggage.as_bytes());
    if !common.keep_alive {
        field(out, b"connection", b"close");
    }
    for (name, value) in plan.headers.iter() {
        if !name.bytes().all(is_token) || name.is_empty() {
            return wrong("header name");
        }
        if !value
            .bytes()
            .all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f))
        {
            return wrong(name);
        }
        if !is_ours(name) {
            field(out, name.as_bytes(), value.as_bytes());
        }
    }
    if !plan.body.is_empty() || matches!(&*plan.method, "POST" | "PUT" | "PATCH") {
        let mut digits = [0; 20];
        field(
            out,
            b"content-length",
            decimal(plan.body.len(), &mut digits),
        );
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&plan.body);
    Ok(())
}

/// Fields that the harness writes itself: framing and the trace.
pub(crate) fn is_ours(name: &str) -> bool {
    matches!(
        name,
        "traceparent" | "baggage" | "content-length" | "transfer-encoding" | "connection"
    )
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// `00-TRACE-SPAN-FLAGS` (W3C Trace Context, version 00), as [`RequestPlan::traceparent`] has it.
fn traceparent(out: &mut Vec<u8>, plan: &RequestPlan) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut hex = |bytes: &[u8]| {
        for byte in bytes {
            out.push(DIGITS[usize::from(byte >> 4)]);
            out.push(DIGITS[usize::from(byte & 15)]);
        }
        out.push(b'-');
    };
    hex(&[0]);
    hex(&plan.trace.0);
    hex(&plan.span.0);
    out.extend_from_slice(if plan.sampled { b"01" } else { b"00" });
}

fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return &digits[at..];
        }
    }
}

/// RFC 9110, section 5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Reads the head at the start of `bytes`; `None` when it is not all there yet.
///
/// # Errors
/// When it is no head of HTTP/1, or contradicts itself.
pub(crate) fn read_head(
    bytes: &[u8],
    asked_for_head: bool,
    wanted: bool,
) -> Result<Option<Head>, Fault> {
    let mut space = [const { MaybeUninit::uninit() }; MOST_FIELDS];
    let mut response = httparse::Response::new(&mut []);
    let parsed = httparse::ParserConfig::default()
        .parse_response_with_uninit_headers(&mut response, bytes, &mut space)
        .map_err(|error| Fault::protocol(format!("the answer is no HTTP/1.1: {error}")))?;
    let httparse::Status::Complete(taken) = parsed else {
        return Ok(None);
    };
    let status = response.code.unwrap_or(0);
    let mut fields = Fields {
        keep_alive: response.version == Some(1),
        ..Fields::default()
    };
    for header in response.headers.iter() {
        fields.take(header.name, header.value)?;
    }
    let wants_fields = wanted || fields_matter(status);
    Ok(Some(Head {
        taken,
        status,
        length: fields.length(status, asked_for_head),
        reusable: fields.keep_alive && !(fields.coded && fields.length.is_some()),
        event_stream: fields.event_stream,
        fields: wants_fields.then(|| all_fields(response.headers)),
    }))
}

#[derive(Default)]
struct Fields {
    keep_alive: bool,
    length: Option<u64>,
    coded: bool,
    chunked: bool,
    event_stream: bool,
}

impl Fields {
    fn take(&mut self, name: &str, value: &[u8]) -> Result<(), Fault> {
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("content-length") {
            let length = std::str::from_utf8(value)
                .ok()
                .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|text| text.parse().ok());
            if length.is_none() || self.length.is_some_and(|before| Some(before) != length) {
                let why = "the answer's content-length is no single number";
                return Err(Fault::protocol(why));
            }
            self.length = length;
        } else if is("transfer-encoding") {
            self.coded = true;
            self.chunked = last_token(value).eq_ignore_ascii_case(b"chunked");
        } else if is("connection") {
            for token in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                if token.eq_ignore_ascii_case(b"close") {
                    self.keep_alive = false;
                } else if token.eq_ignore_ascii_case(b"keep-alive") {
                    self.keep_alive = true;
                }
            }
        } else if is("content-type") {
            let media = value.split(|byte| *byte == b';').next().unwrap_or_default();
            self.event_stream = media
                .trim_ascii()
                .eq_ignore_ascii_case(b"text/event-stream");
        }
        Ok(())
    }

    fn length(&self, status: u16, asked_for_head: bool) -> Length {
        if asked_for_head || matches!(status, 100..=199 | 204 | 304) {
            return Length::Known(0);
        }
        match (self.coded, self.chunked, self.length) {
            (true, true, _) => Length::Chunked,
            (true, false, _) | (false, _, None) => Length::UntilClose,
            (false, _, Some(length)) => Length::Known(length),
        }
    }
}

fn last_token(value: &[u8]) -> &[u8] {
    value
        .rsplit(|byte| *byte == b',')
        .next()
        .unwrap_or_default()
        .trim_ascii()
}

fn all_fields(headers: &[httparse::Header]) -> http::HeaderMap {
    headers
        .iter()
        .filter_map(|header| {
            let name = http::HeaderName::from_bytes(header.name.as_bytes()).ok()?;
            Some((name, http::HeaderValue::from_bytes(header.value).ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Head {
        read_head(text.as_bytes(), false, false).unwrap().unwrap()
    }

    #[test]
    fn the_end_of_a_body_is_told_as_the_standard_says() {
        let head = read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!((head.status, head.length), (200, Length::Known(5)));
        assert!(head.reusable && head.taken == 38);
        let head = read("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n");
        assert_eq!(head.length, Length::Chunked);
        let both = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n";
        assert_eq!(
            (read(both).length, read(both).reusable),
            (Length::Chunked, false)
        );
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n").length, Length::UntilClose);
        assert_eq!(
            read("HTTP/1.1 204 No Content\r\n\r\n").length,
            Length::Known(0)
        );
        let head = read_head(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true, false);
        assert_eq!(head.unwrap().unwrap().length, Length::Known(0));
    }

    #[test]
    fn who_may_use_the_connection_again() {
        assert!(!read("HTTP/1.0 200 OK\r\n\r\n").reusable);
        assert!(read("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\n\r\n").reusable);
        assert!(!read("HTTP/1.1 200 OK\r\nConnection: upgrade, close\r\n\r\n").reusable);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for wrong in [
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +3\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n",
            "SSH-2.0-OpenSSH\r\n\r\n",
        ] {
            let fault = read_head(wrong.as_bytes(), false, false).unwrap_err();
            assert_eq!(fault.outcome, Outcome::ProtocolError, "{wrong}");
        }
        assert!(
            read_head(b"HTTP/1.1 200 OK\r\nContent-Le", false, false)
                .unwrap()
                .is_none()
        );
    }

    #[test]
    fn event_streams_are_known_by_their_type() {
        let head =
            read("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n\r\n");
        assert_eq!(head.framing(None), Some(Framing::Sse));
        assert_eq!(head.framing(Some(Framing::Chunks)), Some(Framing::Chunks));
        assert_eq!(read("HTTP/1.1 200 OK\r\n\r\n").framing(None), None);
        let busy = read("HTTP/1.1 503 Busy\r\nRetry-After: 2\r\n\r\n");
        assert_eq!(busy.fields.unwrap()["retry-after"], "2");
    }
}

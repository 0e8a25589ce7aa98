//! Around every request: the server span, the metrics and the log line.
//!
//! A request is counted when its response is handed over, so that whoever has an answer in hand
//! finds it in the next scrape. One whose client left before that is counted too, as 499: it cost
//! what it cost.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use http::{Method, StatusCode};
use opentelemetry::KeyValue;
use opentelemetry::logs::Severity;

use super::error::Refusal;
use super::stream::{Streamed, Watched};
use super::{HEALTHZ, READYZ, Service};
use crate::telemetry::names::{self, METHOD_OTHER, ROUTE_UNMATCHED, attribute, event, reason};
use crate::telemetry::{Anchor, Line, RequestTrace};

/// What handlers may know of the request's telemetry. Absent for probes.
#[derive(Debug, Clone)]
pub(super) struct Observed {
    pub(super) trace: RequestTrace,
}

/// nginx' status for a client that left; it has no registered name.
const CLIENT_CLOSED_REQUEST: u16 = 499;

pub(super) async fn observe(
    State(service): State<Arc<Service>>,
    mut request: Request,
    next: Next,
) -> Response {
    let scope = Scope::begin(service, &request);
    if let Some(trace) = &scope.trace {
        request.extensions_mut().insert(Observed {
            trace: trace.clone(),
        });
    }
    let mut response = next.run(request).await;
    if let Some(streamed) = response.extensions_mut().remove::<Streamed>() {
        let (parts, inner) = response.into_parts();
        let watched = Watched {
            inner,
            scope: Some(scope),
            status: parts.status,
            streamed,
        };
        return Response::from_parts(parts, Body::new(watched));
    }
    let refusal = response.extensions().get::<Refusal>();
    scope.finish(response.status(), refusal);
    response
}

/// A request between headers and response. Dropped unfinished, it tells that the client left.
pub(super) struct Scope {
    service: Arc<Service>,
    method: &'static str,
    route: Cow<'static, str>,
    start: Instant,
    // Probes come every second and say nothing: counted, not traced and not logged.
    trace: Option<RequestTrace>,
    path: String,
    finished: bool,
}

impl Scope {
    fn begin(service: Arc<Service>, request: &Request) -> Scope {
        let anchor = Anchor::now();
        let method = method_label(request.method());
        let matched = request.extensions().get::<MatchedPath>();
        let route = matched.map(|m| Cow::Owned(m.as_str().to_owned()));
        let probe = matches!(route.as_deref(), Some(HEALTHZ | READYZ));
        let path = request.uri().path().to_owned();
        let trace = (!probe).then(|| {
            let name = match &route {
                Some(route) => Cow::Owned(format!("{method} {route}")),
                None => Cow::Borrowed(method),
            };
            let mut attributes = vec![
                KeyValue::new(attribute::METHOD, method),
                KeyValue::new(attribute::PATH, path.clone()),
            ];
            if let Some(route) = &route {
                attributes.push(KeyValue::new(attribute::ROUTE, route.to_string()));
            }
            let tracer = service.telemetry.tracer().clone();
            let baggage = &service.telemetry.baggage;
            RequestTrace::begin(tracer, request.headers(), name, attributes, anchor, baggage)
        });
        service.telemetry.metrics.active_requests.inc();
        let route = route.unwrap_or(Cow::Borrowed(ROUTE_UNMATCHED));
        Scope {
            service,
            method,
            route,
            start: anchor.instant(),
            trace,
            path,
            finished: false,
        }
    }

    /// `status` is what was sent; a refusal that came after it, in the midst of the answer, has its own.
    pub(super) fn finish(mut self, status: StatusCode, refusal: Option<&Refusal>) {
        let (class, message) = match refusal {
            Some(refusal) => (Some(refusal.class), Some(refusal.message.as_str())),
            None => (None, None),
        };
        let meant = refusal.map_or(status, |refusal| refusal.status);
        self.record(status.as_u16(), meant.as_u16(), class, message);
    }

    /// `meant` is the status that tells how it ended, where another was sent before.
    fn record(&mut self, status: u16, meant: u16, class: Option<&str>, message: Option<&str>) {
        self.finished = true;
        let end = Instant::now();
        let duration = end.saturating_duration_since(self.start).as_secs_f64();
        let digits = status.to_string();
        let metrics = &self.service.telemetry.metrics;
        metrics.active_requests.dec();
        metrics
            .request_duration
            .with_label_values(&[self.method, &*self.route, digits.as_str()])
            .observe(duration);
        let Some(trace) = &self.trace else { return };
        let server_fault = meant >= 500 || meant == CLIENT_CLOSED_REQUEST;
        let mut attributes = vec![KeyValue::new(attribute::STATUS, i64::from(status))];
        let class = class.map_or(digits, str::to_owned);
        if server_fault {
            attributes.push(KeyValue::new(attribute::ERROR_TYPE, class.clone()));
        }
        trace.end(end, attributes.clone(), meant >= 500);
        attributes.extend([
            KeyValue::new(attribute::METHOD, self.method),
            KeyValue::new(attribute::ROUTE, self.route.to_string()),
            KeyValue::new(attribute::PATH, self.path.clone()),
            KeyValue::new(attribute::DURATION, duration),
        ]);
        attributes.extend(trace.baggage().iter().cloned());
        if !server_fault && meant >= 400 {
            attributes.push(KeyValue::new(attribute::ERROR_TYPE, class.clone()));
        }
        if let Some(message) = message {
            attributes.push(KeyValue::new(attribute::ERROR_MESSAGE, message.to_owned()));
        }
        self.service.telemetry.logs.emit(Line {
            time: trace.anchor().wall(end),
            severity: severity(meant, &class),
            event: event::REQUEST,
            span: Some(trace.span_context()),
            attributes,
        });
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        if !self.finished {
            let message = "the client closed the connection before the answer";
            self.record(
                CLIENT_CLOSED_REQUEST,
                CLIENT_CLOSED_REQUEST,
                Some(reason::CLIENT_CLOSED),
                Some(message),
            );
        }
    }
}

/// Our own faults are errors. What the client caused, and load shed on purpose, are warnings: an
/// overloaded service that sheds works as designed, and its error log should say what is broken.
fn severity(status: u16, class: &str) -> Severity {
    let shed = status == 503 && names::reason::REJECTIONS.contains(&class);
    match status {
        500.. if !shed => Severity::Error,
        400.. => Severity::Warn,
        _ => Severity::Info,
    }
}

/// The conventions bound the label: a method that is not registered is `_OTHER`.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "PUT" => "PUT",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        "PATCH" => "PATCH",
        "TRACE" => "TRACE",
        "CONNECT" => "CONNECT",
        _ => METHOD_OTHER,
    }
}

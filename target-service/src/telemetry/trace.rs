//! The spans of one request.
//!
//! Made with the OpenTelemetry API and explicit instants, not with `tracing` spans: a request waits
//! in a queue on one thread, is computed on a second in a batch shared with others, and is
//! answered on a third. Its `queue` and `inference` spans are known only afterwards, from instants
//! the worker took; a `tracing` span, which begins when it is made, would have to be carried along
//! and entered across threads to say the same less exactly.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{
    Link, Span as _, SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt, Tracer as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::propagation::{BaggagePropagator, TraceContextPropagator};
use opentelemetry_sdk::trace::SdkTracer;

/// Monotonic instants as wall-clock times: one pair read together, so that all spans of a request
/// agree even if the wall clock is set meanwhile.
#[derive(Debug, Clone, Copy)]
pub struct Anchor {
    wall: SystemTime,
    instant: Instant,
}

impl Anchor {
    /// Now.
    pub fn now() -> Anchor {
        Anchor {
            wall: SystemTime::now(),
            instant: Instant::now(),
        }
    }

    /// The instant of the anchor.
    pub fn instant(&self) -> Instant {
        self.instant
    }

    /// `at` by the wall clock.
    pub fn wall(&self, at: Instant) -> SystemTime {
        match at.checked_duration_since(self.instant) {
            Some(after) => self.wall + after,
            None => self.wall - self.instant.duration_since(at),
        }
    }
}

/// A stage of a request, for [`RequestTrace::stage`].
#[derive(Debug, Clone, Copy)]
pub struct Stage {
    /// Name of the span.
    pub name: &'static str,
    /// When it began.
    pub start: Instant,
    /// When it ended.
    pub end: Instant,
}

/// The server span of one request, and its children's parent.
#[derive(Debug, Clone)]
pub struct RequestTrace {
    tracer: SdkTracer,
    context: Context,
    anchor: Anchor,
    baggage: Vec<KeyValue>,
}

/// Letters of a value of baggage that are kept: it is the caller's to say, and goes with every log line.
const BAGGAGE_VALUE: usize = 256;

impl RequestTrace {
    /// Starts the server span. Of the caller's W3C baggage, all of which stays in the context of its spans, those
    /// entries are put on it that `baggage` names. The parent, and whether it is sampled, come from `traceparent`; a
    /// malformed one starts a new trace, as the W3C recommendation asks.
    pub fn begin(
        tracer: SdkTracer,
        headers: &http::HeaderMap,
        name: Cow<'static, str>,
        mut attributes: Vec<KeyValue>,
        anchor: Anchor,
        baggage: &[String],
    ) -> RequestTrace {
        let parent = TraceContextPropagator::new().extract_with_context(
            // Not the current context: nothing outside of this request is its parent.
            &Context::new(),
            &Headers(headers),
        );
        let parent = BaggagePropagator::new().extract_with_context(&parent, &Headers(headers));
        let entry = |key: &String| {
            let value: String = parent
                .baggage()
                .get(key)?
                .as_str()
                .chars()
                .take(BAGGAGE_VALUE)
                .collect();
            Some(KeyValue::new(key.clone(), value))
        };
        let baggage: Vec<KeyValue> = baggage.iter().filter_map(entry).collect();
        attributes.extend(baggage.iter().cloned());
        let span = tracer
            .span_builder(name)
            .with_kind(SpanKind::Server)
            .with_start_time(anchor.wall)
            .with_attributes(attributes);
        let span = tracer.build_with_context(span, &parent);
        RequestTrace {
            tracer,
            context: parent.with_span(span),
            anchor,
            baggage,
        }
    }

    /// Trace and span id, and whether it is sampled.
    pub fn span_context(&self) -> SpanContext {
        self.context.span().span_context().clone()
    }

    /// The entries of the caller's baggage that are recorded.
    pub fn baggage(&self) -> &[KeyValue] {
        &self.baggage
    }

    /// The clock pair all spans of this request use.
    pub fn anchor(&self) -> Anchor {
        self.anchor
    }

    /// Whether anything of it will be sent.
    pub fn is_recording(&self) -> bool {
        self.context.span().is_recording()
    }

    /// Adds to the server span.
    pub fn note(&self, attributes: Vec<KeyValue>) {
        self.context.span().set_attributes(attributes);
    }

    /// Records what several requests share, whose server spans are `members`: a span that is over, in a
    /// trace of its own and linked with all of them.
    pub fn shared(
        &self,
        stage: Stage,
        attributes: Vec<KeyValue>,
        members: &[SpanContext],
    ) -> SpanContext {
        let links = members
            .iter()
            .map(|m| Link::with_context(m.clone()))
            .collect();
        let span = self
            .tracer
            .span_builder(stage.name)
            .with_start_time(self.anchor.wall(stage.start))
            .with_attributes(attributes)
            .with_links(links);
        let mut span = self.tracer.build_with_context(span, &Context::new());
        let context = span.span_context().clone();
        span.end_with_timestamp(self.anchor.wall(stage.end));
        context
    }

    /// Records a child span that is over, and its own children.
    pub fn stage(&self, stage: Stage, attributes: Vec<KeyValue>, within: &[Stage]) {
        self.linked_stage(stage, attributes, within, None);
    }

    /// As [`RequestTrace::stage`], with a link to a span elsewhere.
    pub fn linked_stage(
        &self,
        stage: Stage,
        attributes: Vec<KeyValue>,
        within: &[Stage],
        link: Option<SpanContext>,
    ) {
        if !self.is_recording() {
            return;
        }
        let span = self
            .tracer
            .span_builder(stage.name)
            .with_attributes(attributes)
            .with_links(link.into_iter().map(Link::with_context).collect());
        self.child(span, (stage.start, stage.end), within, false);
    }

    /// As [`RequestTrace::stage`], of a generation, whose name tells the model's, too. `failed` marks it as an
    /// error.
    pub fn generation(
        &self,
        name: String,
        over: (Instant, Instant),
        attributes: Vec<KeyValue>,
        within: &[Stage],
        failed: bool,
    ) {
        if !self.is_recording() {
            return;
        }
        let span = self.tracer.span_builder(name).with_attributes(attributes);
        self.child(span, over, within, failed);
    }

    fn child(
        &self,
        span: SpanBuilder,
        (start, end): (Instant, Instant),
        within: &[Stage],
        failed: bool,
    ) {
        let span = span.with_start_time(self.anchor.wall(start));
        let context = self
            .context
            .with_span(self.tracer.build_with_context(span, &self.context));
        for inner in within {
            let span = self
                .tracer
                .span_builder(inner.name)
                .with_start_time(self.anchor.wall(inner.start));
            let mut span = self.tracer.build_with_context(span, &context);
            span.end_with_timestamp(self.anchor.wall(inner.end));
        }
        if failed {
            context.span().set_status(Status::error(""));
        }
        context.span().end_with_timestamp(self.anchor.wall(end));
    }

    /// Ends the server span. `failed` marks it as an error of the service.
    pub fn end(&self, at: Instant, attributes: Vec<KeyValue>, failed: bool) {
        let span = self.context.span();
        span.set_attributes(attributes);
        if failed {
            // The class is in error.type; a description would only repeat it.
            span.set_status(Status::error(""));
        }
        span.end_with_timestamp(self.anchor.wall(at));
    }
}

struct Headers<'a>(&'a http::HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(http::HeaderName::as_str).collect()
    }
}

//! Answers that are written while they are sent: server-sent events, and their end in the telemetry.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use axum::body::{Body, Bytes};
use http::StatusCode;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use serde_json::{Value, json};

use super::completions::Chunks;
use super::error::{Refusal, Shape};
use super::generation::{Generation, Step};
use super::observe::Scope;

/// In a response's extensions, tells that its body is still being written; holds why it was broken off.
#[derive(Debug, Clone, Default)]
pub(super) struct Streamed(Arc<Mutex<Option<Refusal>>>);

impl Streamed {
    fn break_off(&self, refusal: Refusal) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(refusal);
    }

    fn broken(&self) -> Option<Refusal> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// A text as server-sent events. The last is `[DONE]`, or an error without it.
pub(super) struct Events {
    generation: Generation,
    chunks: Chunks,
    usage: bool,
    ready: VecDeque<Bytes>,
    over: bool,
    streamed: Streamed,
}

impl Events {
    pub(super) fn new(
        generation: Generation,
        chunks: Chunks,
        first: Step,
        usage: bool,
        streamed: Streamed,
    ) -> Self {
        let mut events = Events {
            generation,
            chunks,
            usage,
            ready: VecDeque::new(),
            over: false,
            streamed,
        };
        events.take(first);
        events
    }

    fn take(&mut self, step: Step) {
        match step {
            // Nothing is certain yet: the character is not whole, or may begin a stop text.
            Step::Text(text) if text.is_empty() => {}
            Step::Text(text) => {
                let mut chunk = self.chunks.chunk(&text, None);
                if self.usage {
                    // The protocol has the field in every event then.
                    chunk["usage"] = Value::Null;
                }
                self.ready.push_back(event(&chunk.to_string()));
            }
            Step::Done(text, finish) => {
                let mut last = event(&self.chunks.chunk(&text, Some(finish)).to_string()).to_vec();
                if self.usage {
                    let mut usage = self.chunks.with(&json!([]));
                    usage["usage"] = self.generation.usage();
                    last.extend(event(&usage.to_string()));
                }
                last.extend(event("[DONE]"));
                self.ready.push_back(last.into());
                self.over = true;
            }
            Step::Broken(refusal) => {
                let refusal = refusal.shaped(Shape::OpenAi);
                self.ready.push_back(event(&refusal.body().to_string()));
                self.streamed.break_off(refusal);
                self.over = true;
            }
        }
    }
}

fn event(data: &str) -> Bytes {
    format!("data: {data}\n\n").into()
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(bytes) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let step = ready!(self.generation.poll_next(context));
            self.take(step);
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over && self.ready.is_empty()
    }
}

/// A body whose request is over when it is: counted and logged before its last bytes are handed over, so that
/// whoever has them finds it in the next scrape. Dropped before, its client has left.
pub(super) struct Watched {
    pub(super) inner: Body,
    pub(super) scope: Option<Scope>,
    pub(super) status: StatusCode,
    pub(super) streamed: Streamed,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(context));
        let over = match &frame {
            Some(Ok(_)) => self.inner.is_end_stream(),
            Some(Err(_)) | None => true,
        };
        if over && let Some(scope) = self.scope.take() {
            scope.finish(self.status, self.streamed.broken().as_ref());
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

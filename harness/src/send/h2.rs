//! Requests on an HTTP/2 connection that others use at the same time; hyper speaks the protocol.

use bytes::Bytes;
use harness_core::observation::Outcome;
use harness_core::request::RequestPlan;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;

use super::MAX_ANSWER;
use super::events::Framing;
use super::exchange::{Asked, Seen, Stage, too_large, within};
use super::head::{Common, fields_matter, is_ours};
use super::outcome::Fault;
use crate::clock::Clock;

/// The request of a plan.
///
/// # Errors
/// A method, path or field that may not be sent.
pub(crate) fn request(
    plan: &RequestPlan,
    common: &Common,
    scheme: &str,
) -> Result<http::Request<Full<Bytes>>, Fault> {
    let mut request = http::Request::builder()
        .method(&*plan.method)
        .uri(format!(
            "{scheme}://{}{}{}",
            common.authority, common.prefix, plan.path
        ))
        .version(http::Version::HTTP_2)
        .header("traceparent", plan.traceparent())
        .header("baggage", &common.baggage);
    for (name, value) in plan.headers.iter() {
        if !is_ours(name) && name != "host" {
            request = request.header(name.as_str(), value.as_str());
        }
    }
    request
        .body(Full::new(Bytes::from_owner(plan.body.clone())))
        .map_err(|error| Fault::new(Outcome::GeneratorFailed, format!("the request: {error}")))
}

/// Sends a request and reads its answer, the body into `body`. The fields are in what is returned
/// where they are wanted.
pub(crate) async fn exchange(
    send: &mut SendRequest<Full<Bytes>>,
    request: http::Request<Full<Bytes>>,
    asked: Asked,
    body: &mut Vec<u8>,
    clock: Clock,
    seen: &mut Seen,
) -> Result<(u16, Option<http::HeaderMap>), Fault> {
    seen.stage = Stage::Waiting;
    let doing = "waiting for the answer";
    let head = async {
        send.ready().await?;
        send.send_request(request).await
    };
    let answer = within(asked.first_byte_by, head)
        .await?
        .map_err(|error| Fault::http2(doing, &error))?;
    (seen.first_byte, seen.stage) = (Some(clock.now()), Stage::Reading);
    let (head, mut pieces) = answer.into_parts();
    let status = head.status.as_u16();
    seen.status = Some(status);
    let sse = head
        .headers
        .get(http::header::CONTENT_TYPE)
        .is_some_and(|media| {
            let media = media.as_bytes().split(|byte| *byte == b';').next();
            media.is_some_and(|media| {
                media
                    .trim_ascii()
                    .eq_ignore_ascii_case(b"text/event-stream")
            })
        });
    if let Some(framing) = asked.framing.or(sse.then_some(Framing::Sse)) {
        seen.stream(framing);
    }
    while let Some(frame) = pieces.frame().await {
        let frame = frame.map_err(|error| Fault::http2("reading the answer", &error))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if body.len() + data.len() > MAX_ANSWER {
            return Err(too_large());
        }
        seen.body(&data, !data.is_empty(), clock.now());
        body.extend_from_slice(&data);
    }
    let fields = (asked.fields || fields_matter(status)).then_some(head.headers);
    Ok((status, fields))
}

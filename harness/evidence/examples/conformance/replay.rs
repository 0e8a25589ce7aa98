//! Recorded questions put again, to this crate's own APIs or to a server at an address.

use crate::compare::{Answer, compare, same_text};
use axum::Router;
use axum::body::Body;
use http_body_util::BodyExt as _;
use serde_json::Value;
use std::collections::BTreeMap;
use tower::ServiceExt as _;

/// What answers.
pub(crate) enum Server {
    /// An API of this crate, without a socket.
    Embedded(Router),
    /// Anything that speaks HTTP.
    Url(reqwest::Client, String),
}

impl Server {
    /// A server at an address.
    pub(crate) fn at(url: &str) -> Self {
        // Plain HTTP: no provider of cryptography is needed, but the client wants one installed.
        let _ = rustls::crypto::ring::default_provider().install_default();
        Self::Url(reqwest::Client::new(), url.trim_end_matches('/').to_owned())
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Vec<u8>,
    ) -> Result<(u16, String, Vec<u8>), String> {
        match self {
            Self::Embedded(router) => {
                let mut request = http::Request::builder().method(method).uri(target);
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                let request = request.body(Body::from(body)).map_err(|e| e.to_string())?;
                let answer = router.clone().oneshot(request).await;
                let answer = answer.map_err(|e| e.to_string())?;
                let kind = content_type(answer.headers());
                let status = answer.status().as_u16();
                let bytes = answer.into_body().collect().await;
                let bytes = bytes.map_err(|e| e.to_string())?.to_bytes();
                Ok((status, kind, bytes.to_vec()))
            }
            Self::Url(client, base) => {
                let method = method.parse().map_err(|_| format!("no method: {method}"))?;
                let mut request = client.request(method, format!("{base}{target}")).body(body);
                for (name, value) in headers {
                    request = request.header(*name, *value);
                }
                let answer = request.send().await.map_err(|e| format!("{base}: {e}"))?;
                let kind = content_type(answer.headers());
                let status = answer.status().as_u16();
                let bytes = answer.bytes().await.map_err(|e| e.to_string())?;
                Ok((status, kind, bytes.to_vec()))
            }
        }
    }

    /// Puts the question of a case.
    async fn ask(&self, case: &Value) -> Result<Answer, String> {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in case["params"].as_object().into_iter().flatten() {
            for each in value.as_array().unwrap_or(&vec![value.clone()]) {
                query.append_pair(name, each.as_str().unwrap_or(""));
            }
        }
        let path = case["path"].as_str().unwrap_or("");
        let target = format!("{path}?{}", query.finish());
        let method = case["method"].as_str().unwrap_or("GET");
        let (status, content_type, bytes) = self.send(method, &target, &[], Vec::new()).await?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer {
            status,
            content_type,
            body: serde_json::from_str(&text).unwrap_or(Value::String(text)),
        })
    }
}

fn content_type(headers: &http::HeaderMap) -> String {
    let value = headers.get(http::header::CONTENT_TYPE);
    value.and_then(|v| v.to_str().ok()).unwrap_or("").to_owned()
}

/// A case that did not pass.
pub(crate) struct Miss {
    pub(crate) id: String,
    pub(crate) query: String,
    pub(crate) why: String,
}

/// What became of the cases of one file.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) passed: usize,
    pub(crate) failed: Vec<Miss>,
    /// Answered with an error that says the thing is not supported.
    pub(crate) refused: Vec<Miss>,
    /// Prometheus 3 is followed and version 2 was recorded.
    pub(crate) by_version: Vec<Miss>,
    /// Passed and not, by category.
    pub(crate) categories: BTreeMap<String, (usize, usize)>,
    /// Error cases whose text is the recorded one, and all whose text is stable.
    pub(crate) texts: (usize, usize),
    /// Error cases with another text.
    pub(crate) other_texts: Vec<Miss>,
}

/// Cases in which Prometheus 3 answers otherwise than the recorded 2.42, beyond those that are marked
/// so where they were recorded.
const BY_VERSION: [(&str, &str); 4] = [
    (
        "prometheus-counter-023",
        "version 3 stretches a counter born late by half an interval at most",
    ),
    (
        "prometheus-counter-024",
        "version 3 stretches a counter born late by half an interval at most",
    ),
    (
        "prometheus-range-005",
        "version 3 stretches a counter born late by half an interval at most",
    ),
    (
        "prometheus-binary-025",
        "in version 3 atan2 drops the metric's name",
    ),
];

/// Puts every case (one JSON object a line) and compares the answers.
///
/// # Errors
/// When a line is no case or the server cannot be reached.
pub(crate) async fn replay(server: &Server, cases: &str) -> Result<Tally, String> {
    let mut tally = Tally::default();
    for (n, line) in cases.lines().enumerate() {
        if line.trim().is_empty() {
            continue;
        }
        let case: Value = serde_json::from_str(line).map_err(|e| format!("line {}: {e}", n + 1))?;
        if case.get("unstable").is_some() {
            continue;
        }
        let answer = server.ask(&case).await?;
        tally.add(&case, &answer);
    }
    Ok(tally)
}

impl Tally {
    fn add(&mut self, case: &Value, answer: &Answer) {
        let text = |v: &Value| v.as_str().unwrap_or("").to_owned();
        let params = &case["params"];
        let query = params.get("query").or_else(|| params.get("q"));
        let miss = |why: String| Miss {
            id: text(&case["id"]),
            query: query.map_or_else(|| text(&case["path"]), text),
            why,
        };
        if let Some(same) = same_text(case, answer) {
            self.texts.1 += 1;
            self.texts.0 += usize::from(same);
            if !same {
                self.other_texts.push(miss(format!(
                    "{} was recorded, got {}",
                    case["response"], answer.body
                )));
            }
        }
        let row = self.categories.entry(text(&case["category"])).or_default();
        let Err(why) = compare(case, answer) else {
            row.0 += 1;
            self.passed += 1;
            return;
        };
        row.1 += 1;
        let known = BY_VERSION.iter().find(|(id, _)| case["id"] == *id);
        if let Some((_, reason)) = known {
            self.by_version.push(miss(format!("{reason}: {why}")));
        } else if case["v2v3"] == true {
            self.by_version
                .push(miss(format!("{}: {why}", text(&case["note"]))));
        } else if refuses(answer) {
            self.refused.push(miss(why));
        } else {
            self.failed.push(miss(why));
        }
    }
}

/// Whether an answer says that it does not support what was asked for.
fn refuses(answer: &Answer) -> bool {
    let text = answer.body.get("error").unwrap_or(&answer.body);
    let text = text.as_str().unwrap_or("");
    answer.status >= 400
        && (text.contains("not supported") || text.starts_with("404 page not found"))
}

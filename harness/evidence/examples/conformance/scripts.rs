//! Prometheus' test scripts against a server: samples go in by remote write, queries over the API.

use crate::feed::Samples;
use crate::remote_write;
use crate::replay::Server;
use harness_evidence::promql::testing::{Engine, EngineError};
use harness_evidence::promql::{Answer, QueryValue, VectorSample};
use harness_evidence::store::metrics::{Labels, SeriesData};
use serde_json::Value;
use std::process::Command;
use std::time::Duration;
use tokio::runtime::Runtime;

/// How far apart in time the data of two parts of a script lies when the server is not emptied.
const APART_MS: i64 = 40 * 86_400_000;

/// A server as what a script runs on.
///
/// A script's `clear` needs an empty server. With a command, it is run and must leave one at the same
/// address. Without, what follows is moved in time, out of the reach of what is stored already; a
/// query that looks at the time itself is then refused, since its answer would be another.
pub(crate) struct OverHttp {
    runtime: Runtime,
    server: Server,
    restart: Option<String>,
    /// Added to all times, milliseconds.
    shift: i64,
    /// Whether samples have been sent since the server was empty.
    used: bool,
}

impl OverHttp {
    pub(crate) fn new(runtime: Runtime, url: &str, restart: Option<String>) -> Self {
        Self {
            runtime,
            server: Server::at(url),
            restart,
            shift: 0,
            used: true,
        }
    }

    fn wait_until_ready(&self) -> Result<(), String> {
        self.runtime.block_on(async {
            for _ in 0..600 {
                let answer = self.server.send("GET", "/-/ready", &[], Vec::new()).await;
                if matches!(answer, Ok((200, ..))) {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err("the server was not ready within 30 s".to_owned())
        })
    }

    fn ask(
        &self,
        path: &str,
        params: &[(&str, String)],
        query: &str,
    ) -> Result<Answer, EngineError> {
        if self.shift != 0 && looks_at_the_clock(query) {
            let why = "the answer depends on the time: give --restart COMMAND";
            return Err(EngineError::Refused(why.to_owned()));
        }
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("query", query);
        for (name, value) in params {
            form.append_pair(name, value);
        }
        let headers = [("content-type", "application/x-www-form-urlencoded")];
        let body = form.finish().into_bytes();
        let sent = self.server.send("POST", path, &headers, body);
        let (_, _, bytes) = self.runtime.block_on(sent).map_err(EngineError::Failed)?;
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|e| EngineError::Failed(format!("the answer is no JSON: {e}")))?;
        if answer["status"] != "success" {
            let text = answer["error"].as_str().unwrap_or("").to_owned();
            let refused = text.contains("not supported by the embedded evaluator");
            return Err(if refused {
                EngineError::Refused(text)
            } else {
                EngineError::Failed(text)
            });
        }
        let notes = |name: &str| -> Vec<String> {
            let all = answer[name].as_array().into_iter().flatten();
            all.filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        Ok(Answer {
            value: value(&answer["data"], self.shift).map_err(EngineError::Failed)?,
            warnings: notes("warnings"),
            infos: notes("infos"),
        })
    }
}

fn seconds(t_ms: i64) -> String {
    let sign = if t_ms < 0 { "-" } else { "" };
    let t = t_ms.unsigned_abs();
    format!("{sign}{}.{:03}", t / 1000, t % 1000)
}

impl Engine for OverHttp {
    fn clear(&mut self) -> Result<(), String> {
        match &self.restart {
            Some(command) if self.used => {
                let status = Command::new("sh").arg("-c").arg(command).status();
                let status = status.map_err(|e| format!("{command}: {e}"))?;
                if !status.success() {
                    return Err(format!("{command}: {status}"));
                }
                self.wait_until_ready()?;
            }
            Some(_) => {}
            None => self.shift += APART_MS,
        }
        self.used = false;
        Ok(())
    }

    fn load(&mut self, mut samples: Samples) -> Result<(), String> {
        self.used = true;
        samples.sort_by_key(|(_, t, _)| *t);
        for (_, t, _) in &mut samples {
            *t += self.shift;
        }
        self.runtime
            .block_on(remote_write::send(&self.server, samples))
    }

    fn instant(&mut self, query: &str, t_ms: i64) -> Result<Answer, EngineError> {
        let time = [("time", seconds(t_ms + self.shift))];
        self.ask("/api/v1/query", &time, query)
    }

    fn range(
        &mut self,
        query: &str,
        (start, end): (i64, i64),
        step: i64,
    ) -> Result<Answer, EngineError> {
        let params = [
            ("start", seconds(start + self.shift)),
            ("end", seconds(end + self.shift)),
            ("step", seconds(step)),
        ];
        self.ask("/api/v1/query_range", &params, query)
    }
}

fn looks_at_the_clock(query: &str) -> bool {
    const WORDS: [&str; 13] = [
        "time(",
        "timestamp(",
        "minute(",
        "hour(",
        "day_of_month(",
        "day_of_week(",
        "day_of_year(",
        "days_in_month(",
        "month(",
        "year(",
        "@",
        "start(",
        "end(",
    ];
    WORDS.iter().any(|w| query.contains(w))
}

/// The value of an answer, its times moved back.
fn value(data: &Value, shift: i64) -> Result<QueryValue, String> {
    let result = &data["result"];
    let list = || result.as_array().into_iter().flatten();
    Ok(match data["resultType"].as_str().unwrap_or("") {
        "scalar" => QueryValue::Scalar(number(&result[1])?),
        "string" => QueryValue::Text(result[1].as_str().unwrap_or("").to_owned()),
        "vector" => QueryValue::Vector(
            list()
                .map(|s| {
                    Ok(VectorSample {
                        labels: labels(s)?,
                        value: number(&s["value"][1])?,
                    })
                })
                .collect::<Result<_, String>>()?,
        ),
        "matrix" => QueryValue::Matrix(
            list()
                .map(|s| {
                    let points = s["values"].as_array().into_iter().flatten();
                    let (times, values): (Vec<i64>, Vec<f64>) = points
                        .map(|p| {
                            let t = p[0].as_f64().unwrap_or(f64::NAN) * 1000.0;
                            Ok((t.round() as i64 - shift, number(&p[1])?))
                        })
                        .collect::<Result<Vec<_>, String>>()?
                        .into_iter()
                        .unzip();
                    Ok(SeriesData {
                        labels: labels(s)?,
                        times,
                        values,
                    })
                })
                .collect::<Result<_, String>>()?,
        ),
        other => return Err(format!("an answer of type {other:?}")),
    })
}

fn labels(series: &Value) -> Result<Labels, String> {
    let pairs = series["metric"].as_object().into_iter().flatten();
    Labels::new(pairs.map(|(n, v)| (n, v.as_str().unwrap_or("")))).map_err(|e| e.to_string())
}

fn number(v: &Value) -> Result<f64, String> {
    let text = v.as_str().ok_or_else(|| format!("no value: {v}"))?;
    text.parse().map_err(|_| format!("no value: {v}"))
}

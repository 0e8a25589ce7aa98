//! Whether backends and target are there, in which version, and whether their clocks agree with ours.

use std::time::Duration;

use harness_core::query::Backend;
use harness_core::report::checkup::{Checkup, State};

use crate::backends::{Fetched, chain};
use crate::clock::wall_now;
use crate::stage::Stage;

/// How long a backend may take to say that it is ready.
const READY: Duration = Duration::from_secs(5);
/// Clock differences that windows bear, and that they hardly bear, seconds. The header `Date` holds
/// whole seconds, so less cannot be told.
const CLOCK: (f64, f64) = (1.5, 5.0);

/// Checks every backend in use, and gives those that answer.
pub(super) async fn backends(stage: &Stage, checkup: &mut Checkup) -> Vec<Backend> {
    let mut reached = Vec::new();
    for (backend, used) in &stage.used {
        let area = backend.to_string();
        let kind = if used.embedded { " (embedded)" } else { "" };
        match stage.backends.ready_one(*backend, READY).await {
            Ok(()) => {
                let said = format!("{}{kind}", used.url);
                checkup.add(&area, "reachable", State::Ok, said, None);
                reached.push(*backend);
            }
            Err(why) => {
                let hint = "check the address under spec.telemetry, and whether it is up and ready";
                checkup.add(&area, "reachable", State::Fail, why, Some(hint));
                continue;
            }
        }
        let path = match backend {
            Backend::Prometheus => "/api/v1/status/buildinfo",
            Backend::Loki => "/loki/api/v1/status/buildinfo",
            Backend::Tempo => "/api/status/buildinfo",
        };
        match stage.backends.fetch(*backend, path).await {
            Ok(fetched) => {
                version(&area, &fetched, checkup);
                clock(&area, &fetched, checkup);
            }
            Err(why) => checkup.add(&area, "version", State::Warn, why, None),
        }
    }
    reached
}

fn version(area: &str, fetched: &Fetched, checkup: &mut Checkup) {
    let value: Option<serde_json::Value> = serde_json::from_str(&fetched.body).ok();
    let version = value.as_ref().and_then(|v| {
        let holder = v.get("data").unwrap_or(v);
        holder.get("version")?.as_str()
    });
    let refused = matches!(fetched.status, 401 | 403);
    match version {
        Some(version) => checkup.add(area, "version", State::Ok, version.to_owned(), None),
        None if refused => {
            let hint =
                "it asks for credentials or a tenant: set `bearer` or `tenant` beside its url";
            let said = format!(
                "it answers {}: {}",
                fetched.status,
                first_words(&fetched.body)
            );
            checkup.add(area, "version", State::Fail, said, Some(hint));
        }
        None => {
            let said = format!("it does not tell its version (answers {})", fetched.status);
            let hint = "something that is not what the scenario says may stand at this address";
            checkup.add(area, "version", State::Warn, said, Some(hint));
        }
    }
}

/// The beginning of a text that came from outside.
pub(super) fn first_words(text: &str) -> String {
    text.trim().chars().take(200).collect()
}

fn clock(area: &str, fetched: &Fetched, checkup: &mut Checkup) {
    let Some(date) = &fetched.date else {
        let said = "its answers carry no Date to compare with".to_owned();
        let hint = "a proxy may take it out; see that the clocks agree (NTP)";
        return checkup.add(area, "clock", State::Warn, said, Some(hint));
    };
    let Some(skew) = skew(date, fetched.sent, fetched.received) else {
        let said = format!("its Date cannot be read: {}", first_words(date));
        return checkup.add(area, "clock", State::Warn, said, None);
    };
    let state = match skew.abs() {
        s if s <= CLOCK.0 => State::Ok,
        s if s <= CLOCK.1 => State::Warn,
        _ => State::Fail,
    };
    let said = if skew == 0.0 {
        "agrees with ours to the second".to_owned()
    } else if skew > 0.0 {
        format!("{skew:.1} s ahead of ours at least")
    } else {
        format!("{:.1} s behind ours at least", -skew)
    };
    let hint = "synchronise the clocks (NTP): windows are asked for by wall-clock time";
    checkup.add(area, "clock", state, said, Some(hint));
}

/// Seconds that a `Date` lies outside of the time in which it was written; 0 when it may be right.
/// `Date` is cut to the second, so that it stands for the second after it.
fn skew(date: &str, sent: f64, received: f64) -> Option<f64> {
    let date = httpdate::parse_http_date(date).ok()?;
    let date = date
        .duration_since(std::time::UNIX_EPOCH)
        .ok()?
        .as_secs_f64();
    Some(if date > received {
        date - received
    } else if date + 1.0 < sent {
        date + 1.0 - sent
    } else {
        0.0
    })
}

/// The target's clock, from the Date of any answer.
pub(super) async fn clock_of_target(stage: &Stage, checkup: &mut Checkup) {
    let sent = wall_now().as_secs_f64();
    let answer = stage
        .http
        .get(&stage.target.url)
        .timeout(Duration::from_secs(5))
        .send()
        .await;
    match answer {
        Ok(answer) => {
            let date = answer.headers().get("date");
            let fetched = Fetched {
                status: answer.status().as_u16(),
                date: date.and_then(|date| date.to_str().ok().map(str::to_owned)),
                sent,
                received: wall_now().as_secs_f64(),
                body: String::new(),
            };
            clock("target", &fetched, checkup);
        }
        Err(error) => checkup.add("target", "clock", State::Warn, chain(&error), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_held_against_the_time_in_which_it_was_written() {
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let at = 784_111_777.0;
        assert_eq!(skew(date, at + 0.4, at + 0.5), Some(0.0));
        assert_eq!(skew(date, at + 0.9, at + 1.1), Some(0.0));
        assert_eq!(skew(date, at + 4.0, at + 4.1), Some(-3.0));
        assert_eq!(skew(date, at - 8.2, at - 8.0), Some(8.0));
        assert_eq!(skew("yesterday", at, at), None);
    }

    #[test]
    fn what_is_not_the_backend_is_said() {
        let fetched = |status, body: &str| Fetched {
            status,
            date: None,
            sent: 0.0,
            received: 0.0,
            body: body.into(),
        };
        let told = |fetched: &Fetched| {
            let mut checkup = Checkup::new("s");
            version("loki", fetched, &mut checkup);
            (checkup.worst(), checkup.checks[0].said.clone())
        };
        let ok = r#"{"status":"success","data":{"version":"2.42.0"}}"#;
        assert_eq!(told(&fetched(200, ok)), (State::Ok, "2.42.0".into()));
        assert_eq!(told(&fetched(200, r#"{"version":"3.7.6"}"#)).1, "3.7.6");
        assert_eq!(told(&fetched(401, "no org id")).0, State::Fail);
        assert_eq!(told(&fetched(200, "<html>")).0, State::Warn);
    }
}

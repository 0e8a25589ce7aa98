//! Whether backends and target are there, in which version, and whether their clocks agree with ours.

use std::time::Duration;

use harness_core::judge::CLOCK_LIMIT;
use harness_core::query::Backend;
use harness_core::record::clock::ClockSeen;
use harness_core::report::checkup::{Checkup, State};

use crate::backends::{Fetched, chain, clock_of};
use crate::clock::wall_now;
use crate::stage::Stage;

/// How long a backend may take to say that it is ready.
const READY: Duration = Duration::from_secs(5);
/// Clock differences that may surprise, seconds; over [`CLOCK_LIMIT`] nothing of a run is judged.
const CLOCK_WORTH: f64 = 0.1;

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
                clock(&area, fetched.clock, checkup);
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
    // As builds from source have it.
    let version = version.map(|v| if v.is_empty() { "an unnamed build" } else { v });
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

fn clock(area: &str, seen: Option<ClockSeen>, checkup: &mut Checkup) {
    let Some(seen) = seen else {
        let said = "its answers carry no Date to compare with".to_owned();
        let hint =
            "a proxy may take it out, or answer from a cache; see that the clocks agree (NTP)";
        return checkup.add(area, "clock", State::Warn, said, Some(hint));
    };
    let state = match seen.apart() {
        apart if apart < CLOCK_WORTH => State::Ok,
        apart if apart <= CLOCK_LIMIT => State::Warn,
        _ => State::Fail,
    };
    let hint = format!(
        "synchronise the clocks (NTP): windows are asked for by wall-clock time, and beyond {CLOCK_LIMIT:.0} s nothing is judged"
    );
    checkup.add(area, "clock", state, seen.to_string(), Some(&hint));
}

/// The target's clock, from the Date of any answer.
pub(super) async fn clock_of_target(stage: &Stage, checkup: &mut Checkup) {
    let sent = wall_now();
    let answer = stage
        .http
        .get(&stage.target.url)
        .timeout(Duration::from_secs(5))
        .send()
        .await;
    match answer {
        Ok(answer) => {
            let seen = clock_of(answer.headers(), sent, wall_now());
            clock("target", seen, checkup);
        }
        Err(error) => checkup.add("target", "clock", State::Warn, chain(&error), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_a_run_would_not_bear_fails() {
        let told = |least_ms, most_ms| {
            let mut checkup = Checkup::new("s");
            let seen = ClockSeen {
                answers: 1,
                least_ms,
                most_ms,
            };
            clock("loki", Some(seen), &mut checkup);
            (checkup.worst(), checkup.checks[0].said.clone())
        };
        assert_eq!(told(-500, 500).0, State::Ok);
        let (state, said) = told(400, 1_400);
        assert_eq!(state, State::Warn);
        assert_eq!(said, "is 0.4 s ahead of ours at least");
        assert_eq!(told(-9_000, -8_000).0, State::Fail);
        let mut checkup = Checkup::new("s");
        clock("loki", None, &mut checkup);
        assert_eq!(checkup.worst(), State::Warn);
    }

    #[test]
    fn what_is_not_the_backend_is_said() {
        let fetched = |status, body: &str| Fetched {
            status,
            clock: None,
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

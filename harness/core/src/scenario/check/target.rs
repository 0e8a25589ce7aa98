//! What is wrong with a target and with where its telemetry is read.

use std::collections::BTreeSet;

use super::{Found, is_path, waits, without_variables};
use crate::scenario::{BackendAddress, Start, Target, Telemetry};

/// What is wrong with a base URL, and what would be right.
fn url_flaw(url: &str, may_have_path: bool) -> Option<(String, String)> {
    let right = || "write for instance http://127.0.0.1:3010".to_owned();
    let rest = match url.strip_prefix("http://") {
        Some(rest) => rest,
        None => match url.strip_prefix("https://") {
            Some(rest) => rest,
            None => return Some((format!("`{url}` is not an http URL"), right())),
        },
    };
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    if authority.is_empty()
        || authority.contains(|c: char| c.is_whitespace() || c.is_control() || "?#".contains(c))
    {
        return Some((format!("`{url}` names no host"), right()));
    }
    if authority.contains('@') {
        return Some((
            "credentials in a URL are printed and stored".into(),
            "use a header or `bearer: ${TOKEN}`".into(),
        ));
    }
    let port = authority
        .rsplit_once(':')
        .filter(|(_, port)| !port.ends_with(']'));
    if port.is_some_and(|(_, port)| port.parse::<u16>().is_err()) {
        return Some((format!("`{url}` has a port that is none"), right()));
    }
    if !may_have_path && !path.is_empty() {
        return Some((
            "the base URL has a path".into(),
            "put it into the `path` of the requests".into(),
        ));
    }
    path.contains(['?', '#'])
        .then(|| ("the URL has a query".into(), right()))
}

pub(super) fn target(target: &Target, found: &mut Found) {
    match (&target.url, &target.start) {
        (None, None) => found.add(
            "spec.target",
            "neither `url` nor `start` says what to put under load",
            "add url: http://host:port, or start: {command: […], ready: /readyz, within: 60s}",
        ),
        (Some(url), _) if !waits(url) => {
            if let Some((message, hint)) = url_flaw(url, false) {
                found.add("spec.target.url", message, hint);
            }
        }
        _ => {}
    }
    if let Some(Start {
        command,
        ready,
        within,
        ..
    }) = &target.start
    {
        if command.first().is_none_or(String::is_empty) {
            found.add(
                "spec.target.start.command",
                "names no program",
                "write [program, argument, …]",
            );
        }
        if !waits(ready) && !is_path(ready) {
            found.add(
                "spec.target.start.ready",
                format!("`{ready}` is not a path"),
                "write for instance /readyz",
            );
        }
        found.not_zero("spec.target.start.within", *within);
    }
    found.not_zero("spec.target.timeout", target.timeout);
    connections(target, found);
    if target.expect_version.as_ref().is_some_and(String::is_empty) {
        found.add(
            "spec.target.expectVersion",
            "is empty",
            "name the version, or leave the key out",
        );
    }
}

fn connections(target: &Target, found: &mut Found) {
    let within = [
        ("connectTimeout", target.connect_timeout),
        ("firstByteTimeout", target.first_byte_timeout),
    ];
    for (name, limit) in within {
        let key = format!("spec.target.{name}");
        let Some(limit) = limit else { continue };
        found.not_zero(key.clone(), limit);
        if limit > target.timeout {
            found.add(
                key,
                format!(
                    "{limit} is longer than the timeout of the whole, {}",
                    target.timeout
                ),
                "shorten it, or raise spec.target.timeout",
            );
        }
    }
    if let Some(idle) = target.idle_timeout {
        found.not_zero("spec.target.idleTimeout", idle);
        if !target.keep_alive {
            found.add(
                "spec.target.idleTimeout",
                "without keepAlive no connection lies idle",
                "take one of the two out",
            );
        }
    }
    if target.max_connections == Some(0) {
        found.add(
            "spec.target.maxConnections",
            "no request could be sent over 0 connections",
            "at least 1",
        );
    }
    let Some(tls) = &target.tls else { return };
    if target
        .url
        .as_ref()
        .is_some_and(|url| url.starts_with("http://"))
    {
        found.add(
            "spec.target.tls",
            "the URL is http, which has no TLS",
            "write https, or take it out",
        );
    }
    if tls.cert.is_some() != tls.key.is_some() {
        found.add(
            "spec.target.tls",
            "a client certificate needs both `cert` and `key`",
            "name both PEM files",
        );
    }
    if !tls.verify && tls.ca.is_some() {
        found.add(
            "spec.target.tls.verify",
            "an authority is named, and nothing would be verified with it",
            "take one of the two out",
        );
    }
}

pub(super) fn telemetry(telemetry: &Telemetry, target: &Target, found: &mut Found) {
    let mut jobs = BTreeSet::new();
    for (index, job) in telemetry
        .embedded
        .iter()
        .flat_map(|e| &e.scrape)
        .enumerate()
    {
        let key = format!("spec.telemetry.embedded.scrape[{index}]");
        if job.job.is_empty() || !jobs.insert(&job.job) {
            found.add(format!("{key}.job"), "must be a name of its own", "");
        }
        found.not_zero(format!("{key}.every"), job.every);
        match &job.url {
            Some(url) if !waits(url) => {
                if let Some((message, hint)) = url_flaw(url, true) {
                    found.add(format!("{key}.url"), message, hint);
                }
            }
            None if target.start.is_none() => found.add(
                format!("{key}.url"),
                "is missing: only a target that the harness starts reports where its metrics are",
                "write for instance url: http://127.0.0.1:9100/metrics",
            ),
            _ => {}
        }
    }
    let backends = [
        ("prometheus", &telemetry.prometheus),
        ("loki", &telemetry.loki),
        ("tempo", &telemetry.tempo),
    ];
    for (name, backend) in backends {
        if let Some(BackendAddress { url, .. }) = backend
            && !waits(url)
            && let Some((message, hint)) = url_flaw(url, true)
        {
            found.add(format!("spec.telemetry.{name}.url"), message, hint);
        }
    }
    for (name, query) in [
        ("requestCounter", &telemetry.request_counter),
        ("requestLog", &telemetry.request_log),
    ] {
        if let Some(query) = query {
            let hint = "write the labels out";
            without_variables(format!("spec.telemetry.{name}"), query, hint, found);
        }
    }
    if let Some(otlp) = &telemetry.otlp
        && !waits(otlp)
        && let Some((message, hint)) = url_flaw(otlp, true)
    {
        found.add("spec.telemetry.otlp", message, hint);
    }
    if let Some(grafana) = &telemetry.grafana
        && !waits(&grafana.url)
        && let Some((message, hint)) = url_flaw(&grafana.url, true)
    {
        found.add("spec.telemetry.grafana.url", message, hint);
    }
}

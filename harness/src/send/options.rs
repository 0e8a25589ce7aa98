//! How a run sends its requests, out of the scenario.

use std::path::Path;
use std::time::Duration;

use harness_core::scenario::{self, Request, Scenario, Streaming};

use super::connect::Protocol;
use super::events::Framing;
use super::tls::{Certificates, Pem};

/// How a run sends its requests.
#[derive(Clone)]
pub struct SendOptions {
    /// Which HTTP.
    pub protocol: Protocol,
    /// For `https`.
    pub certificates: Certificates,
    /// Longest time from due to a complete answer.
    pub timeout: Duration,
    /// Longest time to open a connection: name, TCP and TLS together.
    pub connect_timeout: Option<Duration>,
    /// Longest time from sent to the first byte of an answer.
    pub first_byte_timeout: Option<Duration>,
    /// Whether a connection is used by more than one request.
    pub keep_alive: bool,
    /// Longest time that a connection of HTTP/1.1 may lie idle and still be used.
    pub idle_timeout: Duration,
    /// Most connections at once.
    pub max_connections: Option<u32>,
    /// How many redirects one request follows, within the same origin.
    pub redirects: u32,
    /// By index of the request.
    pub requests: Vec<RequestOptions>,
}

/// What of a kind of request matters to sending it.
#[derive(Debug, Clone, Copy, Default)]
pub struct RequestOptions {
    /// How its answers are divided into events, whatever their media type says.
    pub framing: Option<Framing>,
    /// Somebody looks at the fields of its answers.
    pub fields: bool,
}

impl Default for SendOptions {
    fn default() -> Self {
        Self {
            protocol: Protocol::Auto,
            certificates: Certificates::default(),
            timeout: Duration::from_secs(30),
            connect_timeout: None,
            first_byte_timeout: None,
            keep_alive: true,
            idle_timeout: Duration::from_secs(90),
            max_connections: None,
            redirects: 0,
            requests: Vec::new(),
        }
    }
}

impl SendOptions {
    /// As the scenario says. Its certificates are files relative to `base`.
    ///
    /// # Errors
    /// A sentence: a file cannot be read.
    pub fn of(scenario: &Scenario, base: &Path) -> Result<Self, String> {
        let target = &scenario.spec.target;
        let standard = Self::default();
        Ok(Self {
            protocol: match target.protocol {
                scenario::Protocol::Auto => Protocol::Auto,
                scenario::Protocol::Http1 => Protocol::Http1,
                scenario::Protocol::Http2 => Protocol::Http2,
            },
            certificates: match &target.tls {
                Some(tls) => certificates(tls, base)?,
                None => Certificates::default(),
            },
            timeout: target.timeout.0,
            connect_timeout: target.connect_timeout.map(|most| most.0),
            first_byte_timeout: target.first_byte_timeout.map(|most| most.0),
            keep_alive: target.keep_alive,
            idle_timeout: target
                .idle_timeout
                .map_or(standard.idle_timeout, |most| most.0),
            max_connections: target.max_connections,
            redirects: target.redirects,
            requests: scenario.spec.requests.iter().map(of_request).collect(),
        })
    }
}

impl SendOptions {
    /// Whether the certificates can be used.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn check(&self) -> Result<(), String> {
        let given = &self.certificates;
        if given.ca.is_none() && given.client.is_none() {
            return Ok(());
        }
        super::tls::config(given, &[]).map(drop)
    }
}

fn of_request(request: &Request) -> RequestOptions {
    let captures = request.capture.values().any(|from| from.header.is_some());
    RequestOptions {
        framing: request.stream.map(|stream| match stream {
            Streaming::Sse => Framing::Sse,
            Streaming::Chunks => Framing::Chunks,
        }),
        fields: captures || !request.expect.headers.is_empty(),
    }
}

fn certificates(tls: &scenario::Tls, base: &Path) -> Result<Certificates, String> {
    let read = |file: &String| {
        let path = base.join(file);
        let text = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok::<_, String>(Pem {
            file: path.display().to_string(),
            text,
        })
    };
    let client = match tls.cert.as_ref().zip(tls.key.as_ref()) {
        Some((chain, key)) => Some((read(chain)?, read(key)?)),
        None => None,
    };
    Ok(Certificates {
        ca: tls.ca.as_ref().map(read).transpose()?,
        client,
        server_name: tls.server_name.clone(),
        unverified: !tls.verify,
    })
}

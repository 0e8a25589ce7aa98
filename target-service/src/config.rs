//! What the service was told, in two steps: [`Args`] is syntax, [`Config`] what it means in this
//! environment. Nothing below reads a flag or a variable. One file because each flag stands beside what
//! it means.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::engine;
use crate::model;
use crate::telemetry::{BadAttribute, Identity};

/// Document classification over HTTP.
#[derive(Debug, Parser)]
#[command(name = "target-service", version, about, max_term_width = 100)]
pub struct Args {
    /// Where to serve requests; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:3010")]
    pub listen: SocketAddr,
    /// Where to serve /metrics and /faults
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub metrics: SocketAddr,
    /// A bundled model by name, a directory with config.json and model.safetensors, or a GGUF file or a
    /// directory with one
    #[arg(long, value_name = "PATH|NAME", default_value = model::BUNDLED[0])]
    pub model: String,
    /// Where the model computes: cpu, cuda, or cuda:N for the device of that number (a build with
    /// --features cuda)
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = device)]
    pub device: DeviceChoice,
    /// Batches that run at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(1024))]
    pub workers: u64,
    /// Threads of the processor that compute one batch together, in each worker
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = count(256))]
    pub threads: u64,
    /// Documents in one batch, at most
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = count(4096))]
    pub max_batch: u64,
    /// Tokens in one batch, at most; a longer document is a batch of its own
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = count(1 << 24))]
    pub max_batch_tokens: u64,
    /// How long a free worker may wait for company that is near and worth it; 0s: never (ms, s)
    #[arg(long, value_name = "TIME", default_value = "5ms", value_parser = duration_or_zero)]
    pub max_hold: Duration,
    /// Texts that one worker writes at the same time, at most (models that write)
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = count(1024))]
    pub max_sequences: u64,
    /// Tokens of a prompt and of what is written after it, together, at most (models that write)
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = count(1 << 20))]
    pub max_context: u64,
    /// Tokens of prompts that are read in one step, beside which the others' next tokens wait (models that
    /// write)
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = count(1 << 16))]
    pub prompt_chunk: u64,
    /// Documents that may wait; one more is answered 503
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = count(1 << 20))]
    pub queue_capacity: u64,
    /// Answer within this time or not at all; x-request-timeout can shorten it (ms, s, m). 5s, or 60s for
    /// models that write
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub deadline: Option<Duration>,
    /// Bytes of a request's body, at most
    #[arg(long, value_name = "BYTES", default_value_t = 256 * 1024, value_parser = count(1 << 30))]
    pub max_body: u64,
    /// Documents in one request, at most; never more than --queue-capacity
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = count(1 << 20))]
    pub max_documents: u64,
    /// Connections to each listener, at most; more wait until one closes
    #[arg(long, value_name = "N", default_value_t = 4096, value_parser = count(1 << 20))]
    pub max_connections: u64,
    /// Close a connection that has not sent a request's head for this long (ms, s, m)
    #[arg(long, value_name = "TIME", default_value = "75s", value_parser = duration)]
    pub idle_timeout: Duration,
    /// Entries of the callers' W3C baggage that are put on server spans and log lines
    #[arg(long, value_name = "KEY", value_delimiter = ',')]
    pub baggage_keys: Vec<String>,
    /// Accept faults on the metrics listener (POST /faults)
    #[arg(long)]
    pub allow_faults: bool,
    /// After SIGTERM, keep accepting for this long with /readyz at 503 (ms, s, m)
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = duration_or_zero)]
    pub drain_grace: Duration,
    /// After SIGTERM, wait this long for requests in flight (ms, s, m)
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration)]
    pub drain_timeout: Duration,
}

fn count(most: u64) -> clap::builder::RangedU64ValueParser<u64> {
    clap::value_parser!(u64).range(1..=most)
}

/// Where log records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogRoute {
    /// Nowhere.
    None,
    /// JSON lines on stdout.
    Console,
    /// By OTLP.
    Otlp(Endpoint),
}

/// How OTLP travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `grpc`.
    Grpc,
    /// `http/protobuf`.
    Http,
}

/// Where a signal's OTLP goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// `http://HOST:PORT`; by HTTP with the signal's path.
    pub url: String,
    /// How.
    pub protocol: Protocol,
    /// An export that takes longer has failed.
    pub timeout: Duration,
}

/// Where spans and log records go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// Where spans go; without it there are none.
    pub traces: Option<Endpoint>,
    /// Where log records go.
    pub logs: LogRoute,
    /// Entries of the callers' baggage that are put on server spans and log lines.
    pub baggage: Vec<String>,
}

/// Which model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelChoice {
    /// Compiled in, by name.
    Bundled(String),
    /// Read from a directory or a file.
    Path(PathBuf),
}

/// Which device computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceChoice {
    /// The processor.
    Cpu,
    /// The CUDA device of this number.
    Cuda(u16),
}

fn device(text: &str) -> Result<DeviceChoice, String> {
    let number = match text.split_once(':') {
        None if text == "cpu" => return Ok(DeviceChoice::Cpu),
        None if text == "cuda" => Some(0),
        Some(("cuda", number)) if !number.starts_with('+') => number.parse().ok(),
        _ => None,
    };
    match number {
        None => Err("use cpu, cuda, or cuda: and a device's number".to_owned()),
        Some(_) if !cfg!(feature = "cuda") => Err(
            "this build has no CUDA; where the CUDA toolkit is installed, cargo build --release -p \
             target-service --features cuda makes one that has"
                .to_owned(),
        ),
        Some(number) => Ok(DeviceChoice::Cuda(number)),
    }
}

/// What the service does, resolved.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where requests are served.
    pub listen: SocketAddr,
    /// Where metrics and faults are served.
    pub metrics: SocketAddr,
    /// Which model.
    pub model: ModelChoice,
    /// Where it computes.
    pub device: DeviceChoice,
    /// Batches that run at the same time.
    pub workers: usize,
    /// Threads that compute one of them.
    pub threads: usize,
    /// Bounds of queue and batches.
    pub pool: engine::Settings,
    /// Bounds of the same for a model that writes.
    pub writers: engine::WriterSettings,
    /// Tokens of a prompt and of what is written after it, at most.
    pub max_context: usize,
    /// Limits of one request.
    pub request: RequestLimits,
    /// Whether faults may be asked for.
    pub allow_faults: bool,
    /// How to stop.
    pub drain: Drain,
    /// Where spans and log records go.
    pub telemetry: TelemetryConfig,
    /// Who this is.
    pub identity: Identity,
}

/// Limits of the connections of one listener.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Open at the same time; more wait.
    pub most: usize,
    /// From when a connection could send a request to when its head must be there.
    pub idle: Duration,
}

/// Limits of one request.
#[derive(Debug, Clone, Copy)]
pub struct RequestLimits {
    /// From its headers to its answer.
    pub deadline: Duration,
    /// Bytes of its body.
    pub max_body: usize,
    /// Documents in it; never more than may wait.
    pub max_documents: usize,
    /// Limits of what it comes by.
    pub connections: ConnectionLimits,
}

/// How to stop.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// Between "not ready" and closing the door.
    pub grace: Duration,
    /// Between closing the door and giving up on those inside.
    pub timeout: Duration,
}

/// What is wrong with arguments or environment.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// Neither a bundled model nor a directory or file of one.
    #[error("--model {0:?}: no such directory or GGUF file, and the bundled models are {known}", known = model::BUNDLED.join(", "))]
    Model(String),
    /// See the message.
    #[error(transparent)]
    Attribute(#[from] BadAttribute),
    /// A variable asks for something there is not.
    #[error("{variable}={value:?}: {expected}")]
    Variable {
        /// Its name.
        variable: String,
        /// What it says.
        value: String,
        /// What would be right.
        expected: &'static str,
    },
}

impl Config {
    /// Resolves arguments against the environment; `env` looks a variable up, `instance_id` is this
    /// process' `service.instance.id` unless the environment gives one.
    ///
    /// # Errors
    /// What cannot be done as asked.
    pub fn resolve(
        args: Args,
        env: &dyn Fn(&str) -> Option<String>,
        instance_id: &str,
    ) -> Result<Config, ConfigError> {
        // The specification: an empty variable is an unset one.
        let env = |key: &str| env(key).filter(|v| !v.trim().is_empty());
        let model = model_choice(args.model)?;
        let deadline = args.deadline.unwrap_or(match &model {
            ModelChoice::Path(path) if model::writes(path) => WRITERS_DEADLINE,
            _ => DEADLINE,
        });
        Ok(Config {
            listen: args.listen,
            metrics: args.metrics,
            model,
            device: args.device,
            workers: clamp(args.workers),
            threads: clamp(args.threads),
            pool: engine::Settings {
                max_batch: clamp(args.max_batch),
                max_batch_tokens: clamp(args.max_batch_tokens),
                capacity: clamp(args.queue_capacity),
                max_hold: args.max_hold,
            },
            writers: engine::WriterSettings {
                capacity: clamp(args.queue_capacity),
                sequences: clamp(args.max_sequences),
                chunk: clamp(args.prompt_chunk),
            },
            max_context: clamp(args.max_context),
            request: RequestLimits {
                deadline,
                max_body: clamp(args.max_body),
                max_documents: clamp(args.max_documents.min(args.queue_capacity)),
                connections: ConnectionLimits {
                    most: clamp(args.max_connections),
                    idle: args.idle_timeout,
                },
            },
            allow_faults: args.allow_faults,
            drain: Drain {
                grace: args.drain_grace,
                timeout: args.drain_timeout,
            },
            telemetry: TelemetryConfig {
                baggage: args.baggage_keys,
                ..TelemetryConfig::resolve(&env)?
            },
            identity: Identity::resolve(&env, instance_id)?,
        })
    }
}

/// Of models that judge documents.
const DEADLINE: Duration = Duration::from_secs(5);
/// Of models that write, a token at a time.
const WRITERS_DEADLINE: Duration = Duration::from_secs(60);

/// The flags' ranges fit into `usize` wherever this runs; smaller machines get their most.
fn clamp(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

fn model_choice(model: String) -> Result<ModelChoice, ConfigError> {
    if model::BUNDLED.contains(&model.as_str()) {
        return Ok(ModelChoice::Bundled(model));
    }
    let path = PathBuf::from(&model);
    if path.is_dir() || (path.is_file() && model::writes(&path)) {
        Ok(ModelChoice::Path(path))
    } else {
        Err(ConfigError::Model(model))
    }
}

/// An export may take so long where no variable says otherwise, as in the specification.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

impl TelemetryConfig {
    /// Reads the `OTEL_*` variables of the OpenTelemetry specification that matter here.
    ///
    /// # Errors
    /// A protocol, exporter or endpoint this build does not have.
    pub fn resolve(env: &dyn Fn(&str) -> Option<String>) -> Result<TelemetryConfig, ConfigError> {
        let disabled = env("OTEL_SDK_DISABLED").is_some_and(|v| v.eq_ignore_ascii_case("true"));
        if disabled {
            return Ok(TelemetryConfig {
                traces: None,
                logs: LogRoute::Console,
                baggage: Vec::new(),
            });
        }
        let traces_endpoint = endpoint(env, "TRACES")?;
        let traces = match env("OTEL_TRACES_EXPORTER").as_deref() {
            None => traces_endpoint,
            Some("otlp") => Some(traces_endpoint.map_or_else(|| local(env, "TRACES"), Ok)?),
            Some("none") => None,
            Some(other) => return wrong("OTEL_TRACES_EXPORTER", other, "use otlp or none"),
        };
        let logs_endpoint = endpoint(env, "LOGS")?;
        let logs = match (env("OTEL_LOGS_EXPORTER").as_deref(), logs_endpoint) {
            (None | Some("otlp"), Some(endpoint)) => LogRoute::Otlp(endpoint),
            (None | Some("console"), _) => LogRoute::Console,
            (Some("otlp"), None) => LogRoute::Otlp(local(env, "LOGS")?),
            (Some("none"), _) => LogRoute::None,
            (Some(other), _) => {
                return wrong("OTEL_LOGS_EXPORTER", other, "use otlp, console or none");
            }
        };
        Ok(TelemetryConfig {
            traces,
            logs,
            baggage: Vec::new(),
        })
    }
}

fn wrong<T>(variable: &str, value: &str, expected: &'static str) -> Result<T, ConfigError> {
    let (variable, value) = (variable.to_owned(), value.to_owned());
    Err(ConfigError::Variable {
        variable,
        value,
        expected,
    })
}

type Env<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The variable of one signal, or the common one, that is set: its name and value.
fn find(env: Env<'_>, signal: &str, suffix: &str) -> Option<(String, String)> {
    [
        format!("OTEL_EXPORTER_OTLP_{signal}_{suffix}"),
        format!("OTEL_EXPORTER_OTLP_{suffix}"),
    ]
    .into_iter()
    .find_map(|key| env(&key).map(|value| (key, value)))
}

fn protocol(env: Env<'_>, signal: &str) -> Result<Protocol, ConfigError> {
    match find(env, signal, "PROTOCOL") {
        None => Ok(Protocol::Grpc),
        Some((variable, value)) => match value.as_str() {
            "grpc" => Ok(Protocol::Grpc),
            "http/protobuf" => Ok(Protocol::Http),
            _ => wrong(&variable, &value, "use grpc or http/protobuf"),
        },
    }
}

fn timeout(env: Env<'_>, signal: &str) -> Result<Duration, ConfigError> {
    match find(env, signal, "TIMEOUT") {
        None => Ok(EXPORT_TIMEOUT),
        Some((variable, value)) => match value.parse() {
            Ok(millis) => Ok(Duration::from_millis(millis)),
            Err(_) => wrong(&variable, &value, "expected milliseconds"),
        },
    }
}

/// The path of a signal under a collector's address.
fn path(signal: &str) -> String {
    format!("/v1/{}", signal.to_ascii_lowercase())
}

/// A collector on this machine, where none is named.
fn local(env: Env<'_>, signal: &str) -> Result<Endpoint, ConfigError> {
    let protocol = protocol(env, signal)?;
    let url = match protocol {
        Protocol::Grpc => "http://localhost:4317".to_owned(),
        Protocol::Http => format!("http://localhost:4318{}", path(signal)),
    };
    let timeout = timeout(env, signal)?;
    Ok(Endpoint {
        url,
        protocol,
        timeout,
    })
}

/// The endpoint for one signal, its own variable before the common one. By HTTP the common one is an address
/// to which the signal's path is added; its own is taken as it is.
fn endpoint(env: Env<'_>, signal: &str) -> Result<Option<Endpoint>, ConfigError> {
    let Some((variable, value)) = find(env, signal, "ENDPOINT") else {
        return Ok(None);
    };
    let (protocol, timeout) = (protocol(env, signal)?, timeout(env, signal)?);
    if value.starts_with("https://") {
        return wrong(
            &variable,
            &value,
            "TLS to the collector is not built in; use http://HOST:PORT",
        );
    }
    if !value.starts_with("http://") {
        return wrong(&variable, &value, "expected http://HOST:PORT");
    }
    let common = variable == "OTEL_EXPORTER_OTLP_ENDPOINT";
    let url = match protocol {
        Protocol::Http if common => format!("{}{}", value.trim_end_matches('/'), path(signal)),
        _ => value,
    };
    Ok(Some(Endpoint {
        url,
        protocol,
        timeout,
    }))
}

/// A time with its unit: `250ms`, `5s`, `1m`.
pub(crate) fn duration_or_zero(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let (number, millis) = match text {
        t if t.ends_with("ms") => (&t[..t.len() - 2], 1),
        t if t.ends_with('s') => (&t[..t.len() - 1], 1_000),
        t if t.ends_with('m') => (&t[..t.len() - 1], 60_000),
        _ => return Err("a unit is missing: 500ms, 5s or 1m".to_owned()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| format!("{number:?} is not a whole number"))?;
    let most = 24 * 60 * 60_000;
    match number.checked_mul(millis) {
        Some(millis) if millis <= most => Ok(Duration::from_millis(millis)),
        _ => Err("a day at most".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    match duration_or_zero(text)? {
        Duration::ZERO => Err("it must be longer than zero".to_owned()),
        time => Ok(time),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn telemetry(vars: &[(&str, &str)]) -> Result<TelemetryConfig, ConfigError> {
        TelemetryConfig::resolve(&|key| {
            vars.iter()
                .find(|(k, _)| *k == key)
                .map(|(_, v)| (*v).to_owned())
        })
    }

    fn grpc(url: &str) -> Endpoint {
        Endpoint {
            url: url.to_owned(),
            protocol: Protocol::Grpc,
            timeout: EXPORT_TIMEOUT,
        }
    }

    #[test]
    fn http_adds_the_signals_path_to_the_common_address_only() {
        let config = telemetry(&[
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1/"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://b:2/own"),
            ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "300"),
        ])
        .unwrap();
        let http = |url: &str, millis| Endpoint {
            url: url.to_owned(),
            protocol: Protocol::Http,
            timeout: Duration::from_millis(millis),
        };
        assert_eq!(config.traces, Some(http("http://a:1/v1/traces", 300)));
        assert_eq!(config.logs, LogRoute::Otlp(http("http://b:2/own", 10_000)));
        let local = telemetry(&[
            ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/protobuf"),
            ("OTEL_LOGS_EXPORTER", "otlp"),
            ("OTEL_TRACES_EXPORTER", "otlp"),
        ])
        .unwrap();
        let logs = http("http://localhost:4318/v1/logs", 10_000);
        assert_eq!(local.logs, LogRoute::Otlp(logs));
        assert_eq!(local.traces, Some(grpc("http://localhost:4317")));
    }

    #[test]
    fn without_an_endpoint_nothing_is_exported() {
        let config = telemetry(&[]).unwrap();
        assert_eq!(
            config,
            TelemetryConfig {
                traces: None,
                logs: LogRoute::Console,
                baggage: Vec::new(),
            }
        );
    }

    #[test]
    fn one_endpoint_serves_both_and_a_signals_own_comes_first() {
        let both = telemetry(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1")]).unwrap();
        assert_eq!(both.traces, Some(grpc("http://a:1")));
        assert_eq!(both.logs, LogRoute::Otlp(grpc("http://a:1")));
        let own = telemetry(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1"),
            ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "http://b:2"),
        ]);
        assert_eq!(own.unwrap().logs, LogRoute::Otlp(grpc("http://b:2")));
        let traces_only = telemetry(&[("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://a:1")]);
        assert_eq!(traces_only.unwrap().logs, LogRoute::Console);
    }

    #[test]
    fn exporters_can_be_chosen() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1");
        let console = telemetry(&[endpoint, ("OTEL_LOGS_EXPORTER", "console")]).unwrap();
        assert_eq!(console.logs, LogRoute::Console);
        let none = telemetry(&[
            endpoint,
            ("OTEL_LOGS_EXPORTER", "none"),
            ("OTEL_TRACES_EXPORTER", "none"),
        ]);
        assert_eq!(
            none.unwrap(),
            TelemetryConfig {
                traces: None,
                logs: LogRoute::None,
                baggage: Vec::new(),
            }
        );
        let local = telemetry(&[("OTEL_LOGS_EXPORTER", "otlp")]).unwrap();
        assert_eq!(local.logs, LogRoute::Otlp(grpc("http://localhost:4317")));
        let disabled = telemetry(&[endpoint, ("OTEL_SDK_DISABLED", "true")]).unwrap();
        assert_eq!(
            disabled,
            TelemetryConfig {
                traces: None,
                logs: LogRoute::Console,
                baggage: Vec::new(),
            }
        );
    }

    #[test]
    fn what_is_not_built_is_refused_by_name() {
        for (vars, word) in [
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://a:1")][..], "TLS"),
            (
                &[("OTEL_EXPORTER_OTLP_ENDPOINT", "a:1")],
                "http://HOST:PORT",
            ),
            (&[("OTEL_LOGS_EXPORTER", "zipkin")], "zipkin"),
            (
                &[("OTEL_TRACES_EXPORTER", "console")],
                "OTEL_TRACES_EXPORTER",
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1"),
                    ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
                ],
                "http/protobuf",
            ),
            (
                &[
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://a:1"),
                    ("OTEL_EXPORTER_OTLP_TIMEOUT", "10s"),
                ],
                "milliseconds",
            ),
        ] {
            let error = telemetry(vars).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn arguments_are_checked_before_anything_starts() {
        let parse = |args: &[&str]| Args::try_parse_from([&["target-service"], args].concat());
        let args = parse(&["--deadline", "250ms", "--drain-grace", "0s"]).unwrap();
        assert_eq!(args.deadline, Some(Duration::from_millis(250)));
        for bad in [
            ["--deadline", "5"],
            ["--deadline", "0s"],
            ["--deadline", "xs"],
            ["--deadline", "2000m"],
            ["--workers", "0"],
            ["--max-batch", "0"],
            ["--listen", "localhost"],
        ] {
            assert!(parse(&bad).is_err(), "{bad:?}");
        }
        let unknown = parse(&["--model", "no/such/model"]).unwrap();
        let error = Config::resolve(unknown, &|_| None, "i")
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("no/such/model") && error.contains(model::BUNDLED[0]),
            "{error}"
        );
    }
}

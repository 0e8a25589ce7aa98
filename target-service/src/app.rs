//! The whole service put together: what `main` runs and tests start.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use opentelemetry::logs::Severity;
use serde_json::json;
use tokio::net::TcpListener;

use crate::config::{Config, DeviceChoice, ModelChoice};
use crate::engine::{Pool, Writers};
use crate::faults::Faults;
use crate::model::causal::{Causal, Decode, Memory, Part};
use crate::model::{self, Device, Infer, LoadedModel, Model, ModelError, ModelInfo};
use crate::serve::{self, Listeners, Loaded, Service, Stopped, Workers};
use crate::telemetry::names::{event, resource};
use crate::telemetry::{Identity, Line, Metrics, SetupError, Telemetry};

/// Why the service could not run, or did not end well.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address} ({flag}): {source}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The flag that gave it.
        flag: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The addresses could not be told.
    #[error("cannot write to stdout: {0}")]
    Announce(std::io::Error),
    /// Telemetry cannot be set up.
    #[error(transparent)]
    Telemetry(#[from] SetupError),
    /// The model cannot be loaded.
    #[error("cannot load the model: {0}")]
    Model(#[from] ModelError),
    /// Worker threads cannot be started.
    #[error("cannot start workers: {0}")]
    Workers(std::io::Error),
    /// A signal handler cannot be installed, or a listener broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The drain ran out of time.
    #[error("{0} requests were still in flight when --drain-timeout was over")]
    Abandoned(usize),
}

/// Binds, announces, loads, serves, and drains when asked to stop by SIGTERM or SIGINT.
///
/// # Errors
/// [`AppError`], as a sentence for the operator.
pub async fn run(config: Config) -> Result<(), AppError> {
    let stop = stop_signal()?;
    let listeners = bind(&config).await?;
    announce(&listeners, &config.identity)?;
    let faults = Arc::new(Faults::default());
    let telemetry = Telemetry::start(&config.telemetry, config.identity.clone(), &faults)?;
    let metrics = telemetry.metrics.clone();
    let service = Service::new(
        telemetry,
        faults.clone(),
        config.request,
        config.allow_faults,
    );
    service.telemetry().logs.emit(Line {
        time: SystemTime::now(),
        severity: Severity::Info,
        event: event::STARTED,
        span: None,
        attributes: Vec::new(),
    });
    let drain = config.drain;
    let loading = tokio::task::spawn_blocking(move || load(&config, metrics, faults));
    let mut failed = None;
    let ready = service.clone();
    let shutdown = async {
        tokio::pin!(stop);
        let loaded = tokio::select! {
            () = &mut stop => return,
            loaded = loading => loaded,
        };
        match loaded.unwrap_or_else(|panic| Err(AppError::Io(std::io::Error::other(panic)))) {
            Ok(loaded) => ready.make_ready(loaded),
            Err(error) => {
                failed = Some(error);
                return;
            }
        }
        stop.await;
    };
    let stopped = serve::run(service, listeners, drain, shutdown).await?;
    match (failed, stopped) {
        (Some(error), _) => Err(error),
        (None, Stopped::Abandoned(n)) => Err(AppError::Abandoned(n)),
        (None, Stopped::Drained) => Ok(()),
    }
}

async fn bind(config: &Config) -> Result<Listeners, AppError> {
    let bind = async |address: SocketAddr, flag| {
        let bound = TcpListener::bind(address).await;
        bound.map_err(|source| AppError::Bind {
            address,
            flag,
            source,
        })
    };
    Ok(Listeners {
        http: bind(config.listen, "--listen").await?,
        admin: bind(config.metrics, "--metrics").await?,
    })
}

/// The first line on stdout: whoever started the service with port 0 learns the ports from it.
fn announce(listeners: &Listeners, identity: &Identity) -> Result<(), AppError> {
    let line = json!({
        "event": "listening",
        "http": listeners.http.local_addr()?.to_string(),
        "metrics": listeners.admin.local_addr()?.to_string(),
        "service": identity.get(resource::SERVICE_NAME),
        "version": identity.get(resource::SERVICE_VERSION),
        "revision": identity.get(resource::SERVICE_REVISION),
    });
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(AppError::Announce)
}

fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Loads the model, warms one engine a worker and starts the workers. Blocks.
fn load(config: &Config, metrics: Arc<Metrics>, faults: Arc<Faults>) -> Result<Loaded, AppError> {
    let start = Instant::now();
    let device = match config.device {
        DeviceChoice::Cpu => Device::Cpu,
        DeviceChoice::Cuda(number) => Device::cuda(number)?,
    };
    let model = match &config.model {
        ModelChoice::Bundled(name) => Model::Encoder(model::bundled_on(name, &device)?),
        ModelChoice::Path(path) => model::open(path, &device)?,
    };
    let (workers, info) = match model {
        Model::Encoder(model) => {
            let engines = (0..config.workers)
                .map(|_| warmed(&model, config.threads))
                .collect::<Result<Vec<_>, _>>()?;
            let pool =
                Pool::start(engines, config.pool, metrics, faults).map_err(AppError::Workers)?;
            let preprocess = model.preprocess();
            (Workers::Encoder { pool, preprocess }, model.info)
        }
        Model::Causal(model) => {
            let engines = (0..config.workers)
                .map(|_| warmed_writer(&model, config.writers.chunk))
                .collect::<Result<Vec<_>, _>>()?;
            let text = model.text.clone();
            let writers = Writers::start(engines, text, config.writers, metrics, faults);
            let workers = Workers::Causal(writers.map_err(AppError::Workers)?);
            let max_tokens = model.info.max_tokens.min(config.max_context);
            let info = ModelInfo {
                max_tokens,
                ..model.info
            };
            (workers, info)
        }
    };
    Ok(Loaded {
        workers,
        info,
        load: start.elapsed(),
    })
}

/// A writer's engine that has read a chunk of a prompt and written once, for the same reason as [`warmed`];
/// a device has other kernels for either.
fn warmed_writer(model: &Causal, chunk: usize) -> Result<Box<dyn Decode>, ModelError> {
    let mut engine = model.engine();
    let mut memory = Memory::default();
    let prompt = vec![0; chunk.min(model.info.max_tokens.saturating_sub(1)).max(1)];
    for tokens in [&prompt[..], &[0]] {
        let scores = engine.step(&mut [Part {
            memory: &mut memory,
            tokens,
            scores: true,
        }])?;
        let bad = scores.iter().flatten().position(|v| !v.is_finite());
        if let Some(label) = bad {
            return Err(ModelError::NotFinite { label });
        }
    }
    Ok(engine)
}

/// An engine that has answered once, on a document of the length that is usual: the first inference
/// pays for page faults and buffers that the first request should not pay for.
fn warmed(model: &LoadedModel, threads: usize) -> Result<Box<dyn Infer>, ModelError> {
    let text =
        "the pitcher threw the ball and the car needs a new engine before the game ".repeat(12);
    let document = model.preprocess().encode(&text)?;
    let mut engine = model.engine(threads);
    for _ in 0..3 {
        for answer in engine.infer(&[&document]) {
            answer?;
        }
    }
    Ok(engine)
}

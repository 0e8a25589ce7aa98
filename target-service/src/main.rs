//! The executable: arguments, runtime, exit code.

mod environment;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use target_service::app;
use target_service::config::{Args, Config};

/// Exit code of arguments or environment that make no sense; clap's own, too.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    environment::prepare();
    let args = Args::parse();
    let env = |key: &str| std::env::var(key).ok();
    let config = match Config::resolve(args, &env, &instance_id()) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("target-service: {error}");
            return ExitCode::from(USAGE);
        }
    };
    // What the libraries have to say of themselves, such as a collector that cannot be reached.
    // Our own log records do not pass here.
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| "error".to_owned());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .init();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("target-service: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime.block_on(app::run(config));
    // A model still loading when the stop came is not waited for.
    runtime.shutdown_timeout(Duration::from_millis(100));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("target-service: {error}");
            ExitCode::FAILURE
        }
    }
}

/// A random UUID, version 4. The standard library's hasher is keyed from the system's randomness.
fn instance_id() -> String {
    let random = || RandomState::new().hash_one(std::process::id());
    let high = (random() & !0xf000) | 0x4000;
    let low = (random() >> 2) | (1 << 63);
    let hex = format!("{high:016x}{low:016x}");
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}

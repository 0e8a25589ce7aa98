//! SIGINT and SIGTERM: once drains and reports, twice stops.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Signals that came.
#[derive(Debug, Clone)]
pub struct Signals {
    /// Cancelled by the first.
    pub first: CancellationToken,
    /// Cancelled by the second.
    pub second: CancellationToken,
}

impl Signals {
    /// Begins to listen.
    ///
    /// # Errors
    /// When the system does not allow it.
    pub fn listen() -> Result<Self, String> {
        let listen =
            |kind| signal(kind).map_err(|error| format!("cannot listen for signals: {error}"));
        let mut interrupt = listen(SignalKind::interrupt())?;
        let mut terminate = listen(SignalKind::terminate())?;
        let signals = Self {
            first: CancellationToken::new(),
            second: CancellationToken::new(),
        };
        let seen = signals.clone();
        tokio::spawn(async move {
            for token in [&seen.first, &seen.second] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
            }
        });
        Ok(signals)
    }
}

//! What a person sees while a run goes on, on stderr.

use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use harness_core::measure::Measurements;
use harness_core::record::Stretch;
use harness_core::units::Nanos;
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::drive::Gauges;

/// How often a plain line is written when stderr is no terminal.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Says what is going on: a moving line on a terminal, plain lines elsewhere, nothing when quiet.
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    /// For stderr.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
                bar.set_style(style);
            }
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Self { bar, quiet }
    }

    /// A line that stays.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None if !self.quiet => drop(writeln!(std::io::stderr(), "{text}")),
            None => {}
        }
    }

    /// A line that the next one replaces.
    pub fn moving(&self, text: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(text);
        }
    }

    /// Ends the moving line.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Shows the load until `over`.
    pub async fn watch(
        &self,
        live: &Arc<Mutex<Measurements>>,
        gauges: &Arc<Gauges>,
        clock: Clock,
        stretches: &[Stretch],
        over: &CancellationToken,
    ) {
        let every = if self.bar.is_some() {
            Duration::from_millis(250)
        } else {
            PLAIN_EVERY
        };
        let mut tick = tokio::time::interval(every);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = over.cancelled() => return,
            }
            let line = line(live, gauges, clock.now(), stretches);
            if self.bar.is_some() {
                self.moving(line);
            } else {
                self.say(&line);
            }
        }
    }
}

fn line(
    live: &Arc<Mutex<Measurements>>,
    gauges: &Arc<Gauges>,
    now: Nanos,
    stretches: &[Stretch],
) -> String {
    let end = stretches
        .iter()
        .map(|stretch| stretch.end)
        .max()
        .unwrap_or_default();
    let phase = stretches
        .iter()
        .find(|stretch| stretch.start <= now && now < stretch.end)
        .map_or_else(
            || "draining".to_owned(),
            |stretch| stretch.phase.to_string(),
        );
    let out = gauges.in_flight.load(std::sync::atomic::Ordering::Relaxed);
    let figures = live
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
        .snapshot(now, out);
    format!(
        "{phase:8} {:5.1}/{:.0}s  {figures}",
        now.as_secs_f64(),
        end.as_secs_f64()
    )
}

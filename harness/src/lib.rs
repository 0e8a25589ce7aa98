//! The shell around `harness-core`: all IO and all clocks.
//!
//! `cli` turns arguments into options; `inputs` reads and checks every file; `run` brings up the
//! evidence ([`embedded`]), the [`target`] and the load ([`drive`], [`send`], [`trace`],
//! [`recorder`]), waits until the telemetry is complete ([`settle`], [`backends`]), seals the
//! [`run_dir`] and has it judged from there ([`output`]): a live verdict and one made offline take
//! the same road. `rejudge` puts new questions to the evidence of an old run, [`merge`] puts the runs of
//! a schedule's shards together, which meet and leave their results at a place of [`results`].

mod alarm;
pub mod attack;
pub mod backends;
pub mod baseline;
pub mod check;
pub mod cli;
pub mod clock;
pub mod columns;
pub mod compare;
pub mod doctor;
pub mod drive;
pub mod embedded;
pub mod export;
pub mod finished;
pub mod histograms;
pub mod init;
pub mod inputs;
pub mod lint;
pub mod merge;
pub mod observed;
pub mod output;
pub mod own;
pub mod progress;
pub mod publish;
pub mod recorder;
mod redact;
mod rejudge;
pub mod results;
pub mod retry;
pub mod run;
pub mod run_dir;
pub mod send;
pub mod set;
pub mod settle;
pub mod show;
pub mod signals;
pub mod slo_test;
pub mod stack;
pub mod stage;
pub mod target;
pub mod trace;

//! A target must not outlive a harness that was killed: it would hold its port and skew the next run.
//!
//! `unsafe` is allowed here alone: `pre_exec` runs between fork and exec, where only calls that are
//! safe after fork may be made; `prctl(PR_SET_PDEATHSIG)` is one system call and allocates nothing.
#![allow(unsafe_code)]

use tokio::process::Command;

/// Asks the kernel to send the child SIGTERM when the thread that starts it ends (Linux; elsewhere
/// nothing is done).
pub(super) fn end_with_us(command: &mut Command) {
    #[cfg(target_os = "linux")]
    // SAFETY: the closure makes one async-signal-safe system call and touches no memory of ours.
    unsafe {
        command.pre_exec(|| {
            rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))
                .map_err(Into::into)
        });
    }
}

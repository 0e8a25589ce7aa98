//! What must be set before the process has a second thread.
//!
//! One of the modules with `unsafe`: the environment and the allocator's parameters are the C
//! library's, unsynchronised, and may be changed only while nobody else reads them. `main` calls
//! [`prepare`] first, before it starts a thread.
#![allow(unsafe_code)]

/// One thread a worker for candle and the matrix library under it. Their pool waits busily, so that
/// with more threads than free cores the workers, the server and whoever shares the machine would
/// fight for them; several workers of one thread also serve more than one worker of several.
const THREADS: [&str; 2] = ["RAYON_NUM_THREADS", "CANDLE_NUM_THREADS"];

/// Sets what is not set already, and keeps freed buffers of inference in the process.
pub(crate) fn prepare() {
    for variable in THREADS {
        if std::env::var_os(variable).is_none() {
            // SAFETY: called at the start of `main`, when there is one thread.
            unsafe { std::env::set_var(variable, "1") };
        }
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // Each batch allocates and frees the same megabytes. By default glibc gives blocks over
        // 128 KiB back to the kernel at once, and the next batch faults every page in again.
        const MMAP_THRESHOLD: libc::c_int = 32 << 20;
        const TRIM_THRESHOLD: libc::c_int = 256 << 20;
        // SAFETY: as above; mallopt takes any value and reports those it does not like, which
        // leaves the defaults in force.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, MMAP_THRESHOLD);
            libc::mallopt(libc::M_TRIM_THRESHOLD, TRIM_THRESHOLD);
        }
    }
}

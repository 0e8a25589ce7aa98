//! Errors of sockets, TLS and HTTP/2 → outcomes. Every cause has a name of its own: "the target
//! refused" and "we ran out of ports" must never be one number.

use std::error::Error;
use std::io;

use harness_core::observation::Outcome;

/// Why an exchange failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Its name.
    pub(crate) outcome: Outcome,
    /// What exactly happened, for people.
    pub(crate) detail: String,
}

impl Fault {
    pub(crate) fn new(outcome: Outcome, detail: impl Into<String>) -> Self {
        Self {
            outcome,
            detail: detail.into(),
        }
    }

    /// The peer broke the protocol.
    pub(crate) fn protocol(detail: impl Into<String>) -> Self {
        Self::new(Outcome::ProtocolError, detail)
    }

    /// A connection that ended in good order although more was to come.
    pub(crate) fn closed(doing: &str) -> Self {
        let detail = format!("the peer closed the connection {doing}");
        Self::new(Outcome::ConnectionClosed, detail)
    }

    /// An error of a socket; `doing` says what was being done.
    pub(crate) fn io(doing: &str, error: &io::Error) -> Self {
        Self::new(of_io(error), format!("{doing}: {}", chain(error)))
    }

    /// An error of hyper's HTTP/2 client.
    pub(crate) fn http2(doing: &str, error: &(dyn Error + 'static)) -> Self {
        Self::new(of_http2(error), format!("{doing}: {}", chain(error)))
    }
}

/// Linux' errno where the generator, not the target, is at its end.
const OWN_LIMITS: [rustix::io::Errno; 5] = [
    rustix::io::Errno::MFILE,
    rustix::io::Errno::NFILE,
    rustix::io::Errno::ADDRNOTAVAIL,
    rustix::io::Errno::NOBUFS,
    rustix::io::Errno::NOMEM,
];

fn of_io(error: &io::Error) -> Outcome {
    let errno = error
        .raw_os_error()
        .map(rustix::io::Errno::from_raw_os_error);
    if errno.is_some_and(|errno| OWN_LIMITS.contains(&errno)) {
        return Outcome::GeneratorFailed;
    }
    if causes(error).any(|cause| cause.is::<rustls::Error>()) {
        return Outcome::TlsFailure;
    }
    match error.kind() {
        io::ErrorKind::ConnectionRefused
        | io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable => Outcome::ConnectionRefused,
        // What h2 says of a connection that ended in good order; the kernel's own has a number.
        io::ErrorKind::BrokenPipe if errno.is_none() => Outcome::ConnectionClosed,
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::NotConnected => Outcome::ConnectionReset,
        io::ErrorKind::UnexpectedEof => Outcome::ConnectionClosed,
        // The kernel gave up on a peer that acknowledges nothing.
        io::ErrorKind::TimedOut => Outcome::Timeout,
        _ => Outcome::ProtocolError,
    }
}

fn of_http2(error: &(dyn Error + 'static)) -> Outcome {
    for cause in causes(error) {
        if let Some(h2) = cause.downcast_ref::<h2::Error>() {
            if let Some(io) = h2.get_io() {
                return of_io(io);
            }
            if h2.is_remote() && h2.is_go_away() {
                return Outcome::GoAway;
            }
            if h2.is_remote() && h2.is_reset() {
                return Outcome::StreamReset;
            }
        }
        if let Some(io) = cause.downcast_ref::<io::Error>() {
            return of_io(io);
        }
        if let Some(hyper) = cause.downcast_ref::<hyper::Error>()
            && (hyper.is_closed() || hyper.is_canceled() || hyper.is_incomplete_message())
            && hyper.source().is_none()
        {
            return Outcome::ConnectionClosed;
        }
    }
    Outcome::ProtocolError
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| cause(*error))
}

/// What lies behind an error. An io::Error's `source` skips the error it wraps itself.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>() {
        Some(io) => io.get_ref().map(|inner| inner as &(dyn Error + 'static)),
        None => error.source(),
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    for cause in causes(error).skip(1) {
        let said = cause.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_ran_out_of_is_not_the_targets_failure() {
        for errno in OWN_LIMITS {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(of_io(&error), Outcome::GeneratorFailed, "{error}");
        }
        let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
        assert_eq!(of_io(&refused), Outcome::ConnectionRefused);
    }

    #[test]
    fn tls_is_found_inside_an_io_error() {
        let error = io::Error::new(io::ErrorKind::InvalidData, rustls::Error::DecryptError);
        assert_eq!(of_io(&error), Outcome::TlsFailure);
        assert!(chain(&error).contains("decrypt"), "{}", chain(&error));
    }
}

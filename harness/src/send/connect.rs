//! From a URL to a connection: name, TCP, TLS, and which HTTP is spoken on it.

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness_core::observation::Outcome;
use http_body_util::Full;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::h1::{H1, Io};
use super::outcome::Fault;
use super::tls::{self, Certificates};

/// How long an answer of the resolver is good for.
const RESOLVED_FOR: Duration = Duration::from_secs(30);

/// Which HTTP is spoken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Protocol {
    /// As the peer chooses by ALPN on TLS; HTTP/1.1 without TLS.
    #[default]
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; without TLS by prior knowledge.
    Http2,
}

/// Why an HTTP/2 connection ended, once it has: its streams are only told that it did.
pub(crate) type Ended = Arc<OnceLock<Fault>>;

/// A new connection.
pub(crate) enum Connected {
    H1(Box<H1>),
    H2(SendRequest<Full<Bytes>>, Ended),
}

/// Opens connections to one target.
pub(crate) struct Connector {
    host: String,
    port: u16,
    protocol: Protocol,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    resolved: Mutex<Option<(Instant, Arc<[SocketAddr]>)>>,
}

impl Connector {
    /// For a base URL, `http` or `https`.
    ///
    /// # Errors
    /// A sentence: no such URL, or certificates that cannot be used.
    pub(crate) fn new(
        url: &url::Url,
        protocol: Protocol,
        certificates: &Certificates,
    ) -> Result<Self, String> {
        let host = url
            .host_str()
            .ok_or_else(|| format!("`{url}` has no host"))?
            .trim_matches(['[', ']'])
            .to_owned();
        let offered: &[&[u8]] = match protocol {
            Protocol::Auto => &[b"h2", b"http/1.1"],
            Protocol::Http1 => &[b"http/1.1"],
            Protocol::Http2 => &[b"h2"],
        };
        let tls = match url.scheme() {
            "http" => None,
            "https" => {
                let name = certificates.server_name.as_ref().unwrap_or(&host);
                let name = ServerName::try_from(name.clone())
                    .map_err(|error| format!("`{name}` is no name for TLS: {error}"))?;
                let config = tls::config(certificates, offered)?;
                Some((TlsConnector::from(config), name))
            }
            other => return Err(format!("`{url}`: {other} is neither http nor https")),
        };
        Ok(Self {
            port: url.port_or_known_default().unwrap_or(80),
            host,
            protocol,
            tls,
            resolved: Mutex::new(None),
        })
    }

    /// Whether HTTP/2 may come about.
    pub(crate) fn may_multiplex(&self) -> bool {
        match self.protocol {
            Protocol::Http1 => false,
            Protocol::Http2 => true,
            Protocol::Auto => self.tls.is_some(),
        }
    }

    /// Opens a connection.
    pub(crate) async fn connect(&self) -> Result<Connected, Fault> {
        let socket = self.tcp().await?;
        let Some((connector, name)) = &self.tls else {
            return match self.protocol {
                Protocol::Http2 => http2(TokioIo::new(socket)).await,
                Protocol::Auto | Protocol::Http1 => {
                    Ok(Connected::H1(Box::new(H1::new(Io::Plain(socket)))))
                }
            };
        };
        let socket = connector
            .connect(name.clone(), socket)
            .await
            .map_err(|error| {
                let fault = Fault::io("agreeing on TLS", &error);
                // Whatever breaks the handshake, a peer that hangs up included, is a failure of TLS,
                // but not what we ran out of.
                match fault.outcome {
                    Outcome::GeneratorFailed => fault,
                    _ => Fault::new(Outcome::TlsFailure, fault.detail),
                }
            })?;
        let agreed = socket.get_ref().1.alpn_protocol();
        match (self.protocol, agreed) {
            (_, Some(b"h2")) => http2(TokioIo::new(socket)).await,
            (Protocol::Http2, _) => {
                let why = "the peer does not agree on HTTP/2 (ALPN h2)";
                Err(Fault::protocol(why))
            }
            _ => Ok(Connected::H1(Box::new(H1::new(Io::Tls(Box::new(socket)))))),
        }
    }

    async fn tcp(&self) -> Result<TcpStream, Fault> {
        let mut failed = None;
        let addresses = self.addresses().await?;
        for address in addresses.iter() {
            match TcpStream::connect(address).await {
                Ok(socket) => {
                    socket
                        .set_nodelay(true)
                        .map_err(|error| Fault::io("setting up a socket", &error))?;
                    return Ok(socket);
                }
                Err(error) => failed = Some((address, error)),
            }
        }
        Err(match failed {
            Some((address, error)) => {
                let mut fault = Fault::io(&format!("connecting to {address}"), &error);
                // The kernel's own patience with a peer that does not answer at all.
                if fault.outcome == Outcome::Timeout {
                    fault.outcome = Outcome::ConnectTimeout;
                }
                fault
            }
            None => Fault::new(
                Outcome::DnsFailure,
                format!("`{}` has no address", self.host),
            ),
        })
    }

    async fn addresses(&self) -> Result<Arc<[SocketAddr]>, Fault> {
        if let Some((at, known)) = &*self.resolved.lock().unwrap_or_else(PoisonError::into_inner)
            && at.elapsed() < RESOLVED_FOR
        {
            return Ok(Arc::clone(known));
        }
        let found: Arc<[SocketAddr]> = if let Ok(ip) = self.host.parse::<IpAddr>() {
            Arc::from([SocketAddr::new(ip, self.port)])
        } else {
            tokio::net::lookup_host((self.host.as_str(), self.port))
                .await
                .map_err(|error| {
                    let why = format!("resolving `{}`: {error}", self.host);
                    Fault::new(Outcome::DnsFailure, why)
                })?
                .collect()
        };
        *self.resolved.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((Instant::now(), Arc::clone(&found)));
        Ok(found)
    }
}

async fn http2<T>(io: T) -> Result<Connected, Fault>
where
    T: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let (send, connection) = http2::Builder::new(TokioExecutor::new())
        .handshake(io)
        .await
        .map_err(|error| Fault::http2("beginning HTTP/2", &error))?;
    let ended = Ended::default();
    let end = Arc::clone(&ended);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            let _ = end.set(Fault::http2("the connection ended", &error));
        }
    });
    Ok(Connected::H2(send, ended))
}

use std::sync::Arc;

use harness::send::{Certificates, Pem, Protocol, SendOptions};
use harness_core::observation::Outcome;
use rcgen::{CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsAcceptor;

use crate::peer::{Client, listen, patient};

/// An authority of our own.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        (params.signed_by(&key, &self.0).unwrap(), key)
    }

    fn pem(&self) -> Pem {
        pem("ca.pem", &self.0.pem())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from(self.0.der().to_vec()))
            .unwrap();
        roots
    }
}

fn pem(file: &str, text: &str) -> Pem {
    Pem {
        file: file.into(),
        text: text.into(),
    }
}

/// A TLS peer with a certificate for `name`; `alpn` is what it speaks. Its base URL.
async fn serve(authority: &Authority, name: &str, alpn: &[&str], ask_client: bool) -> String {
    let (certificate, key) = authority.issue(name, ExtendedKeyUsagePurpose::ServerAuth);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = if ask_client {
        let roots = Arc::new(authority.roots());
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider);
        builder.with_client_cert_verifier(verifier.build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let chain = vec![CertificateDer::from(certificate.der().to_vec())];
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let mut config = builder.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let (address, _) = listen(move |socket| {
        let acceptor = acceptor.clone();
        async move {
            let Ok(mut socket) = acceptor.accept(socket).await else {
                return;
            };
            if socket.get_ref().1.alpn_protocol() == Some(b"h2") {
                let mut server = h2::server::handshake(socket).await.unwrap();
                while let Some(Ok((_, mut to))) = server.accept().await {
                    let mut body = to.send_response(http::Response::new(()), false).unwrap();
                    body.send_data(bytes::Bytes::from_static(b"two"), true)
                        .unwrap();
                }
                return;
            }
            let mut read = Vec::new();
            while !read.ends_with(b"\r\n\r\nhello") {
                match socket.read_u8().await {
                    Ok(byte) => read.push(byte),
                    Err(_) => return,
                }
            }
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
            socket.write_all(answer).await.unwrap();
            socket.shutdown().await.unwrap();
        }
    })
    .await;
    format!("https://{address}")
}

fn options(certificates: Certificates) -> SendOptions {
    SendOptions {
        certificates,
        ..patient()
    }
}

fn trusting(authority: &Authority) -> Certificates {
    Certificates {
        ca: Some(authority.pem()),
        ..Certificates::default()
    }
}

#[tokio::test]
async fn an_authority_of_ones_own_is_trusted_where_it_is_named() {
    let authority = Authority::new();
    let url = serve(&authority, "127.0.0.1", &["http/1.1"], false).await;
    let seen = Client::new(&url, options(trusting(&authority)))
        .send()
        .await;
    assert_eq!(
        (seen.outcome, seen.bytes),
        (Outcome::Expected, 2),
        "{:?}",
        seen.detail()
    );

    let other = Client::new(&url, options(trusting(&Authority::new())))
        .send()
        .await;
    assert_eq!(other.outcome, Outcome::TlsFailure);
    let detail = other.detail().unwrap();
    assert!(detail.contains("invalid peer certificate"), "{detail}");
}

#[tokio::test]
async fn a_certificate_for_another_name() {
    let authority = Authority::new();
    let url = serve(&authority, "127.0.0.2", &[], false).await;
    let seen = Client::new(&url, options(trusting(&authority)))
        .send()
        .await;
    assert_eq!(seen.outcome, Outcome::TlsFailure, "{:?}", seen.detail());
    assert!(seen.detail().unwrap().contains("certificate"));
}

#[tokio::test]
async fn another_name_or_no_check_at_all_where_the_scenario_says_so() {
    let authority = Authority::new();
    let url = serve(&authority, "service.internal", &[], false).await;
    let by_name = Certificates {
        server_name: Some("service.internal".into()),
        ..trusting(&authority)
    };
    let seen = Client::new(&url, options(by_name)).send().await;
    assert_eq!(seen.outcome, Outcome::Expected, "{:?}", seen.detail());
    let unverified = Certificates {
        unverified: true,
        ..Certificates::default()
    };
    let seen = Client::new(&url, options(unverified)).send().await;
    assert_eq!(seen.outcome, Outcome::Expected, "{:?}", seen.detail());
}

#[tokio::test]
async fn a_peer_that_speaks_no_tls_or_hangs_up() {
    for bytes in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let (address, _) = listen(move |mut socket| async move {
            socket.write_all(bytes).await.unwrap();
            socket.shutdown().await.unwrap();
        })
        .await;
        let options = options(trusting(&Authority::new()));
        let seen = Client::new(&format!("https://{address}"), options)
            .send()
            .await;
        assert_eq!(seen.outcome, Outcome::TlsFailure, "{:?}", seen.detail());
    }
}

#[tokio::test]
async fn a_client_certificate_is_shown_where_there_is_one() {
    let authority = Authority::new();
    let url = serve(&authority, "127.0.0.1", &[], true).await;
    let seen = Client::new(&url, options(trusting(&authority)))
        .send()
        .await;
    // TLS 1.3 tells after the handshake: by an alert where the answer should be.
    assert_eq!(seen.outcome, Outcome::TlsFailure, "{:?}", seen.detail());

    let (certificate, key) = authority.issue("client", ExtendedKeyUsagePurpose::ClientAuth);
    let certificates = Certificates {
        client: Some((
            pem("client.pem", &certificate.pem()),
            pem("client.key", &key.serialize_pem()),
        )),
        ..trusting(&authority)
    };
    let seen = Client::new(&url, options(certificates)).send().await;
    assert_eq!(seen.outcome, Outcome::Expected, "{:?}", seen.detail());
}

#[tokio::test]
async fn http2_comes_about_by_alpn_and_only_where_both_want_it() {
    let authority = Authority::new();
    let url = serve(&authority, "127.0.0.1", &["h2", "http/1.1"], false).await;
    let with = |protocol| SendOptions {
        protocol,
        ..options(trusting(&authority))
    };
    for (protocol, bytes) in [
        (Protocol::Auto, 3),
        (Protocol::Http2, 3),
        (Protocol::Http1, 2),
    ] {
        let seen = Client::new(&url, with(protocol)).send().await;
        assert_eq!(
            (seen.outcome, seen.bytes),
            (Outcome::Expected, bytes),
            "{protocol:?}: {:?}",
            seen.detail()
        );
    }
    let url = serve(&authority, "127.0.0.1", &["http/1.1"], false).await;
    let seen = Client::new(&url, with(Protocol::Http2)).send().await;
    assert!(
        matches!(seen.outcome, Outcome::TlsFailure | Outcome::ProtocolError),
        "{:?}: {:?}",
        seen.outcome,
        seen.detail()
    );
}

#[test]
fn files_that_hold_no_certificate_are_named_before_anything_is_sent() {
    let authority = Authority::new();
    let scenario = crate::peer::scenario();
    let planner = harness_core::request::Planner::new(&scenario, &Default::default(), 1).unwrap();
    let planner = Arc::new(planner);
    let wrong = |certificates| {
        let clock = harness::clock::Clock::starting_in(std::time::Duration::ZERO);
        let options = options(certificates);
        harness::send::Sender::new(
            "https://127.0.0.1:1",
            options,
            clock,
            Arc::clone(&planner),
            "r",
        )
        .err()
        .expect("it is refused")
    };
    let ca = Some(pem("empty.pem", ""));
    let why = wrong(Certificates {
        ca,
        ..Certificates::default()
    });
    assert_eq!(why, "empty.pem: holds no certificate (PEM)");
    let chain = authority.pem();
    let client = Some((chain.clone(), pem("client.key", &authority.0.pem())));
    let why = wrong(Certificates {
        client,
        ..trusting(&authority)
    });
    assert!(why.starts_with("client.key: holds no private key"), "{why}");
}

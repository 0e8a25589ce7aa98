//! TLS of the load: rustls with ring.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_platform_verifier::Verifier;

/// Certificates of a scenario, as PEM texts.
#[derive(Clone, Default)]
pub struct Certificates {
    /// Authorities to trust beside the system's.
    pub ca: Option<Pem>,
    /// The client's certificate chain and its private key.
    pub client: Option<(Pem, Pem)>,
    /// Name that the peer's certificate must be for, where it is not the URL's host.
    pub server_name: Option<String>,
    /// Take any certificate: for a peer whose own nobody can check.
    pub unverified: bool,
}

/// A PEM text and where it is from.
#[derive(Clone)]
pub struct Pem {
    /// Name of the file, for people.
    pub file: String,
    /// What is in it. May be a private key: never printed.
    pub text: Vec<u8>,
}

/// A client configuration that offers these protocols by ALPN, the preferred one first.
///
/// # Errors
/// A sentence that names the file: no certificate or key in it, or the two do not belong together.
pub(crate) fn config(
    certificates: &Certificates,
    protocols: &[&[u8]],
) -> Result<Arc<ClientConfig>, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = verifier(certificates, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS: {error}"))?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &certificates.client {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain_of(chain)?, key_of(key)?)
            .map_err(|error| format!("{} and {}: {error}", chain.file, key.file))?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
    Ok(Arc::new(config))
}

fn verifier(
    certificates: &Certificates,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, String> {
    if certificates.unverified {
        return Ok(Arc::new(AnyCertificate(provider)));
    }
    let extra = match &certificates.ca {
        Some(ca) => chain_of(ca)?,
        None => Vec::new(),
    };
    // Said here, by file: the platform's verifier skips what is no authority.
    let mut roots = RootCertStore::empty();
    for certificate in &extra {
        let file = certificates.ca.as_ref().map_or("", |ca| &ca.file);
        let added = roots.add(certificate.clone());
        added.map_err(|error| format!("{file}: {error}"))?;
    }
    let platform = Verifier::new_with_extra_roots(extra, Arc::clone(&provider));
    match platform {
        Ok(verifier) => Ok(Arc::new(verifier)),
        // A machine without certificates of its own still has the scenario's.
        Err(_) if !roots.is_empty() => {
            let alone = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider);
            Ok(alone.build().map_err(|error| format!("TLS: {error}"))?)
        }
        Err(error) => Err(format!(
            "TLS: the system's certificates cannot be used: {error}"
        )),
    }
}

/// Takes any certificate; signatures are checked all the same.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

fn chain_of(pem: &Pem) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem.text).collect();
    let chain = chain.map_err(|error| format!("{}: {error}", pem.file))?;
    if chain.is_empty() {
        return Err(format!("{}: holds no certificate (PEM)", pem.file));
    }
    Ok(chain)
}

fn key_of(pem: &Pem) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(&pem.text)
        .map_err(|error| format!("{}: holds no private key (PEM): {error}", pem.file))
}

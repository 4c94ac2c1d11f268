//! TLS for registries: rustls over any stream, with the roots of the settings or Mozilla's.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, Error as TlsError,
    RootCertStore, SignatureScheme, WantsVerifier,
};

use super::RegistryError;
use crate::dial::Stream;

/// Makes connectors; one a pull. The roots are those that the host sent when the machine started.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// Verifies certificates by `roots_pem`, or by Mozilla's roots if it is empty.
    pub(super) fn verified(roots_pem: &str) -> Result<Self, RegistryError> {
        let roots = roots(roots_pem)?;
        Self::of(|config| config.with_root_certificates(roots).with_no_client_auth())
    }

    /// Takes any certificate: for registries that the user calls insecure.
    pub(super) fn unverified() -> Result<Self, RegistryError> {
        Self::of(|config| {
            let anyone = Arc::new(Anyone(ring::default_provider()));
            let config = config.dangerous().with_custom_certificate_verifier(anyone);
            config.with_no_client_auth()
        })
    }

    fn of(
        finish: impl FnOnce(ConfigBuilder<ClientConfig, WantsVerifier>) -> ClientConfig,
    ) -> Result<Self, RegistryError> {
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| RegistryError::TrustRoots(error.to_string()))?;
        Ok(Self(TlsConnector::from(Arc::new(finish(config)))))
    }

    /// Shakes hands with `host`.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: Box<dyn Stream>,
    ) -> io::Result<Box<dyn Stream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        match self.0.connect(name, stream).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(explained(error)),
        }
    }
}

/// What to do about a certificate of an issuer that the host does not know, or not yet.
const UNKNOWN_ISSUER: &str = "the certificate's issuer is not among the certificates that the host \
    trusted when the machine started. If it was added there since (to the file SSL_CERT_FILE, or \
    else the system's, such as /etc/ssl/certs/ca-certificates.crt): lighter down && lighter up";

fn explained(error: io::Error) -> io::Error {
    // A root made anew under its old name does not fit what the new one signed.
    let unknown = matches!(
        error.get_ref().and_then(|inner| inner.downcast_ref()),
        Some(TlsError::InvalidCertificate(
            CertificateError::UnknownIssuer | CertificateError::BadSignature
        ))
    );
    if unknown {
        return io::Error::new(error.kind(), format!("{error}: {UNKNOWN_ISSUER}"));
    }
    error
}

fn roots(pem: &str) -> Result<RootCertStore, RegistryError> {
    let wrong = |error: String| RegistryError::TrustRoots(error);
    let mut roots = RootCertStore::empty();
    if pem.trim().is_empty() {
        roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        return Ok(roots);
    }
    let certificates = CertificateDer::pem_slice_iter(pem.as_bytes());
    let certificates: Result<Vec<_>, _> = certificates.collect();
    let certificates = certificates.map_err(|error| wrong(format!("{error:?}")))?;
    // System stores hold a few certificates that rustls does not take.
    let (added, _ignored) = roots.add_parsable_certificates(certificates);
    if added == 0 {
        return Err(wrong("there is no certificate in them".to_owned()));
    }
    Ok(roots)
}

/// Accepts every certificate; that its owner is at the other end is verified all the same.
#[derive(Debug)]
struct Anyone(CryptoProvider);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, cert, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, cert, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

//! TLS for registries: rustls over any stream, with the roots of the settings or Mozilla's.

use std::io;
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::RegistryError;
use crate::dial::Stream;

/// Makes connectors; one a pull, so that changed roots count at once.
#[derive(Clone)]
pub(super) struct Tls(TlsConnector);

impl Tls {
    /// `roots_pem` replaces Mozilla's roots if it is not empty.
    pub(super) fn new(roots_pem: &str) -> Result<Self, RegistryError> {
        let wrong = |error: String| RegistryError::TrustRoots(error);
        let mut roots = RootCertStore::empty();
        if roots_pem.trim().is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        } else {
            let certificates = CertificateDer::pem_slice_iter(roots_pem.as_bytes());
            let certificates: Result<Vec<_>, _> = certificates.collect();
            let certificates = certificates.map_err(|error| wrong(format!("{error:?}")))?;
            // System stores hold a few certificates that rustls does not take.
            let (added, _ignored) = roots.add_parsable_certificates(certificates);
            if added == 0 {
                return Err(wrong("there is no certificate in them".to_owned()));
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong(error.to_string()))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }

    /// Shakes hands with `host`.
    pub(super) async fn connect(
        &self,
        host: &str,
        stream: Box<dyn Stream>,
    ) -> io::Result<Box<dyn Stream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        Ok(Box::new(self.0.connect(name, stream).await?))
    }
}

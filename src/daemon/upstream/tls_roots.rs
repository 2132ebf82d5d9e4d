//! The certificate authorities that our TLS connections trust.

use std::path::Path;
use std::sync::{Arc, Weak};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

/// Root certificates and the TLS settings built on them. Built when first needed, dropped with the
/// last connection that uses them.
#[derive(Default)]
pub struct TlsRoots(Weak<ClientConfig>);

impl TlsRoots {
    /// The built-in roots and those of a PEM file.
    ///
    /// # Errors
    /// The file cannot be read, or contains no valid certificate.
    pub fn config(&mut self, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
        if let Some(config) = self.0.upgrade() {
            return Ok(config);
        }
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = ca_file {
            let fault = |e: &dyn std::fmt::Display| format!("network.ca-file: {e}");
            let certificates = CertificateDer::pem_file_iter(path).map_err(|e| fault(&e))?;
            let built_in = roots.len();
            for certificate in certificates {
                roots.add(certificate.map_err(|e| fault(&e))?).map_err(|e| fault(&e))?;
            }
            if roots.len() == built_in {
                return Err(fault(&"no certificate in the file"));
            }
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let config = Arc::new(config);
        self.0 = Arc::downgrade(&config);
        Ok(config)
    }
}

//! TLS of the service: a certificate chain and a key from PEM files, by rustls with TLS 1.2 and 1.3.
//!
//! Files are read once, at the start: a renewed certificate needs a restart. Clients bring no
//! certificates; API keys say who they are.

use crate::ServiceError;
use crate::config::broken;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where certificate and key are.
#[derive(Debug, Clone, PartialEq, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// The certificate chain in PEM, the service's own first.
    pub certificate: PathBuf,
    /// Its private key in PEM: PKCS#8, PKCS#1 or SEC1, without a passphrase.
    pub key: PathBuf,
}

/// What the listener needs.
///
/// # Errors
/// A file that cannot be read or holds no such thing, or a key that is not the certificate's: named.
pub(crate) fn server_config(config: &TlsConfig) -> Result<ServerConfig, ServiceError> {
    let refused = |field: &'static str, path: &Path, error: &dyn std::fmt::Display| {
        broken(field, format!("{} cannot be used: {error}; give a PEM file", path.display()))
    };
    let of_chain = |error: &dyn std::fmt::Display| refused("tls.certificate", &config.certificate, error);
    let chain = CertificateDer::pem_file_iter(&config.certificate).map_err(|error| of_chain(&error))?;
    let chain: Vec<CertificateDer<'static>> = chain.collect::<Result<_, _>>().map_err(|error| of_chain(&error))?;
    if chain.is_empty() {
        return Err(of_chain(&"it holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_file(&config.key).map_err(|error| refused("tls.key", &config.key, &error))?;
    let versions = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| of_chain(&error))?;
    let built = versions.with_no_client_auth().with_single_cert(chain, key);
    built.map_err(|error| refused("tls.key", &config.key, &error))
}

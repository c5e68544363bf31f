//! TLS of the service: a certificate chain and a key from PEM files, by rustls with TLS 1.2 and 1.3.
//!
//! A renewed certificate needs no restart: a handshake looks at the files, at most once a second, and reads
//! them again when they have changed. Files that do not fit together, such as a new certificate before its
//! key is there, are logged, and the certificate in use stays. Clients bring no certificates; API keys say
//! who they are.

use crate::ServiceError;
use crate::config::broken;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How often handshakes look at the files.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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
    let (stamp, key) = (Stamp::of(config), read(config)?);
    let state = Mutex::new(InUse { key: Arc::new(key), stamp, looked_at: Instant::now() });
    let versions = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| broken("tls", error.to_string()))?;
    Ok(versions.with_no_client_auth().with_cert_resolver(Arc::new(Renewed { config: config.clone(), state })))
}

/// Chain and key, which belong together.
fn read(config: &TlsConfig) -> Result<CertifiedKey, ServiceError> {
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
    let built = CertifiedKey::from_der(chain, key, &ring::default_provider());
    built.map_err(|error| refused("tls.key", &config.key, &error))
}

/// Time of change and size of both files; none where one cannot be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp(Option<[(SystemTime, u64); 2]>);

impl Stamp {
    fn of(config: &TlsConfig) -> Stamp {
        let of_file = |path: &Path| {
            let found = std::fs::metadata(path).ok()?;
            Some((found.modified().ok()?, found.len()))
        };
        let both = of_file(&config.certificate).zip(of_file(&config.key));
        Stamp(both.map(|(certificate, key)| [certificate, key]))
    }
}

/// Gives every handshake the certificate of now.
#[derive(Debug)]
struct Renewed {
    config: TlsConfig,
    state: Mutex<InUse>,
}

#[derive(Debug)]
struct InUse {
    key: Arc<CertifiedKey>,
    /// Of the files when they were read last, whatever came of it.
    stamp: Stamp,
    looked_at: Instant,
}

impl ResolvesServerCert for Renewed {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        // What it guards is replaced whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked_at.elapsed() >= LOOK_EVERY {
            state.looked_at = Instant::now();
            let stamp = Stamp::of(&self.config);
            if stamp != state.stamp {
                state.stamp = stamp;
                match read(&self.config) {
                    Ok(key) => {
                        state.key = Arc::new(key);
                        tracing::info!(certificate = %self.config.certificate.display(), "the certificate was renewed");
                    }
                    Err(error) => tracing::error!(%error, "the certificate in use stays"),
                }
            }
        }
        Some(Arc::clone(&state.key))
    }
}

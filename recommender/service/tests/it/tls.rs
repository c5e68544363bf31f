//! TLS with a certificate made here: who trusts it gets answers, plain text gets none, and files that
//! are none are refused before the port answers.

use crate::fixture::{CONFIG, Server, bundle_dir, refused};
use rustls::crypto::ring;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use service::{ServiceConfig, TlsConfig};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Writes a self-signed certificate for `localhost` and its key; gives who trusts it.
fn certificate(dir: &Path, name: &str) -> (TlsConfig, RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let tls = TlsConfig { certificate: dir.join(format!("{name}.pem")), key: dir.join(format!("{name}.key")) };
    std::fs::write(&tls.certificate, made.cert.pem()).unwrap();
    std::fs::write(&tls.key, made.signing_key.serialize_pem()).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    (tls, roots)
}

/// One request over TLS; the whole answer.
fn https(address: SocketAddr, roots: RootCertStore, path: &str) -> std::io::Result<String> {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // The other end may hang up without a goodbye once everything is said.
        Err(error) if answer.is_empty() => Err(error),
        _ => Ok(String::from_utf8_lossy(&answer).into_owned()),
    }
}

#[test]
fn the_service_answers_over_tls_and_only_so() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, roots) = certificate(dir.path(), "own");
    let server = Server::with(|config| config.tls = Some(tls));
    let answer = https(server.client.address, roots, "/readyz").unwrap();
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("\"ready\""), "{answer}");
    let (_, strangers) = certificate(dir.path(), "other");
    let error = https(server.client.address, strangers, "/readyz").unwrap_err().to_string();
    assert!(error.contains("certificate"), "{error}");
    let mut plain = TcpStream::connect(server.client.address).unwrap();
    plain.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    plain.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"));
}

#[test]
fn a_renewed_certificate_needs_no_restart_and_a_spoilt_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (tls, first) = certificate(dir.path(), "own");
    let server = Server::with(|config| config.tls = Some(tls.clone()));
    let answered = |roots: &RootCertStore| https(server.client.address, roots.clone(), "/readyz").is_ok();
    let until = |roots: &RootCertStore| {
        (0..100).any(|_| {
            answered(roots) || {
                std::thread::sleep(Duration::from_millis(100));
                false
            }
        })
    };
    assert!(answered(&first));

    // The certificate first: for a while it does not fit the key.
    let (new, second) = certificate(dir.path(), "new");
    std::fs::copy(&new.certificate, &tls.certificate).unwrap();
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(answered(&first) && !answered(&second), "the old pair serves until both files are new");
    std::fs::copy(&new.key, &tls.key).unwrap();
    assert!(until(&second), "the new pair is never served");
    assert!(!answered(&first));

    std::fs::write(&tls.certificate, "nothing").unwrap();
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(answered(&second));
    std::fs::remove_file(&tls.certificate).unwrap();
    std::thread::sleep(Duration::from_millis(1_200));
    assert!(answered(&second));
}

#[test]
fn files_that_are_none_are_named_before_the_port_answers() {
    let dir = tempfile::tempdir().unwrap();
    let (good, _) = certificate(dir.path(), "good");
    let (other, _) = certificate(dir.path(), "other");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "nothing").unwrap();
    let check = |certificate: &Path, key: &Path, parts: &[&str]| {
        let mut config: ServiceConfig = toml::from_str(CONFIG).unwrap();
        config.bundle = bundle_dir().to_path_buf();
        config.tiers_file = dir.path().join("tiers.json");
        config.tls = Some(TlsConfig { certificate: certificate.to_path_buf(), key: key.to_path_buf() });
        let error = refused(config, &dir.path().join("state"));
        assert!(parts.iter().all(|part| error.contains(part)), "{error:?} lacks one of {parts:?}");
    };
    check(&empty, &good.key, &["tls.certificate", "empty.pem", "holds no certificate"]);
    check(&dir.path().join("nowhere"), &good.key, &["tls.certificate", "nowhere"]);
    check(&good.certificate, &empty, &["tls.key", "empty.pem"]);
    check(&good.certificate, &other.key, &["tls.key", "other.key"]);
}

//! TLS and SASL against a real broker: `deploy/kafka-local.sh start DIR secure` makes the folder DIR/secure
//! that `RECOMMENDER_KAFKA_SECURE` names. `.ci/run` does both, where OpenSSL's headers are there.

use super::world::{clock, consume, events, expected, histories, log_config, messages, open};
use crate::support::say_skipped;
use pipeline::stream::{KafkaConfig, Mechanism, Protocol, SecurityConfig, StreamConfig, event_sink};
use std::path::{Path, PathBuf};

/// Where clients find what they need, or none with a word on stderr.
fn folder() -> Option<PathBuf> {
    let found = std::env::var("RECOMMENDER_KAFKA_SECURE").ok().filter(|folder| !folder.is_empty());
    if found.is_none() {
        say_skipped(
            "RECOMMENDER_KAFKA_SECURE names no folder (deploy/kafka-local.sh start DIR secure makes DIR/secure)",
        );
    }
    found.map(PathBuf::from)
}

/// A stream of a topic of its own through one of the broker's listeners.
fn secured(dir: &Path, folder: &Path, protocol: Protocol, mechanism: Option<Mechanism>) -> StreamConfig {
    let listener = match protocol {
        Protocol::Ssl => "ssl",
        Protocol::SaslPlaintext => "sasl_plaintext",
        Protocol::SaslSsl => "sasl_ssl",
    };
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let topic = format!("secure-{nanos}");
    let security = SecurityConfig {
        protocol,
        ca_file: (protocol != Protocol::SaslPlaintext).then(|| folder.join("ca.pem")),
        certificate_file: None,
        key_file: None,
        mechanism,
        username: mechanism.map(|_| "recommender".to_owned()),
        password_file: mechanism.map(|_| folder.join("password")),
    };
    let kafka = KafkaConfig {
        brokers: std::fs::read_to_string(folder.join(listener)).unwrap().trim().to_owned(),
        group: topic.clone(),
        source: format!("kafka:{topic}"),
        topic,
        queue_kib: 4096,
        session_timeout_ms: 6000,
        security: Some(security),
        properties: Default::default(),
    };
    StreamConfig { kafka: Some(kafka), log: None, ..log_config(dir) }
}

fn carries(protocol: Protocol, mechanism: Option<Mechanism>, change: impl Fn(&mut SecurityConfig, &Path)) {
    let Some(folder) = folder() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut config = secured(dir.path(), &folder, protocol, mechanism);
    change(config.kafka.as_mut().unwrap().security.as_mut().unwrap(), &folder);
    let events = events(100, 10);
    event_sink(&config, &clock()).unwrap().put(&messages(&events)).unwrap();
    let store = open(&config);
    consume(&config, &store).unwrap();
    assert_eq!(histories(&store), expected(&events, 50), "{protocol:?} {mechanism:?}");
}

/// One sentence that says who was not let in, why, and what to correct; never the password.
fn refuses(protocol: Protocol, mechanism: Option<Mechanism>, change: impl Fn(&mut SecurityConfig, &Path), part: &str) {
    let Some(folder) = folder() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut config = secured(dir.path(), &folder, protocol, mechanism);
    change(config.kafka.as_mut().unwrap().security.as_mut().unwrap(), dir.path());
    let reason = consume(&config, &open(&config)).unwrap_err().to_string();
    for part in ["kafka.security", "correct", part] {
        assert!(reason.contains(part), "{protocol:?} {mechanism:?}: {reason:?} lacks {part:?}");
    }
    assert!(!reason.contains("wrong-password"), "{reason}");
}

fn wrong_password(security: &mut SecurityConfig, dir: &Path) {
    let file = dir.join("password");
    std::fs::write(&file, "wrong-password\n").unwrap();
    security.password_file = Some(file);
}

fn as_it_is(_: &mut SecurityConfig, _: &Path) {}

#[test]
fn sasl_plain_without_tls() {
    carries(Protocol::SaslPlaintext, Some(Mechanism::Plain), as_it_is);
    refuses(Protocol::SaslPlaintext, Some(Mechanism::Plain), wrong_password, "uthenticat");
}

#[cfg(feature = "kafka-tls")]
mod tls {
    use super::{Mechanism, Protocol, as_it_is, carries, refuses, wrong_password};

    #[test]
    fn tls_and_a_certificate_of_the_clients() {
        carries(Protocol::Ssl, None, as_it_is);
        carries(Protocol::Ssl, None, |security, folder| {
            security.certificate_file = Some(folder.join("client.pem"));
            security.key_file = Some(folder.join("client.key"));
        });
        // The system's authorities have not heard of this one.
        refuses(Protocol::Ssl, None, |security, _| security.ca_file = None, "ssl");
    }

    #[test]
    fn scram_without_tls() {
        for mechanism in [Mechanism::ScramSha256, Mechanism::ScramSha512] {
            carries(Protocol::SaslPlaintext, Some(mechanism), as_it_is);
            refuses(Protocol::SaslPlaintext, Some(mechanism), wrong_password, "uthenticat");
        }
    }

    #[test]
    fn every_mechanism_inside_tls() {
        for mechanism in [Mechanism::Plain, Mechanism::ScramSha256, Mechanism::ScramSha512] {
            carries(Protocol::SaslSsl, Some(mechanism), as_it_is);
        }
        refuses(Protocol::SaslSsl, Some(Mechanism::ScramSha512), wrong_password, "uthenticat");
    }
}

#[cfg(not(feature = "kafka-tls"))]
#[test]
fn a_program_without_tls_says_how_to_build_one_with_it() {
    say_skipped("this is built without the feature kafka-tls (TLS and SCRAM over a real broker)");
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("ssl"), "127.0.0.1:9").unwrap();
    let config = secured(dir.path(), dir.path(), Protocol::Ssl, None);
    let reason = event_sink(&config, &clock()).err().expect("no TLS here").to_string();
    assert!(reason.contains("kafka.security") && reason.contains("--features kafka-tls"), "{reason}");
}

//! TLS and SASL of a Kafka cluster, from the configuration to librdkafka's properties. A password stands
//! in a file of its own, never in the configuration.

use super::StreamError;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Longest password, in bytes.
const MAX_PASSWORD_BYTES: usize = 1024;

/// How to talk to a cluster that does not let everybody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecurityConfig {
    /// Whether the connection is encrypted, and whether the client says who it is.
    pub protocol: Protocol,
    /// PEM file of the authorities that may vouch for the broker; absent: the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,
    /// PEM file of the client's certificate, for brokers that ask for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_file: Option<PathBuf>,
    /// PEM file of its key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_file: Option<PathBuf>,
    /// How the client proves who it is. The two `sasl_` protocols need it and the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mechanism: Option<Mechanism>,
    /// Who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// File that holds the password and nothing else; a line end after it does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
}

/// Kafka's security protocols beyond plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Protocol {
    /// TLS.
    Ssl,
    /// SASL without encryption: for networks that nobody else reads.
    SaslPlaintext,
    /// SASL inside TLS.
    SaslSsl,
}

/// SASL mechanisms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mechanism {
    /// The password itself is sent.
    #[serde(rename = "PLAIN")]
    Plain,
    /// A proof of knowing the password is sent.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// The same with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Protocol {
    fn name(self) -> &'static str {
        match self {
            Protocol::Ssl => "SSL",
            Protocol::SaslPlaintext => "SASL_PLAINTEXT",
            Protocol::SaslSsl => "SASL_SSL",
        }
    }

    fn encrypted(self) -> bool {
        self != Protocol::SaslPlaintext
    }

    fn sasl(self) -> bool {
        self != Protocol::Ssl
    }
}

impl Mechanism {
    fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::ScramSha256 => "SCRAM-SHA-256",
            Mechanism::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl SecurityConfig {
    /// Checks that what belongs together is there, and that this program was built for it.
    pub(super) fn validate(&self) -> Result<(), StreamError> {
        let refuse = |reason: &str| Err(StreamError::config("kafka.security", reason));
        let needs_tls = self.protocol.encrypted() || self.mechanism.is_some_and(|it| it != Mechanism::Plain);
        if needs_tls && !cfg!(feature = "kafka-tls") {
            return refuse(
                "asks for TLS or SCRAM, which this program was built without; build it with --features kafka-tls \
                 (needs OpenSSL's headers)",
            );
        }
        let sasl = [self.mechanism.is_some(), self.username.is_some(), self.password_file.is_some()];
        if self.protocol.sasl() && sasl.contains(&false) {
            return refuse("needs mechanism, username and password_file for a sasl_ protocol; give all three");
        }
        if !self.protocol.sasl() && sasl.contains(&true) {
            return refuse(
                "gives a mechanism, username or password_file, which protocol ssl does not use; leave it out",
            );
        }
        let files = [&self.ca_file, &self.certificate_file, &self.key_file];
        if !self.protocol.encrypted() && files.iter().any(|file| file.is_some()) {
            return refuse("names certificates or keys, which protocol sasl_plaintext does not use; leave them out");
        }
        if self.certificate_file.is_some() != self.key_file.is_some() {
            return refuse("gives one of certificate_file and key_file; give both or none");
        }
        Ok(())
    }

    pub(super) fn resolve_paths(&mut self, base: &Path) {
        let files = [&mut self.ca_file, &mut self.certificate_file, &mut self.key_file, &mut self.password_file];
        for file in files.into_iter().flatten() {
            *file = base.join(&*file);
        }
    }

    /// As librdkafka calls it.
    ///
    /// # Errors
    /// The password's file cannot be read or holds no password.
    pub(super) fn properties(&self) -> Result<Vec<(&'static str, String)>, StreamError> {
        let mut properties = vec![("security.protocol", self.protocol.name().to_owned())];
        let files = [
            ("ssl.ca.location", &self.ca_file),
            ("ssl.certificate.location", &self.certificate_file),
            ("ssl.key.location", &self.key_file),
        ];
        for (name, file) in files {
            if let Some(file) = file {
                // librdkafka says that a file is wrong, and not always which one.
                std::fs::File::open(file).map_err(StreamError::io(file))?;
                properties.push((name, file.display().to_string()));
            }
        }
        if let Some(mechanism) = self.mechanism {
            properties.push(("sasl.mechanism", mechanism.name().to_owned()));
        }
        if let Some(username) = &self.username {
            properties.push(("sasl.username", username.clone()));
        }
        if let Some(file) = &self.password_file {
            properties.push(("sasl.password", password(file)?));
        }
        Ok(properties)
    }
}

fn password(file: &Path) -> Result<String, StreamError> {
    let text = std::fs::read_to_string(file).map_err(StreamError::io(file))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.len() > MAX_PASSWORD_BYTES {
        let reason = format!("{} holds {} bytes; give 1 to {MAX_PASSWORD_BYTES}", file.display(), password.len());
        return Err(StreamError::config("kafka.security.password_file", reason));
    }
    Ok(password.to_owned())
}

#[cfg(test)]
mod tests {
    use super::{Mechanism, Protocol, SecurityConfig};

    fn sasl(protocol: Protocol) -> SecurityConfig {
        SecurityConfig {
            protocol,
            ca_file: None,
            certificate_file: None,
            key_file: None,
            mechanism: Some(Mechanism::Plain),
            username: Some("ada".into()),
            password_file: Some("password".into()),
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let check = |change: &dyn Fn(&mut SecurityConfig), part: &str| {
            let mut config = sasl(Protocol::SaslPlaintext);
            change(&mut config);
            let reason = config.validate().unwrap_err().to_string();
            assert!(reason.contains("kafka.security") && reason.contains(part), "{reason:?} lacks {part:?}");
        };
        sasl(Protocol::SaslPlaintext).validate().unwrap();
        check(&|config| config.username = None, "all three");
        check(&|config| config.ca_file = Some("ca".into()), "sasl_plaintext does not use");
        if cfg!(feature = "kafka-tls") {
            check(&|config| config.protocol = Protocol::Ssl, "protocol ssl does not use");
            check(
                &|config| (config.protocol, config.key_file) = (Protocol::SaslSsl, Some("key".into())),
                "both or none",
            );
        } else {
            check(&|config| config.protocol = Protocol::SaslSsl, "--features kafka-tls");
            check(&|config| config.mechanism = Some(Mechanism::ScramSha256), "--features kafka-tls");
        }
    }

    #[test]
    fn the_password_comes_from_its_file_without_the_line_end_and_is_not_shown() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = sasl(Protocol::SaslPlaintext);
        config.resolve_paths(dir.path());
        let missing = config.properties().unwrap_err().to_string();
        assert!(missing.contains("password"), "{missing}");
        std::fs::write(dir.path().join("password"), "s3 cret\n").unwrap();
        assert!(config.properties().unwrap().contains(&("sasl.password", "s3 cret".to_owned())));
        assert!(!format!("{config:?}").contains("cret"));
        std::fs::write(dir.path().join("password"), "\n").unwrap();
        let empty = config.properties().unwrap_err().to_string();
        assert!(empty.contains("password_file") && empty.contains("0 bytes"), "{empty}");
    }
}

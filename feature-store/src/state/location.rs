//! Where a store is: a folder, or a Redis or Valkey server, told apart by the scheme of a URL.
//!
//! ```text
//! state/users
//! redis://[USER[:PASSWORD]@]HOST[:PORT][/DB][?name=NAME][&password_file=FILE]     rediss: TLS
//! ```
//! Several stores share a server by their names. TLS trusts the system's certificates, or those in the file that
//! `SSL_CERT_FILE` names.

use crate::StoreError;
use redis::{ConnectionInfo, IntoConnectionInfo as _};
use serde::{Deserialize, Deserializer, de};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Schemes of a server's URL.
const SCHEMES: [&str; 4] = ["redis", "rediss", "valkey", "valkeys"];
/// The store of a URL that names none.
const DEFAULT_NAME: &str = "default";
/// Most characters of a store's name.
const MAX_NAME: usize = 64;

/// Where user state is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateLocation {
    /// A folder, for one process at a time.
    Folder(PathBuf),
    /// A server, for any number.
    Server(StateServer),
}

/// A Redis or Valkey server and the store's name there.
#[derive(Clone, PartialEq, Eq)]
pub struct StateServer {
    /// Without the part from the question mark on.
    url: String,
    name: String,
    password_file: Option<PathBuf>,
}

impl StateLocation {
    /// A relative folder or file of a password is one in `base`.
    #[must_use]
    pub fn within(self, base: &Path) -> StateLocation {
        match self {
            StateLocation::Folder(path) => StateLocation::Folder(base.join(path)),
            StateLocation::Server(server) => {
                let password_file = server.password_file.map(|file| base.join(file));
                StateLocation::Server(StateServer { password_file, ..server })
            }
        }
    }
}

impl StateServer {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The URL without its password.
    pub(super) fn shown(&self) -> String {
        let (scheme, rest) = self.url.split_once("://").expect("a server has a scheme");
        let (user, host) = rest.rsplit_once('@').unwrap_or(("", rest));
        let user = user.split_once(':').map_or(user, |(user, _)| user);
        let at = if user.is_empty() { "" } else { "@" };
        format!("{scheme}://{user}{at}{host}?name={}", self.name)
    }

    /// What to connect with. Reads the file of the password.
    pub(super) fn connection_info(&self) -> Result<ConnectionInfo, StoreError> {
        let info =
            self.url.as_str().into_connection_info().map_err(|error| invalid(&self.shown(), &error.to_string()))?;
        let Some(file) = &self.password_file else { return Ok(info) };
        let password = std::fs::read_to_string(file).map_err(StoreError::io(file))?;
        let settings = info.redis_settings().clone().set_password(password.trim_end_matches(['\r', '\n']));
        Ok(info.set_redis_settings(settings))
    }
}

impl FromStr for StateLocation {
    type Err = StoreError;

    fn from_str(text: &str) -> Result<StateLocation, StoreError> {
        match text.split_once("://") {
            None if text.is_empty() => return Err(StoreError::invalid("user state", "no folder or URL is named")),
            None => return Ok(StateLocation::Folder(text.into())),
            Some((scheme, _)) if SCHEMES.contains(&scheme) => (),
            Some((scheme, _)) => {
                let reason = format!("{scheme:?} is no scheme of a server; write {}", SCHEMES.join(", "));
                return Err(StoreError::invalid("user state", reason));
            }
        }
        let (url, query) = text.split_once('?').unwrap_or((text, ""));
        // A password with a question mark in it must not be taken apart and shown.
        if query.contains('@') {
            return Err(StoreError::invalid("user state", "the URL has a '?' before its '@'; write it as %3F"));
        }
        let mut server = StateServer { url: url.to_owned(), name: DEFAULT_NAME.to_owned(), password_file: None };
        for (key, value) in
            query.split('&').filter(|part| !part.is_empty()).map(|part| part.split_once('=').unwrap_or((part, "")))
        {
            match (key, value) {
                (_, "") => return Err(invalid(&server.shown(), &format!("{key} has no value"))),
                ("name", name) => server.name = name.to_owned(),
                ("password_file", file) => server.password_file = Some(file.into()),
                _ => return Err(invalid(&server.shown(), &format!("{key} is neither name nor password_file"))),
            }
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if server.name.len() > MAX_NAME || !server.name.chars().all(plain) {
            let reason = format!("a name has 1 to {MAX_NAME} letters, digits, '-', '_' and '.'");
            return Err(invalid(&server.shown(), &reason));
        }
        url.into_connection_info().map_err(|error| invalid(&server.shown(), &error.to_string()))?;
        Ok(StateLocation::Server(server))
    }
}

fn invalid(shown: &str, reason: &str) -> StoreError {
    StoreError::invalid("user state", format!("{shown}: {reason}"))
}

impl From<PathBuf> for StateLocation {
    fn from(path: PathBuf) -> StateLocation {
        StateLocation::Folder(path)
    }
}

impl<'de> Deserialize<'de> for StateLocation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<StateLocation, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl fmt::Display for StateLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StateLocation::Folder(path) => path.display().fmt(f),
            StateLocation::Server(server) => f.write_str(&server.shown()),
        }
    }
}

impl fmt::Debug for StateServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_is_a_folder_or_a_server_whose_password_is_not_shown() {
        let check = |text: &str, expect: &str| assert_eq!(text.parse::<StateLocation>().unwrap().to_string(), expect);
        check("state/users", "state/users");
        check("redis.d/state", "redis.d/state");
        check("redis://127.0.0.1:6379", "redis://127.0.0.1:6379?name=default");
        check("rediss://shop:s3cr:et@db/2?name=a.b", "rediss://shop@db/2?name=a.b");
        check("valkey://:secret@db?password_file=p&name=x", "valkey://db?name=x");
        let debug = format!("{:?}", "redis://:secret@db".parse::<StateLocation>().unwrap());
        assert!(!debug.contains("secret"), "{debug}");
    }

    #[test]
    fn what_is_wrong_with_a_location_is_said() {
        let check = |text: &str, part: &str| {
            let message = text.parse::<StateLocation>().unwrap_err().to_string();
            assert!(message.contains(part) && !message.contains("secret"), "{message}");
        };
        check("", "no folder or URL");
        check("Redis://:secret@db", "\"Redis\" is no scheme");
        check("redis://:sec?ret@db", "%3F");
        check("redis://:secret@db?name=", "name has no value");
        check("redis://:secret@db?nmae=x", "nmae is neither");
        check("redis://:secret@db?name=a b", "a name has");
        check("redis://db?name=a%20b", "a name has");
        check("redis://:secret@db:port", "redis://db:port");
        check("redis://db/x", "redis://db/x");
        check("redis://db?name={x}", "a name has");
    }

    #[test]
    fn relative_files_are_in_the_folder_that_names_them() {
        let within = |text: &str| text.parse::<StateLocation>().unwrap().within(Path::new("/etc/shop"));
        assert_eq!(within("users"), StateLocation::Folder("/etc/shop/users".into()));
        let StateLocation::Server(server) = within("redis://db?password_file=secret") else { panic!("a server") };
        assert_eq!(server.password_file.as_deref(), Some(Path::new("/etc/shop/secret")));
    }
}

//! A real Redis (or Valkey) server for a test: on loopback, in a folder of its own, and, unless it is started bare,
//! with an append-only file that is synced at every write. It ends with its value.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Longest wait for a server to answer.
const START: Duration = Duration::from_secs(20);
/// Settings under which it loses nothing that it acknowledged.
const SAFE: [&str; 6] = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""];

pub(crate) struct RedisServer {
    child: Child,
    port: u16,
    dir: tempfile::TempDir,
    settings: Vec<String>,
}

impl RedisServer {
    /// Starts one with the safe settings, and `settings` over them; none, and a word about it, where the program is not
    /// installed. `RECOMMENDER_REDIS_SERVER` names another program than `redis-server`.
    pub(crate) fn start(settings: &[&str]) -> Option<RedisServer> {
        RedisServer::start_bare(&[&SAFE, settings].concat())
    }

    /// As [`RedisServer::start`], with nothing but `settings` over the program's own defaults.
    pub(crate) fn start_bare(settings: &[&str]) -> Option<RedisServer> {
        let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
        // Another process may take the port before the server does: then it ends, and another port is tried.
        for _ in 0..5 {
            let dir = tempfile::tempdir().unwrap();
            let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let Some(child) = launch(dir.path(), port, &settings) else {
                // Past the harness, which swallows what passing tests print.
                let why = b"skipped: on Redis: no redis-server; install it, or name one in RECOMMENDER_REDIS_SERVER\n";
                let _ = std::io::stderr().write_all(why);
                return None;
            };
            let mut server = RedisServer { child, port, dir, settings: settings.clone() };
            if server.wait() {
                return Some(server);
            }
        }
        panic!("redis-server did not start, five times");
    }

    /// `127.0.0.1:PORT`.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// URL of a store.
    pub(crate) fn url(&self, name: &str) -> String {
        format!("redis://{}?name={name}", self.address())
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Removes what it kept; it must not run.
    #[allow(dead_code, reason = "not every crate that shares this file loses data")]
    pub(crate) fn forget(&mut self) {
        std::fs::remove_dir_all(self.dir.path().join("appendonlydir")).unwrap();
    }

    /// Starts it again on the same port with what it kept.
    pub(crate) fn restart(&mut self) {
        self.child = launch(self.dir.path(), self.port, &self.settings).expect("it was there before");
        assert!(self.wait(), "redis-server did not start again");
    }

    /// Whether it is past loading what it kept; one with a password asks for it.
    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut answer = [0; 5];
        let told = stream.write_all(b"PING\r\n").and_then(|()| stream.read_exact(&mut answer));
        told.is_ok() && matches!(&answer, b"+PONG" | b"-NOAU")
    }

    /// Whether it answers before it ends.
    fn wait(&mut self) -> bool {
        let until = Instant::now() + START;
        while Instant::now() < until {
            if self.answers() && self.child.try_wait().unwrap().is_none() {
                return true;
            }
            if self.child.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

fn launch(dir: &Path, port: u16, settings: &[String]) -> Option<Child> {
    let program = std::env::var("RECOMMENDER_REDIS_SERVER").unwrap_or_else(|_| "redis-server".to_owned());
    let port = port.to_string();
    let ours = ["--bind", "127.0.0.1", "--port", &port];
    let logged = std::fs::File::create(dir.join("log")).unwrap();
    let mut command = Command::new(program);
    command.args(ours).arg("--dir").arg(dir).args(settings).stdout(logged).stderr(Stdio::null()).stdin(Stdio::null());
    match command.spawn() {
        Ok(child) => Some(child),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => panic!("redis-server: {error}"),
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

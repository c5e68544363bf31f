//! Running the binary: to its end, or as a service that is stopped when the test ends.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What a finished run left.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The command, with no setting of the environment that tests run in.
pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_recommender"));
    command.stdin(Stdio::null());
    let ours = ["BIND", "BUNDLE", "STATE", "LOG", "LOG_FORMAT"].map(|name| format!("RECOMMENDER_{name}"));
    let others =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok().filter(|it| it.starts_with("OTEL_")));
    for variable in ours.into_iter().chain(others) {
        command.env_remove(variable);
    }
    command
}

/// Runs the program to its end.
pub(crate) fn run<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> Finished {
    finish(command().args(args).output().expect("the program starts"))
}

/// Runs the program and insists on success; returns stdout.
pub(crate) fn succeed<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>) -> String {
    let done = run(args);
    assert_eq!(done.code, Some(0), "stdout: {}\nstderr: {}", done.stdout, done.stderr);
    done.stdout
}

/// Runs the program and insists on one sentence of bad input that holds every part.
pub(crate) fn refuse<A: AsRef<OsStr>>(args: impl IntoIterator<Item = A>, parts: &[&str]) {
    let done = run(args);
    assert_eq!(done.code, Some(2), "stdout: {}\nstderr: {}", done.stdout, done.stderr);
    let said: Vec<&str> = done.stderr.lines().filter(|line| line.starts_with("recommender: ")).collect();
    assert_eq!(said.len(), 1, "one sentence expected: {}", done.stderr);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    for part in parts {
        assert!(said[0].contains(part), "{:?} lacks {part:?}", said[0]);
    }
}

/// Insists that clap refuses the arguments and names the one that is wrong.
pub(crate) fn refuse_usage(args: &[&str], part: &str) {
    let done = run(args);
    assert_eq!((done.code, done.stdout.as_str()), (Some(2), ""), "{args:?}: {}", done.stderr);
    assert!(done.stderr.contains(part), "{:?} lacks {part:?}", done.stderr);
}

pub(crate) fn finish(output: Output) -> Finished {
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A running program whose stdout is read line by line. Dropped, it is killed.
pub(crate) struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
    stderr: Option<std::thread::JoinHandle<String>>,
}

impl Running {
    /// Starts the program.
    pub(crate) fn start(command: &mut Command) -> Running {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let stdout = child.stdout.take().expect("stdout is piped");
        let mut stderr = child.stderr.take().expect("stderr is piped");
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let stderr = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        Running { child, lines, stderr: Some(stderr) }
    }

    /// Every line up to and with the first one that `wanted` accepts.
    pub(crate) fn lines_until(&mut self, limit: Duration, wanted: impl Fn(&str) -> bool) -> Vec<String> {
        let end = Instant::now() + limit;
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    let found = wanted(&line);
                    seen.push(line);
                    if found {
                        return seen;
                    }
                }
                Err(_) => {
                    let _ = self.child.kill();
                    let stderr = self.stderr.take().map(|reader| reader.join().unwrap_or_default());
                    panic!("the line did not come; stdout: {seen:#?}\nstderr: {}", stderr.unwrap_or_default());
                }
            }
        }
    }

    /// The address in a line such as "listening on http://127.0.0.1:40001".
    pub(crate) fn base_url(&mut self, limit: Duration) -> String {
        let lines = self.lines_until(limit, |line| line.contains("http://127.0.0.1:"));
        let line = lines.last().expect("lines_until returns at least the line it waited for");
        let start = line.find("http://").expect("the line holds an address");
        let url = line[start..].split_whitespace().next().unwrap_or_default();
        url.trim_end_matches(['/', '.', ',', ';']).to_owned()
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal by name, such as INT.
    pub(crate) fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.child.id().to_string()).status();
        assert!(sent.is_ok_and(|status| status.success()), "kill -{name} failed");
    }

    /// Waits for the end.
    pub(crate) fn wait(mut self, limit: Duration) -> Finished {
        let end = Instant::now() + limit;
        let status = loop {
            match self.child.try_wait().expect("the program can be waited for") {
                Some(status) => break status,
                None if Instant::now() > end => {
                    let _ = self.child.kill();
                    panic!("the program did not end within {limit:?}");
                }
                None => std::thread::sleep(Duration::from_millis(20)),
            }
        };
        let stderr = self.stderr.take().expect("wait is called once").join().expect("the reader does not panic");
        Finished { code: status.code(), stdout: self.lines.iter().collect::<Vec<_>>().join("\n"), stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A path as an argument.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("test paths are UTF-8")
}

/// Says why a test does nothing, past the harness, which swallows what passing tests print.
pub(crate) fn say_skipped(why: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {why}\n").as_bytes());
}

//! The page at `/ui` in a real browser, headless Chromium: what its script makes of the service's answers.

use crate::fixture::Server;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::process::Command;
use std::sync::{Arc, Mutex};

const SQUARE: &str = "<svg xmlns='http://www.w3.org/2000/svg' width='9' height='9'><rect width='9' height='9'/></svg>";

/// The page as the browser has it a moment after it is loaded; none where there is no Chromium.
fn rendered(url: &str) -> Option<String> {
    let profile = tempfile::tempdir().unwrap();
    let program = std::env::var("RECOMMENDER_CHROMIUM").unwrap_or_else(|_| "chromium".to_owned());
    let done = Command::new(program)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--virtual-time-budget=5000"])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .args(["--dump-dom", url])
        .output();
    match done {
        Ok(done) if done.status.success() => Some(String::from_utf8(done.stdout).unwrap()),
        Ok(done) => panic!("chromium: {}", String::from_utf8_lossy(&done.stderr)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("skipped: there is no chromium; install it, or name it in RECOMMENDER_CHROMIUM");
            None
        }
        Err(error) => panic!("chromium: {error}"),
    }
}

/// Serves pictures of every item but `i4`; notes what was asked for.
fn pictures() -> (u16, Arc<Mutex<BTreeSet<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let asked = Arc::new(Mutex::new(BTreeSet::new()));
    let noted = Arc::clone(&asked);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut stream = BufReader::new(stream);
            let mut first = String::new();
            let mut line = String::new();
            // A browser may open a connection and send nothing.
            if stream.read_line(&mut first).unwrap_or(0) == 0 {
                continue;
            }
            while stream.read_line(&mut line).is_ok_and(|read| read > 2) {
                line.clear();
            }
            let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
            noted.lock().unwrap().insert(path.clone());
            // A picture that comes with a 404 would be shown.
            let (status, kind, body) = match path.as_str() {
                "/i4.svg" => ("404 Not Found", "text/plain", "none"),
                _ => ("200 OK", "image/svg+xml", SQUARE),
            };
            let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\nconnection: close\r\n");
            let _ = write!(stream.get_mut(), "{head}content-length: {}\r\n\r\n{body}", body.len());
        }
    });
    (port, asked)
}

#[test]
fn a_browser_shows_two_lists_with_pictures_where_there_are_some() {
    let (port, asked) = pictures();
    let server = Server::with(|config| config.ui.picture_url = format!("http://127.0.0.1:{port}/{{item}}.svg"));
    let Some(page) = rendered(&format!("http://{}/ui#i1,i2", server.client.address)) else { return };
    let lists: Vec<&str> = page.split("<ol>").skip(1).map(|rest| rest.split("</ol>").next().unwrap()).collect();
    assert_eq!(lists.len(), 2, "{page}");
    for list in lists {
        let (images, tiles) =
            (list.matches("<img class=\"tile\"").count(), list.matches("<span class=\"tile\"").count());
        assert_eq!(images + tiles, 10, "{list}");
        assert_eq!(tiles, usize::from(list.contains(">Item 4<")), "{list}");
    }
    assert!(page.contains("items are in both lists."), "{page}");
    assert!(page.contains("aria-label=\"recall@10: dim "), "{page}");
    assert!(asked.lock().unwrap().len() >= 10, "{asked:?}");
}

//! `demo`: one command from raw files to a service, and printed requests that work as they stand.

use crate::data::Data;
use crate::program::{Finished, Running, command, refuse, text};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// Runs a demo until it has printed its last request; gives every line of stdout.
fn start(args: &[&str]) -> (Running, Vec<String>) {
    let mut running = Running::start(command().arg("demo").args(args).args(["--port", "0"]));
    let lines = running.lines_until(LIMIT, |line| line.starts_with("curl ") && line.ends_with("/readyz"));
    (running, lines)
}

fn stop(running: Running) -> Finished {
    running.signal("INT");
    let done = running.wait(LIMIT);
    assert_eq!(done.code, Some(0), "{}", done.stderr);
    assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
    done
}

/// Runs every printed request as a person would paste it; gives the answers.
fn paste(lines: &[String]) -> Vec<String> {
    let requests: Vec<&String> = lines.iter().filter(|line| line.starts_with("curl ")).collect();
    assert!(requests.len() >= 6, "{requests:#?}");
    if Command::new("curl").arg("--version").output().is_err() {
        crate::program::say_skipped("curl is absent, so the printed requests were not run");
        return Vec::new();
    }
    let run = |request: &String| {
        // --fail turns an HTTP error into an exit code; the rest is what was printed.
        let done = Command::new("sh")
            .args(["-c", &request.replacen("curl -s", "curl -s --fail-with-body", 1)])
            .output()
            .unwrap();
        let answer = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{request}\n{answer}");
        answer
    };
    requests.into_iter().map(run).collect()
}

#[test]
fn the_printed_requests_work_and_a_second_demo_starts_afresh() {
    let data = Data::new();
    let out = data.path("demo");
    let config = data.train_config();
    let args = ["--sample", text(data.root()), "--config", text(&config), "--output", text(&out)];
    let (running, lines) = start(&args);
    let all = lines.join("\n");
    for part in [
        "Recall@10",
        "NDCG@10",
        "MRR@10",
        "popularity",
        "dim 4",
        "dim 8",
        "title of i1",
        "[build: ",
        "[train and evaluate: ",
        "[compare dims: ",
        "ready after",
    ] {
        assert!(all.contains(part), "stdout lacks {part}: {all}");
    }
    let answers = paste(&lines);
    // The third request asks for a user without events, the last but two for the same one after them.
    if let Some(at) = answers.len().checked_sub(3) {
        let items = |answer: &str| serde_json::from_str::<serde_json::Value>(answer).unwrap()["items"].clone();
        assert!(items(&answers[2]).is_array());
        assert_ne!(items(&answers[at]), items(&answers[2]), "the events did not change the user's answer");
    }
    // A demo in the same folder would pull the state away under the one that is served.
    refuse(["demo"].into_iter().chain(args).chain(["--port", "0"]), &["demo-state", "open in another process"]);
    assert_eq!(paste(&lines).len(), answers.len(), "the first one is served as before");
    let done = stop(running);
    assert!(!done.stderr.contains('\u{1b}'), "a bar was drawn where stderr is no terminal: {}", done.stderr);

    // What a crash may leave: a truncated Bundle, a stale checkpoint. Neither is reused.
    fs::write(out.join("bundle/weights.safetensors"), "half").unwrap();
    fs::write(out.join("bundle.checkpoint.safetensors"), "half").unwrap();
    let (running, again) = start(&args);
    let table = |lines: &[String]| lines.iter().filter(|line| line.starts_with("dim ")).cloned().collect::<Vec<_>>();
    assert_eq!(table(&again), table(&lines));
    stop(running);

    // The config it wrote serves the same Bundle on its own.
    let mut running =
        Running::start(command().args(["serve", "--bind", "127.0.0.1:0", "--config", text(&out.join("serve.toml"))]));
    running.base_url(LIMIT);
    stop(running);
}

#[test]
fn an_interrupted_demo_goes_on_where_it_stopped() {
    const EPOCHS: usize = 60;
    let data = Data::new();
    let (config, out) = (data.train_config_with_epochs(EPOCHS), data.path("demo"));
    let args = ["--sample", text(data.root()), "--config", text(&config), "--output", text(&out)];
    let running = Running::start(command().arg("demo").args(args).args(["--port", "0"]));
    let end = std::time::Instant::now() + LIMIT;
    while !out.join("bundle.checkpoint.safetensors").exists() {
        assert!(std::time::Instant::now() < end, "no checkpoint after {LIMIT:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
    running.signal("INT");
    let first = running.wait(LIMIT);
    assert_eq!(first.code, Some(130), "{}", first.stderr);
    assert!(first.stderr.contains("run demo again to go on"), "{}", first.stderr);
    let (running, _) = start(&args);
    let second = stop(running);
    let epochs = |done: &Finished| done.stderr.lines().filter(|line| line.starts_with("epoch ")).count();
    assert!(epochs(&second) > 0, "{}", second.stderr);
    assert_eq!(epochs(&first) + epochs(&second), EPOCHS, "an epoch was trained twice");
}

#[test]
fn a_folder_that_no_demo_made_is_refused_and_stays() {
    let data = Data::new();
    let (config, shop) = (data.train_config(), data.path("shop"));
    fs::create_dir(&shop).unwrap();
    fs::write(shop.join("serve.toml"), "# mine\n").unwrap();
    let args =
        ["demo", "--sample", text(data.root()), "--config", text(&config), "--output", text(&shop), "--port", "0"];
    refuse(args, &["--output", "shop", "no demo.txt", "name an empty folder"]);
    assert_eq!(fs::read_dir(&shop).unwrap().count(), 1);
}

#[test]
fn a_busy_port_is_refused_before_anything_is_built() {
    let data = Data::new();
    let out = data.path("demo");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    refuse(
        [
            "demo",
            "--sample",
            text(data.root()),
            "--config",
            text(&data.train_config()),
            "--output",
            text(&out),
            "--port",
            &port,
        ],
        &[&port, "in use", "--port"],
    );
    assert!(!out.exists(), "it built before it looked at the port");
}

#[test]
fn the_committed_sample_builds_trains_and_serves() {
    let data = Data::new();
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    // The committed config with one short epoch: everything but the quality.
    let mut config: toml::Table =
        fs::read_to_string(top.join("recommender/fmrlrec/configs/demo.toml")).unwrap().parse().unwrap();
    config["epochs"] = 1.into();
    config["model"]["nesting_dims"] = vec![8, 16].into();
    config["dropout"] = vec![0.0, 0.1].into();
    config["objective"]["dim_weights"] = vec![1.0, 1.0].into();
    let short = data.path("short.toml");
    fs::write(&short, config.to_string()).unwrap();
    let (running, lines) = start(&["--config", text(&short), "--output", text(&data.path("demo"))]);
    let all = lines.join("\n");
    for part in ["610 users, 3,650 items, 90,274 interactions", "dim 8", "dim 16", "item-to-item", "Matrix, The (1999)"]
    {
        assert!(all.contains(part), "stdout lacks {part}: {all}");
    }
    paste(&lines);
    stop(running);
}

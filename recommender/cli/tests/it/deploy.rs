//! The container files name a program, flags, ports and paths that exist. They are read as text, so
//! the test needs no Docker.

use crate::program::succeed;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// A Dockerfile's instructions, continuation lines joined, comments left out.
fn instructions(dockerfile: &str) -> Vec<String> {
    let lines: Vec<&str> = dockerfile.lines().filter(|line| !line.trim_start().starts_with('#')).collect();
    lines
        .join("\n")
        .replace("\\\n", " ")
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect()
}

/// The words of a JSON list at the end of a line.
fn json_list(line: &str) -> Vec<String> {
    let start = line.find('[').unwrap_or_else(|| panic!("no list in {line:?}"));
    serde_json::from_str(&line[start..]).unwrap_or_else(|error| panic!("{line:?}: {error}"))
}

#[test]
fn the_image_copies_files_that_exist_and_runs_this_binary_as_nobody_special() {
    let all = instructions(&read("deploy/Dockerfile"));
    let mut placed = Vec::new();
    for copy in all.iter().filter(|line| line.starts_with("COPY ")) {
        let words: Vec<&str> = copy.split_whitespace().skip(1).collect();
        let (source, target) = (words[words.len() - 2], words[words.len() - 1]);
        if copy.contains("--from=build") {
            // The package's binary, as cargo names it.
            assert_eq!(source, "/source/target/release/recommender");
            assert_eq!(target, "/usr/local/bin/recommender");
        } else {
            assert!(root().join(source).exists(), "{copy}: {source} does not exist");
        }
        placed.push(target.to_owned());
    }
    let build = all.iter().find(|line| line.contains("cargo build")).expect("the image is compiled");
    assert!(build.contains("--release") && build.contains("--package recommender"), "{build}");
    let toolchain = format!("FROM rust:{}-bookworm AS build", env!("CARGO_PKG_RUST_VERSION"));
    assert!(all.contains(&toolchain), "the first stage is not {toolchain}");

    let user = all.iter().rposition(|line| line.starts_with("USER ")).expect("a user is set");
    let entry = all.iter().position(|line| line.starts_with("ENTRYPOINT ")).expect("there is an entry point");
    assert!(user < entry && !all[user].contains("root"), "it runs as root");
    assert_eq!(json_list(&all[entry]), ["recommender"]);

    let command = all.iter().rfind(|line| line.starts_with("CMD ")).expect("there is a command");
    check_serve(&json_list(command), &placed);
    assert!(all.contains(&"EXPOSE 8080".to_owned()) && all.contains(&"VOLUME [\"/data\"]".to_owned()));
}

/// `serve` with flags that its help knows and a config that the image holds.
fn check_serve(words: &[String], placed: &[String]) {
    let [verb, flag, config] = words else { panic!("{words:?}") };
    let help = succeed([verb.as_str(), "--help"]);
    assert_eq!(verb, "serve");
    assert!(help.contains(flag.as_str()), "serve has no {flag}");
    assert!(placed.contains(config), "{config} is not in the image");
}

#[test]
fn the_config_parses_and_agrees_with_ports_and_volumes() {
    let config: service::ServiceConfig = toml::from_str(&read("deploy/serve.toml")).unwrap();
    // Every tier's dims are ones that the config of deploy/README.md trains.
    let train: fmrlrec::TrainConfig = toml::from_str(&read("recommender/fmrlrec/configs/demo.toml")).unwrap();
    config.validate(&fmrlrec::BundleShape::of_dims(&train.model.nesting_dims)).unwrap();
    assert_eq!(config.bind, "0.0.0.0:8080");
    for path in
        [config.bundle.display().to_string(), config.state.path.to_string(), config.tiers_file.display().to_string()]
    {
        assert!(path.starts_with("/data"), "{path} is not in the volume");
    }
    assert!(config.access.keys.is_empty(), "a key in the image would be everybody's");

    // Docker kills what outlives its grace period: draining and the last requests fit in.
    let grace = format!("stop_grace_period: {}s", config.server.drain_delay_s + config.server.shutdown_timeout_s + 5);
    assert!(read("deploy/compose.yaml").contains(&grace), "compose.yaml lacks {grace}");
}

#[test]
fn every_committed_training_config_is_valid() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fmrlrec/configs");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let config: fmrlrec::TrainConfig = toml::from_str(&std::fs::read_to_string(&path).unwrap())
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        config.validate().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        seen += 1;
    }
    assert!(seen >= 5, "only {seen} configs");
}

#[test]
fn a_training_config_states_every_value() {
    let whole = read("recommender/fmrlrec/configs/demo.toml");
    let keys: Vec<&str> = whole.lines().filter_map(|line| Some(line.split_once(" = ")?.0)).collect();
    assert!(keys.len() > 20, "{keys:?}");
    for key in keys {
        let start = format!("{key} = ");
        let less: Vec<&str> = whole.lines().filter(|line| !line.starts_with(&start)).collect();
        let error = toml::from_str::<fmrlrec::TrainConfig>(&less.join("\n")).unwrap_err().to_string();
        assert!(error.contains(&format!("missing field `{key}`")), "{error}");
    }
}

#[test]
fn compose_agrees_with_the_image() {
    let compose = read("deploy/compose.yaml");
    let value = |key: &str| {
        let line = compose.lines().find(|line| line.trim_start().starts_with(&format!("{key}:")));
        line.unwrap_or_else(|| panic!("no {key}")).split_once(": ").map_or("", |(_, value)| value).to_owned()
    };
    let context = root().join("deploy").join(value("context"));
    assert!(context.join(value("dockerfile")).is_file());
    check_serve(&json_list(&value("command")), &["/etc/recommender/serve.toml".to_owned()]);
    for mounted in ["- data:/data", "- ./serve.toml:/etc/recommender/serve.toml:ro", "\"127.0.0.1:8080:8080\""] {
        assert!(compose.contains(mounted), "compose.yaml lacks {mounted}");
    }
    // Nothing in it asks for a variable that the program does not read.
    let manual = succeed(["--help"]);
    for word in
        compose.split(|c: char| !c.is_ascii_uppercase() && c != '_').filter(|word| word.starts_with("RECOMMENDER_"))
    {
        assert!(manual.contains(word), "the manual does not know {word}");
    }
}

#[test]
fn the_kafka_overlay_agrees_with_the_stream_config_and_the_flags() {
    let overlay = read("deploy/compose.kafka.yaml");
    let command = overlay.lines().find(|line| line.trim_start().starts_with("command:")).expect("a command");
    let words = json_list(command);
    let [verb, config_flag, _, stream_flag, stream] = &words[..] else { panic!("{words:?}") };
    let help = succeed([verb.as_str(), "--help"]);
    assert!(help.contains(config_flag.as_str()) && help.contains(stream_flag.as_str()), "{words:?}");
    assert!(overlay.contains(&format!("- ./stream.toml:{stream}:ro")), "the stream's config is not mounted");

    let config: pipeline::stream::StreamConfig = toml::from_str(&read("deploy/stream.toml")).unwrap();
    config.validate().unwrap();
    let service: service::ServiceConfig = toml::from_str(&read("deploy/serve.toml")).unwrap();
    assert_eq!((&config.state.path, config.state.max_history), (&service.state.path, service.state.max_history));
    let brokers = config.kafka.expect("it reads Kafka").brokers;
    assert!(overlay.contains(&format!("KAFKA_ADVERTISED_LISTENERS: PLAINTEXT://{brokers}\n")), "{brokers}");
}

/// The server of the overlay, started as it says, is one of which the store has nothing to say.
#[test]
fn the_redis_overlay_agrees_with_the_flags_and_its_server_is_safe() {
    let overlay = read("deploy/compose.redis.yaml");
    let commands: Vec<Vec<String>> =
        overlay.lines().filter(|line| line.trim_start().starts_with("command:")).map(json_list).collect();
    let [redis, serve] = &commands[..] else { panic!("{commands:?}") };
    check_serve(serve, &["/etc/recommender/serve.toml".to_owned()]);
    let urls: Vec<&str> = overlay.lines().filter_map(|line| line.trim().strip_prefix("RECOMMENDER_STATE: ")).collect();
    assert!(urls.len() == 2 && urls[0] == urls[1], "both have one state: {urls:?}");
    assert!(matches!(urls[0].parse(), Ok(feature_store::StateLocation::Server(_))), "{}", urls[0]);
    let help = succeed(["serve", "--help"]);
    assert!(help.contains("[env: RECOMMENDER_STATE]") && help.contains("[env: RECOMMENDER_TIERS_FILE"), "{help}");
    assert!(overlay.contains("RECOMMENDER_TIERS_FILE: /data/tiers-2.json"), "two services, one volume");
    let settings: Vec<&str> = redis.iter().skip(1).map(String::as_str).collect();
    let Some(server) = crate::redis_server::RedisServer::start_bare(&settings) else { return };
    let store = feature_store::UserStateStore::open_at(&server.url("x").parse().unwrap(), 10).unwrap();
    assert_eq!(store.caution(), None);
}

#[test]
fn both_healthchecks_ask_the_same_and_the_readme_uses_real_verbs() {
    let image = instructions(&read("deploy/Dockerfile"));
    let image = image.iter().find(|line| line.starts_with("HEALTHCHECK ")).expect("a healthcheck");
    let script = json_list(image).pop().unwrap();
    let compose = read("deploy/compose.yaml");
    let test = compose.lines().find(|line| line.trim_start().starts_with("test:")).expect("a healthcheck");
    assert_eq!(json_list(test).pop().unwrap(), script);
    assert!(script.contains("GET /livez") && script.contains("/dev/tcp/127.0.0.1/8080"), "{script}");

    let readme = read("deploy/README.md");
    for line in
        readme.lines().map(str::trim).filter(|line| line.starts_with("build --") || line.starts_with("train --"))
    {
        let words: Vec<&str> = line.split_whitespace().collect();
        let help = succeed([words[0], "--help"]);
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(help.contains(flag), "{} has no {flag}", words[0]);
        }
    }
    assert!(readme.contains("run --rm recommender"));
}

/// Alerts and the dashboard ask for metrics that the service has, by its own text.
#[test]
fn alerts_and_dashboard_name_real_metrics() {
    let source = read("recommender/service/src/metrics.rs");
    let stream = read("pipeline/src/stream/exposition.rs");
    for file in ["deploy/alerts.yaml", "deploy/dashboard.json"] {
        let text = read(file);
        let mut found = 0;
        for word in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
            let Some(name) = word.strip_prefix("recommender_") else { continue };
            let plain = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
            let known = match plain.strip_prefix("stream_") {
                Some(of_stream) => {
                    stream.contains(&format!("\"{}\"", of_stream.strip_suffix("_total").unwrap_or(of_stream)))
                }
                None => source.contains(&format!("{plain}\"")),
            };
            assert!(known, "{file}: the service has no metric {word}");
            found += 1;
        }
        assert!(found > 3, "{file} names {found} metrics");
    }
    serde_json::from_str::<serde_json::Value>(&read("deploy/dashboard.json")).unwrap();
}

#[test]
fn alerts_name_real_routes() {
    let document: serde_json::Value = serde_json::from_str(&service::openapi_json().unwrap()).unwrap();
    let alerts = read("deploy/alerts.yaml");
    let named = alerts.split("route=").skip(1).filter_map(|rest| rest.trim_start_matches('~').split('"').nth(1));
    let routes: Vec<&str> = named.flat_map(|routes| routes.split('|')).collect();
    assert!(routes.contains(&"/v1/recommend") && routes.contains(&"/v1/events"), "{routes:?}");
    for route in routes {
        assert!(document["paths"][route].is_object(), "deploy/alerts.yaml: the service has no route {route}");
    }
}

#[test]
fn the_load_test_is_a_script_that_bash_can_read() {
    let script = root().join("deploy/load-test.sh");
    match std::process::Command::new("bash").arg("-n").arg(&script).output() {
        Ok(done) => assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr)),
        Err(error) => crate::program::say_skipped(&format!("bash does not start ({error})")),
    }
}

/// The script of the healthcheck against a live service: the one part that text cannot show.
#[test]
fn the_healthcheck_passes_only_when_the_service_answers_200() {
    let image = instructions(&read("deploy/Dockerfile"));
    let script = json_list(image.iter().find(|line| line.starts_with("HEALTHCHECK ")).unwrap()).pop().unwrap();
    let check = |status: &'static str, healthy: bool| {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            use std::io::{Read as _, Write as _};
            let (mut stream, _) = listener.accept().unwrap();
            // bash may send the request in several parts.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            assert_eq!(request, b"GET /livez HTTP/1.0\r\n\r\n");
            stream.write_all(format!("HTTP/1.0 {status}\r\n\r\n").as_bytes()).unwrap();
        });
        let script = script.replace("/8080", &format!("/{port}"));
        let done = match std::process::Command::new("bash").args(["-c", &script]).output() {
            Ok(done) => done,
            Err(error) => return crate::program::say_skipped(&format!("bash does not start ({error})")),
        };
        server.join().unwrap();
        assert_eq!(done.status.success(), healthy, "{status}: {}", String::from_utf8_lossy(&done.stderr));
    };
    check("200 OK", true);
    check("503 Service Unavailable", false);
}

#[test]
fn ci_runs_the_command_that_the_readme_names() {
    let command = "cargo test --release --workspace";
    assert!(read(".ci/run").contains(command) && read("README.md").contains(command));
    // The README's configs exist.
    for word in read("README.md").split_whitespace().filter(|word| word.ends_with(".toml") && word.contains("/")) {
        let word = word.trim_matches(|c| "`(),".contains(c));
        if !word.starts_with("runs/") {
            assert!(root().join(word).is_file(), "README.md names {word}, which does not exist");
        }
    }
}

//! The configuration: the example is valid, and each broken rule is one sentence with the field.

use crate::fixture::{CONFIG, DIMS, bundle_dir};
use feature_store::UserStateStore;
use fmrlrec::{Bundle, BundleShape};
use service::ServiceConfig;
use std::net::TcpListener;

fn valid() -> ServiceConfig {
    toml::from_str(CONFIG).unwrap()
}

#[test]
fn the_example_is_valid_for_the_dims_it_names() {
    let text = include_str!("../../configs/serve.toml");
    let config: ServiceConfig = toml::from_str(text).unwrap();
    config.validate(&BundleShape::of_dims(&[8, 16, 32, 64, 128])).unwrap();
    config.bind.parse::<std::net::SocketAddr>().unwrap();
    let error = config.validate(&BundleShape::of_dims(&[8, 16, 32])).unwrap_err().to_string();
    assert!(error.contains("\"standard\"") && error.contains("dim 64") && error.contains("[8, 16, 32]"), "{error}");
}

#[test]
fn broken_rules() {
    let check = |change: &dyn Fn(&mut ServiceConfig), expect: &str| {
        let mut config = valid();
        change(&mut config);
        let error = config.validate(&BundleShape::of_dims(&DIMS)).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} lacks {expect:?}");
    };
    valid().validate(&BundleShape::of_dims(&DIMS)).unwrap();
    check(&|config| config.limits.max_k = 0, "limits.max_k: 0 is not in 1..=1000");
    check(&|config| config.limits.max_k = 1001, "limits.max_k: 1001");
    check(&|config| config.limits.default_k = 21, "limits.default_k: 21 is not in 1..=20");
    check(&|config| config.limits.body_bytes = 1 << 30, "limits.body_bytes");
    check(&|config| config.limits.key_bytes = 257, "limits.key_bytes: 257 is not in 1..=256");
    check(&|config| config.limits.history = 0, "limits.history");
    check(&|config| config.limits.added_items = 100_001, "limits.added_items: 100001 is not in 0..=100000");
    check(&|config| config.limits.exclude = 0, "limits.exclude");
    check(&|config| config.server.workers = 0, "server.workers");
    check(&|config| config.server.blocking_threads = 0, "server.blocking_threads");
    check(&|config| config.server.max_in_flight = 0, "server.max_in_flight");
    check(&|config| config.server.max_connections = 0, "server.max_connections");
    check(&|config| config.server.request_timeout_s = 0, "server.request_timeout_s");
    check(&|config| config.server.shutdown_timeout_s = 9999, "server.shutdown_timeout_s: 9999");
    check(&|config| config.state.max_history = 0, "state.max_history");
    check(&|config| config.ui.picture_url = "https://cdn.shop/x.jpg".into(), "ui.picture_url");
    check(&|config| config.tier_header = "x tier".into(), "tier_header: \"x tier\"");
    check(&|config| config.tiers.clear(), "the number of tiers: 0");
    check(&|config| config.tiers[1].default = false, "default = true is on no tier");
    check(&|config| config.tiers[0].default = true, "default = true is on bulk and standard");
    check(&|config| config.tiers[0].name = "premium".into(), "\"premium\" is used by two tiers");
    check(&|config| config.tiers[0].name = "Gold!".into(), "\"Gold!\" is no tier name");
    check(
        &|config| config.tiers[2].dim = 5,
        "tier \"premium\" asks for dim 5, which the Bundle was not trained at; use one of [4, 8, 16]",
    );
    check(&|config| config.tiers[0].header_values.push("gold".into()), "value 1 of tier \"premium\" is already listed");
    check(&|config| config.tiers[0].header_values.push("a b".into()), "tiers.header_values: value 2 of tier \"bulk\"");
    check(&|config| config.tiers[0].min_dim = 8, "tier \"bulk\" has min_dim 8 above its dim 4");
    check(&|config| config.tiers[0].min_dim = 5, "tiers.min_dim: tier \"bulk\" asks for dim 5");
    check(&|config| config.tiers[0].max_k = 21, "tiers.max_k: 21 is not in 1..=20");
    check(&|config| config.tiers[0].latency_target_ms = 0, "tiers.latency_target_ms: 0");
    check(&|config| config.tiers[0].share_permille = 1001, "tiers.share_permille: 1001 is not in 1..=1000");
    check(&|config| config.tiers[0].rate_per_s = 1, "tiers.burst: 0");
    check(&|config| config.tiers[0].burst = 1, "tiers.rate_per_s: 0");
    check(&|config| config.server.compute_threads = 0, "server.compute_threads");
    check(&|config| config.server.max_queue = 0, "server.max_queue");
    check(&|config| config.server.max_batch = 1025, "server.max_batch: 1025 is not in 1..=1024");
    check(&|config| config.server.max_wait_us = 100_001, "server.max_wait_us: 100001 is not in 0..=100000");
    check(&|config| config.server.drain_delay_s = 9999, "server.drain_delay_s: 9999 is not in 0..=3600");
    check(&|config| config.state.cache_mib = 0, "state.cache_mib");
    check(&|config| config.limits.batch = 1001, "limits.batch: 1001 is not in 1..=1000");
    check(&|config| config.access.keys[0].sha256 = "abc".into(), "that of key \"ada\" is not 64 hex digits");
    check(&|config| config.access.keys[0].tier = "gold".into(), "\"gold\" of key \"ada\" is no tier");
    check(&|config| config.access.keys[1].name = "ada".into(), "access.keys.name: \"ada\" is used twice");
    check(&|config| config.access.keys[1].sha256 = config.access.keys[0].sha256.clone(), "\"root\" is listed twice");
}

#[test]
fn fields_are_all_stated_and_all_known() {
    let check = |text: String, expect: &str| {
        let error = toml::from_str::<ServiceConfig>(&text).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} lacks {expect:?}");
    };
    check(CONFIG.replace("workers = 2", ""), "missing field `workers`");
    check(CONFIG.replace("workers = 2", "workers = 2\nworkerz = 3"), "unknown field `workerz`");
    check(CONFIG.replace("max_k = 20", "max_k = \"20\""), "max_k");
    check(CONFIG.replace("dim = 16", "dim = -16"), "-16");
    check(CONFIG.replace("header_values = [\"gold\"]", ""), "missing field `header_values`");
}

/// The service refuses to start rather than to serve a tier that its Bundle cannot.
#[test]
fn a_config_that_does_not_fit_the_bundle_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = valid();
    config.tiers[0].dim = 3;
    let store = UserStateStore::open(&dir.path().join("state"), 20).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = service::run(listener, config, Bundle::open(bundle_dir()).unwrap(), store, std::future::pending());
    let error = runtime.block_on(run).unwrap_err().to_string();
    assert!(error.starts_with("tiers.dim") && error.contains("[4, 8, 16]"), "{error}");
}

//! The configuration: the example is valid, and each broken rule is one sentence with the field.

use crate::fixture::{CONFIG, DIMS, refused};
use fmrlrec::BundleShape;
use service::{CorsConfig, ServiceConfig};

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

/// Its keys are for a first try on one machine.
#[test]
fn the_keys_of_the_example_are_for_this_machine_alone() {
    let check = |bind: &str, refused: bool| {
        let mut config: ServiceConfig = toml::from_str(include_str!("../../configs/serve.toml")).unwrap();
        config.bind = bind.to_owned();
        let shape = BundleShape::of_dims(&[8, 16, 32, 64, 128]);
        let error = config.validate(&shape).err().map(|error| error.to_string()).unwrap_or_default();
        match refused {
            true => {
                assert!(error.contains("access.keys") && error.contains("make a key of your own"), "{bind}: {error}")
            }
            false => assert_eq!(error, "", "{bind}"),
        }
        config.access.keys.clear();
        config.validate(&shape).unwrap();
    };
    for bind in ["127.0.0.1:8080", "127.3.2.1:0", "[::1]:8080", "localhost:8080"] {
        check(bind, false);
    }
    for bind in ["0.0.0.0:8080", "[::]:8080", "10.1.2.3:8080", "localhost.example:8080", "shop:8080"] {
        check(bind, true);
    }
}

/// What the example says of other origins is what would be read.
#[test]
fn the_example_of_origins_is_valid() {
    let mut text = include_str!("../../configs/serve.toml").to_owned();
    for line in ["[cors]", "origins = ", "max_age_s = "] {
        assert_eq!(text.matches(&format!("\n# {line}")).count(), 1, "{line}");
        text = text.replace(&format!("\n# {line}"), &format!("\n{line}"));
    }
    let config: ServiceConfig = toml::from_str(&text).unwrap();
    config.validate(&BundleShape::of_dims(&[8, 16, 32, 64, 128])).unwrap();
    assert_eq!(config.cors.unwrap().origins, ["https://shop.example"]);
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
fn origins_that_no_browser_sends_are_refused() {
    let check = |origins: &[&str], max_age_s: u64, expect: &str| {
        let mut config = valid();
        let origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        config.cors = Some(CorsConfig { origins, max_age_s });
        let found =
            config.validate(&BundleShape::of_dims(&DIMS)).map_or_else(|error| error.to_string(), |()| String::new());
        assert!(found.contains(expect) && found.is_empty() == expect.is_empty(), "{found:?} is not {expect:?}");
    };
    check(&["https://shop.example", "http://localhost:3000"], 0, "");
    check(&["*"], 86_400, "");
    check(&[], 600, "cors.origins: none is listed");
    check(&["https://shop.example/"], 600, "cors.origins: \"https://shop.example/\" has more than a scheme, a host");
    check(&["https://a.example", "https://*.b.example"], 600, "cors.origins: \"https://*.b.example\" names no host");
    check(&["shop.example"], 600, "cors.origins: \"shop.example\" does not begin with http:// or https://");
    check(&["https://shop.example:443"], 600, "names the port that its scheme has anyway");
    check(&["https://shop.example:0"], 600, "names no port");
    check(&["https://a.example", "*"], 600, "cors.origins: \"*\" is every origin; list it alone");
    check(&["https://a.example", "https://a.example"], 600, "\"https://a.example\" is listed twice");
    check(&["https://a.example"; 101], 600, "cors.origins: 101 are listed; at most 100 are accepted");
    check(&["https://a.example"], 86_401, "cors.max_age_s: 86401 is not in 0..=86400");
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
    check(format!("{CONFIG}[cors]\norigins = [\"*\"]\n"), "missing field `max_age_s`");
    check(format!("{CONFIG}[cors]\nmax_age_s = 600\n"), "missing field `origins`");
    check(format!("{CONFIG}[cors]\norigins = [\"*\"]\nmax_age_s = 600\nheaders = []\n"), "unknown field `headers`");
}

/// The service refuses to start rather than to serve a tier that its Bundle cannot.
#[test]
fn a_config_that_does_not_fit_the_bundle_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = valid();
    config.tiers[0].dim = 3;
    let error = refused(config, &dir.path().join("state"));
    assert!(error.starts_with("tiers.dim") && error.contains("[4, 8, 16]"), "{error}");
}

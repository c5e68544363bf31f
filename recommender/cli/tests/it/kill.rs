//! The service killed with SIGKILL while clients post events: every event that was acknowledged is
//! there afterwards, once. Rounds are few by default; `RECOMMENDER_SLOW_TESTS=1` makes them many.

use crate::data::Data;
use crate::program::{Running, command, say_skipped, text};
use feature_store::UserStateStore;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);
/// Clients that post at the same time, each for a user of its own and the one that they share.
const CLIENTS: usize = 4;
/// Events kept of a user: more than are posted in a round.
const MAX_HISTORY: usize = 10_000;

/// Posts until the service is gone; notes every event that it acknowledged.
fn post(base: &str, client: usize, round: usize, acknowledged: &Mutex<Vec<(String, String)>>, count: &AtomicUsize) {
    let agent: ureq::Agent = ureq::Agent::config_builder().timeout_global(Some(LIMIT)).build().into();
    for number in 0.. {
        let user = if number % 3 == 0 { "shared".to_owned() } else { format!("u{client}") };
        let item = format!("r{round}c{client}n{number}");
        let body = serde_json::json!({"user_id": user, "item_id": item, "event_id": item});
        match agent.post(format!("{base}/v1/events")).send_json(body) {
            Ok(_) => {
                acknowledged.lock().unwrap().push((user, item));
                count.fetch_add(1, Ordering::Relaxed);
            }
            // Refused for a moment; not acknowledged.
            Err(ureq::Error::StatusCode(503)) => {}
            Err(_) => return,
        }
    }
}

/// Number of times that each event is in the state.
fn stored(data: &Data) -> BTreeMap<(String, String), usize> {
    let store = UserStateStore::open(&data.state(), MAX_HISTORY).unwrap();
    let mut found = BTreeMap::new();
    store
        .for_each_user::<feature_store::StoreError>(|user, history| {
            for entry in history {
                *found.entry((user.to_owned(), entry.item_id)).or_default() += 1;
            }
            Ok(())
        })
        .unwrap();
    found
}

#[test]
fn a_service_killed_under_load_loses_no_acknowledged_event() {
    let slow = std::env::var("RECOMMENDER_SLOW_TESTS").is_ok_and(|value| value == "1");
    let rounds = if slow { 50 } else { 5 };
    if !slow {
        say_skipped("RECOMMENDER_SLOW_TESTS is not 1 (a service killed 50 times under load; 5 times here)");
    }
    let data = Data::new();
    data.trained(&data.built("snapshot"), "bundle");
    let config = std::fs::read_to_string(data.serve_config()).unwrap();
    let config = config.replace("max_history = 50", &format!("max_history = {MAX_HISTORY}"));
    std::fs::write(data.serve_config(), config).unwrap();
    let acknowledged = Mutex::new(Vec::new());
    for round in 0..rounds {
        let mut service = Running::start(command().args(["serve", "--config", text(&data.serve_config())]));
        let base = service.base_url(LIMIT);
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (base, acknowledged, count) = (&base, &acknowledged, &count);
                scope.spawn(move || post(base, client, round, acknowledged, count));
            }
            // No two rounds end at the same place, and none before something was acknowledged.
            let wanted = 20 + round * 37 % 200;
            let begun = Instant::now();
            while count.load(Ordering::Relaxed) < wanted {
                assert!(begun.elapsed() < LIMIT, "only {} events in {LIMIT:?}", count.load(Ordering::Relaxed));
                std::thread::sleep(Duration::from_millis(1));
            }
            service.signal("KILL");
        });
        // Dropped, it is waited for: its lock on the state is gone then.
        drop(service);
        let (found, acknowledged) = (stored(&data), acknowledged.lock().unwrap());
        let lost: Vec<_> = acknowledged.iter().filter(|event| !found.contains_key(event)).collect();
        assert!(
            lost.is_empty(),
            "after {} kills {} of {} events are lost: {lost:?}",
            round + 1,
            lost.len(),
            acknowledged.len()
        );
        assert!(found.values().all(|&times| times == 1), "an event is there twice");
    }
}

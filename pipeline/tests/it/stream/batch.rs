//! The stream and the batch build see the same: histories, and what they come to in a Snapshot.

use super::world::{consume, expected, histories, interaction, log_config, messages, open};
use crate::support::{Project, shared};
use feature_store::{Snapshot, StreamEvent, UserStateStore, export_interactions};
use pipeline::stream::event_sink;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Each user's items in order, as a Snapshot has them.
fn sequences(snapshot: &Snapshot) -> BTreeMap<String, Vec<(String, i64)>> {
    let mut all: BTreeMap<String, Vec<(String, i64)>> = BTreeMap::new();
    let (users, items) = (snapshot.users().unwrap(), snapshot.items().unwrap());
    for row in snapshot.interactions().unwrap() {
        let (user, item) = (users[row.user as usize].clone(), items[row.item as usize - 1].key.clone());
        all.entry(user).or_default().push((item, row.timestamp_ms));
    }
    all
}

fn streamed(store: &UserStateStore) -> BTreeMap<String, Vec<(String, i64)>> {
    let all = histories(store).into_iter();
    all.map(|(user, history)| (user, history.into_iter().map(|entry| (entry.item_id, entry.timestamp_ms)).collect()))
        .collect()
}

/// Ratings as rows of a table, in order of time, as they happened.
type Rows = Vec<(String, String, i64)>;

fn table(rows: &Rows) -> String {
    let mut csv = String::from("user,item,time\n");
    for (user, item, time_s) in rows {
        writeln!(csv, "{user},{item},{time_s}").unwrap();
    }
    csv
}

fn stream(project: &Project, rows: &Rows) -> UserStateStore {
    let mut config = log_config(project.dir.path());
    config.state.max_history = 10_000;
    let events: Vec<StreamEvent> =
        rows.iter().map(|(user, item, time_s)| interaction(user, item, time_s * 1000)).collect();
    let clock = super::world::clock();
    event_sink(&config, &clock).unwrap().put(&messages(&events)).unwrap();
    let store = open(&config);
    consume(&config, &store).unwrap();
    store
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn streamed_histories_are_the_built_sequences_and_an_export_builds_the_same(
        mut rows in prop::collection::vec((0_u8..4, prop::sample::select(vec!["a", "b", "c"]), 0_i64..30), 1..80),
    ) {
        rows.sort_by_key(|row| row.2);
        let rows: Rows = rows.into_iter().map(|(user, item, time)| (format!("u{user}"), item.to_owned(), time)).collect();
        let mut project = Project::new();
        project.write("ratings.csv", table(&rows));
        let built = sequences(&project.snapshot());
        let store = stream(&project, &rows);
        prop_assert_eq!(streamed(&store), built.clone());

        export_interactions(&store, &project.path("stream.parquet")).unwrap();
        project = project
            .with("path = \"ratings.csv\"\nformat = \"csv\"", "path = \"stream.parquet\"\nformat = \"parquet\"")
            .with("timestamp = \"time\"\ntimestamp_unit = \"s\"", "timestamp = \"timestamp_ms\"\ntimestamp_unit = \"ms\"");
        prop_assert_eq!(sequences(&project.snapshot()), built);
    }
}

#[test]
fn an_empty_store_exports_an_empty_table_and_an_export_replaces_an_older_one() {
    let dir = tempfile::tempdir().unwrap();
    let store = UserStateStore::open(&dir.path().join("state"), 10).unwrap();
    let path = dir.path().join("deep/table.parquet");
    assert_eq!(export_interactions(&store, &path).unwrap(), 0);
    store.record(&[interaction("u", "a", 5)]).unwrap();
    assert_eq!(export_interactions(&store, &path).unwrap(), 1);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn movielens_replayed_in_order_of_time_ends_in_the_histories_of_the_table() {
    let Some(shared) = shared("MovieLens replayed as a stream") else { return };
    let text = std::fs::read_to_string(shared.join("data/movielens-small/ratings.csv")).unwrap();
    let mut rows: Rows = Vec::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        rows.push((fields[0].to_owned(), fields[1].to_owned(), fields[3].parse().unwrap()));
    }
    assert_eq!(rows.len(), 100_836);
    rows.sort_by_key(|row| row.2);
    let project = Project::new();
    let store = stream(&project, &rows);
    let mut table: BTreeMap<String, Vec<(String, i64)>> = BTreeMap::new();
    for (user, item, time_s) in &rows {
        table.entry(user.clone()).or_default().push((item.clone(), time_s * 1000));
    }
    assert_eq!(streamed(&store), table);
    let events: Vec<StreamEvent> =
        rows.iter().map(|(user, item, time_s)| interaction(user, item, time_s * 1000)).collect();
    assert_eq!(histories(&store), expected(&events, 10_000));
}

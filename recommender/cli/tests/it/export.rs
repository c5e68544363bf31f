//! `export-interactions`: the histories of a store as a table that builds, and the places that it is not written to.

use crate::data::Data;
use crate::program::{refuse, succeed, text};
use std::path::Path;

#[test]
fn an_export_builds() {
    let data = Data::new();
    let store = data.path("exported-state");
    let lines: String = std::fs::read_to_string(data.path("ratings.csv"))
        .unwrap()
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let (user, item, time) = (fields[0], fields[1], fields[3]);
            format!("{{\"user_id\":\"{user}\",\"item_id\":\"{item}\",\"timestamp_ms\":{time}000}}\n")
        })
        .collect();
    std::fs::write(data.path("events.jsonl"), lines).unwrap();
    succeed(["ingest", "--events", text(&data.path("events.jsonl")), "--store", text(&store)]);
    let table = data.path("stream.parquet");
    let said = succeed(["export-interactions", "--store", text(&store), "--output", text(&table)]);
    assert!(said.contains("400 interactions of 40 users") && said.contains("timestamp_ms"), "{said}");
    let built = data.built("from-csv");
    let build = std::fs::read_to_string(data.build_config()).unwrap();
    let build = build
        .replacen("path = \"ratings.csv\"\nformat = \"csv\"", "path = \"stream.parquet\"\nformat = \"parquet\"", 1)
        .replace("user = \"userId\"", "user = \"user\"")
        .replace("item = \"movieId\"", "item = \"item\"")
        .replace(
            "timestamp = \"timestamp\"\ntimestamp_unit = \"s\"",
            "timestamp = \"timestamp_ms\"\ntimestamp_unit = \"ms\"",
        );
    std::fs::write(data.path("stream-build.toml"), build).unwrap();
    let output = data.path("from-stream");
    succeed(["build", "--config", text(&data.path("stream-build.toml")), "--output", text(&output)]);
    let interactions = |dir: &Path| feature_store::Snapshot::open(dir).unwrap().interactions().unwrap();
    assert_eq!(interactions(&output), interactions(&built));
    refuse(["export-interactions", "--store", text(&data.path("nowhere")), "--output", text(&table)], &["nowhere"]);
    let other = data.path("other.txt");
    std::fs::write(&other, "not a table").unwrap();
    for (output, part) in [
        (other.clone(), "is there and no Parquet table"),
        (data.path(""), "is there and no Parquet table"),
        (store.join("table.parquet"), "lies in the store itself"),
        (data.path("no/such/table.parquet"), "lies in no folder that is there"),
    ] {
        refuse(["export-interactions", "--store", text(&store), "--output", text(&output)], &["--output", part]);
    }
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "not a table");
}

//! The four Amazon sets through their committed configs, without the encoder, so that it takes seconds.

use crate::support::{folder, shared, tree};
use feature_store::Snapshot;
use pipeline::BuildConfig;

/// Exact counts of a set, and the text of item 1.
struct Expect {
    users: u64,
    items: u64,
    interactions: u64,
    text: &'static str,
    without_text: usize,
}

fn check(name: &str, expect: &Expect) {
    let Some(shared) = shared(&format!("Amazon 2014, {name}")) else { return };
    let text = std::fs::read_to_string(folder("configs").join(format!("amazon-{name}.toml"))).unwrap();
    let mut config: BuildConfig = toml::from_str(&text).unwrap();
    assert_eq!(config.features.len(), usize::from(!expect.text.is_empty()));
    config.features.clear();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("snapshot");
    let manifest = pipeline::build(&config, &folder("configs"), &output, &mut |_| {}).unwrap();

    let counts = manifest.counts;
    assert_eq!((counts.users, counts.items, counts.interactions), (expect.users, expect.items, expect.interactions));
    assert_eq!(manifest.notes["interactions.read"], expect.interactions, "the k-core drops nothing");
    assert_eq!(manifest.notes["items.without_row"], 0);
    let snapshot = Snapshot::open(&output).unwrap();
    let items = snapshot.items().unwrap();
    assert_eq!(items[0].text, expect.text);
    assert_eq!(items.iter().filter(|item| item.text.is_empty()).count(), expect.without_text);
    // The files number users and items from 1 in order, so ids and lines must come out as they are.
    assert!((1..).zip(&items).all(|(id, item)| item.key == id.to_string()));
    let source = std::fs::read_to_string(shared.join("data/amazon-2014").join(name).join("sequences.txt")).unwrap();
    for ((line, user), sequence) in source.lines().zip(snapshot.users().unwrap()).zip(snapshot.sequences().unwrap()) {
        let found: String = sequence.iter().map(|item| format!(" {item}")).collect();
        assert_eq!(line, format!("{user}{found}"));
    }

    let again = dir.path().join("again");
    pipeline::build(&config, &folder("configs"), &again, &mut |_| {}).unwrap();
    assert_eq!(tree(&output), tree(&again));
}

#[test]
fn beauty() {
    let text = "OPI Nail Lacquer, Simmer and Shimmer, 0.5-Fluid Ounce. nail lacquer simmer and shimmer";
    check("beauty", &Expect { users: 22_363, items: 12_101, interactions: 198_502, text, without_text: 0 });
}

#[test]
fn sports() {
    let text = "ghost armorers tool 332 punch hunting fishing";
    check("sports", &Expect { users: 35_598, items: 18_357, interactions: 296_337, text, without_text: 0 });
}

#[test]
fn toys() {
    let text = "electronic catch phrase toys games handheld games";
    check("toys", &Expect { users: 19_412, items: 11_924, interactions: 167_597, text, without_text: 0 });
}

#[test]
fn clothing() {
    let expect = Expect { users: 39_387, items: 23_033, interactions: 278_677, text: "", without_text: 23_033 };
    check("clothing", &expect);
}

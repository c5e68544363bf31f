//! Sequence files and tab-separated catalogues: what is read, and what is refused.

use crate::support::{Project, refused, tree};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A config without an encoder and without features.
const CONFIG: &str = r#"
features = []

[[tables]]
name = "sequences"
path = "sequences.txt"
format = "sequences"

[[tables]]
name = "items"
path = "items.tsv"
format = "tsv"

[interactions]
table = "sequences"
user = "user"
item = "item"
timestamp = "position"
timestamp_unit = "ms"

[k_core]
min_user = 1
min_item = 1

[items]
sql = "SELECT item_id AS item, title, keywords FROM items"
text_template = "{title}. {keywords}"
without_row = "refuse"
"#;
const SEQUENCES: &str = "2 10 9 10\nann 9\n10 x 9\n";
const ITEMS: &str = "item_id\ttitle\tkeywords\n9\tSoap, 5\" bar\t\"mild\n10\t\tred lipstick\nx\tComb\t\n";

fn project() -> Project {
    let mut project = Project::new();
    project.config = CONFIG.to_owned();
    project.write("sequences.txt", SEQUENCES);
    project.write("items.tsv", ITEMS);
    project
}

#[test]
fn the_order_of_a_line_is_the_order_and_the_position_is_the_time() {
    let project = project();
    let snapshot = project.snapshot();
    assert_eq!(snapshot.users().unwrap(), ["2", "10", "ann"], "in the order of keys, not of lines");
    assert_eq!(snapshot.sequences().unwrap(), [vec![2, 1, 2], vec![3, 1], vec![1]]);
    let times: Vec<i64> = snapshot.interactions().unwrap().iter().map(|row| row.timestamp_ms).collect();
    assert_eq!(times, [1, 2, 3, 1, 2, 1]);
    assert_eq!(snapshot.manifest.notes["interactions.read"], 6);
}

#[test]
fn a_tab_separated_catalogue_has_no_quoting() {
    let items = project().snapshot().items().unwrap();
    let found: Vec<(&str, &str, &str)> =
        items.iter().map(|item| (item.key.as_str(), item.title.as_str(), item.text.as_str())).collect();
    let expect =
        [("9", "Soap, 5\" bar", "Soap, 5\" bar. \"mild"), ("10", "10", "red lipstick"), ("x", "Comb", "Comb.")];
    assert_eq!(found, expect);
}

#[test]
fn no_features_make_a_snapshot_of_ids() {
    let project = project();
    let snapshot = project.snapshot();
    assert!(snapshot.features().unwrap().is_empty() && snapshot.manifest.features.is_empty());
    project.build_to("again").unwrap();
    assert_eq!(tree(&project.path("snapshot")), tree(&project.path("again")));
}

#[test]
fn the_sequences_can_be_the_catalogue() {
    let query = "SELECT item_id AS item, title, keywords FROM items";
    let project =
        project().with(query, "SELECT DISTINCT item, item AS title FROM sequences").with("{title}. {keywords}", "");
    let items = project.snapshot().items().unwrap();
    assert!(items.iter().all(|item| item.title == item.key && item.text.is_empty()), "{items:?}");
    assert_eq!(items.len(), 3);
}

#[test]
fn the_k_core_keeps_order_and_positions() {
    let project = project().with("min_user = 1", "min_user = 2").with("min_item = 1", "min_item = 2");
    let snapshot = project.snapshot();
    // User ann has one item and x one user; then user 10 has one item left.
    assert_eq!(snapshot.users().unwrap(), ["2"]);
    let rows = snapshot.interactions().unwrap();
    assert_eq!(rows.iter().map(|row| (row.item, row.timestamp_ms)).collect::<Vec<_>>(), [(1, 1), (1, 3)]);
}

#[test]
fn items_without_a_row_are_kept_and_counted_or_refused() {
    let with_unknown = |project: Project| {
        project.write("sequences.txt", "2 10 9\nann 9 77 9\nbo 77\n");
        project
    };
    refused(&with_unknown(project()), &["sequences.txt", "line 2", "\"77\"", "items.sql", "items.without_row"]);
    let line = "without_row = \"refuse\"";
    for kept in ["without_row = \"keep\"", ""] {
        let project = with_unknown(project()).with(line, kept);
        let snapshot = project.snapshot();
        let unknown = snapshot.items().unwrap().remove(2);
        assert_eq!((unknown.key.as_str(), unknown.title.as_str(), unknown.text.as_str()), ("77", "77", ""));
        assert_eq!(snapshot.manifest.notes["items.without_row"], 1);
    }
    let project = Project::new().with("text_template", "without_row = \"refuse\"\ntext_template");
    project.write("ratings.csv", "user,item,time\n1,a,2\n1,zz,3\n");
    refused(&project, &["ratings.csv", "row 2", "\"zz\""]);
}

#[test]
fn broken_lines_are_named() {
    let check = |sequences: &str, parts: &[&str]| {
        let project = project();
        project.write("sequences.txt", sequences);
        refused(&project, &[&["sequences.txt"], parts].concat());
    };
    check("", &["is empty"]);
    check("\n", &["line 1", "blank"]);
    check("1 9\n\n2 9\n", &["line 2", "blank"]);
    check("1 9\n  \n", &["line 2", "blank"]);
    check("1 9\nann\n", &["line 2", "\"ann\"", "no items"]);
    check("1 9\n2 9\n1 10\n", &["line 3", "user \"1\"", "line 1", "one line"]);
    check("1 9\n2,9,10\n", &["line 2", "\"2,9,10\"", "single spaces"]);
    check("1 9\n2\t9\t10\n", &["line 2", "\"2\\t9\\t10\"", "single spaces"]);
    check("1 9\n2 9;10\n", &["line 2", "\"9;10\"", "single spaces"]);
    check("1 9\n2  9\n", &["line 2", "empty key"]);
    check("1 9 \n", &["line 1", "empty key"]);
    check(" 1 9\n", &["line 1", "empty key"]);
    check(&format!("1 9\n2 {}\n", "9".repeat(300)), &["line 2", "300 bytes", "999..."]);
    check(&format!("1 9\n2{}\n", ",9".repeat(300)), &["line 2", "\"2,9,", "...\"", "single spaces"]);
}

#[test]
fn bytes_that_are_no_text_are_named() {
    let project = project();
    project.write("sequences.txt", b"1 9\n2 \xff9\n");
    refused(&project, &["sequences.txt", "line 2", "UTF-8"]);
    let project = self::project();
    project.write("items.tsv", [ITEMS.as_bytes(), b"z\t\xffA\tbar\xff\n"].concat());
    refused(&project, &["items.tsv", "line 5", "UTF-8"]);
}

#[test]
fn broken_catalogues_are_named() {
    let check = |items: &str, parts: &[&str]| {
        let project = project();
        project.write("items.tsv", items);
        refused(&project, parts);
    };
    check(&ITEMS.replace("\tred lipstick", ""), &["items.tsv", "TSV", "line 3"]);
    check(&ITEMS.replace('\t', ","), &["items.sql", "item_id"]);
    check(&format!("{ITEMS}9\tAgain\t\n"), &["items.sql", "\"9\"", "rows 1 and 4"]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn what_is_written_is_what_is_read(
        lines in prop::collection::btree_map("[a-z0-9]{1,3}", prop::collection::vec("[a-z0-9]{1,2}", 1..8), 1..12),
        turn in 0usize..12,
    ) {
        let project = project()
            .with("SELECT item_id AS item, title, keywords FROM items", "SELECT DISTINCT item, item AS title FROM sequences")
            .with("{title}. {keywords}", "");
        // Any order of lines; a user's items stay in theirs.
        let mut written: Vec<String> = lines.iter().map(|(user, items)| format!("{user} {}\n", items.join(" "))).collect();
        let turn = turn % written.len();
        written.rotate_left(turn);
        project.write("sequences.txt", written.concat());
        let snapshot = project.snapshot();
        let items = snapshot.items().unwrap();
        let found: BTreeMap<String, Vec<String>> = snapshot
            .users()
            .unwrap()
            .into_iter()
            .zip(snapshot.sequences().unwrap())
            .map(|(user, ids)| (user, ids.iter().map(|id| items[*id as usize - 1].key.clone()).collect()))
            .collect();
        prop_assert_eq!(found, lines);
    }
}

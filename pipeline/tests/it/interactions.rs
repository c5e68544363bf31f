//! Order, ids, ties and the k-core.

use crate::support::{Project, RATINGS, refused, tree};
use arrow::array::{ArrayRef, DictionaryArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int32Type;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

#[test]
fn ids_follow_the_order_of_keys_and_ties_the_order_of_the_file() {
    let project = Project::new();
    let snapshot = project.snapshot();
    assert_eq!(snapshot.users().unwrap(), ["9", "10", "x"]);
    let keys: Vec<String> = snapshot.items().unwrap().into_iter().map(|item| item.key).collect();
    assert_eq!(keys, ["a", "b", "c"]);
    // User 9: b at 1, then a and c at 7 as the file has them.
    assert_eq!(snapshot.sequences().unwrap(), [vec![2, 1, 3], vec![2], vec![1]]);
    assert_eq!(snapshot.interactions().unwrap()[0].timestamp_ms, 1000, "seconds become milliseconds");
}

#[test]
fn swapping_tied_rows_swaps_them_and_moving_others_changes_nothing() {
    let project = Project::new();
    project.write("ratings.csv", "user,item,time\n9,b,1\nx,a,3\n9,c,7\n9,a,7\n10,b,5\n");
    let snapshot = project.snapshot();
    assert_eq!(snapshot.users().unwrap(), ["9", "10", "x"]);
    assert_eq!(snapshot.sequences().unwrap(), [vec![2, 3, 1], vec![2], vec![1]]);
}

#[test]
fn many_ties_keep_the_order_of_a_large_file() {
    let project = Project::new().of_ids();
    // More rows than a batch of the query engine holds.
    let rows: u32 = 30_000;
    let item = |row: u32| row * 7919 % 20_011;
    let mut text = "user,item,time\n".to_owned();
    for row in 0..rows {
        text.push_str(&format!("u,{},{}\n", item(row), row / 10_000));
    }
    project.write("ratings.csv", text);
    let snapshot = project.snapshot();
    let keys: Vec<String> = snapshot.items().unwrap().into_iter().map(|item| item.key).collect();
    let found: Vec<&str> = snapshot.sequences().unwrap()[0].iter().map(|id| keys[*id as usize - 1].as_str()).collect();
    let expect: Vec<String> = (0..rows).map(|row| item(row).to_string()).collect();
    assert_eq!(found, expect);
}

#[test]
fn leading_zeros_are_part_of_a_key() {
    let project = Project::new().of_ids();
    project.write("ratings.csv", "user,item,time\n1,007,1\n1,7,2\n");
    let keys: Vec<String> = project.snapshot().items().unwrap().into_iter().map(|item| item.key).collect();
    assert_eq!(keys, ["7", "007"]);
}

/// Keys that look like decimals are text as they are written, in both tables.
#[test]
fn a_key_may_look_like_a_decimal() {
    let project = Project::new();
    project.write("ratings.csv", "user,item,time\n0.5,1.5,1\n0.5,2.0,2\n");
    project.write("items.csv", "item,title,genres\n1.5,First,\n2.0,Second,\n3.25,Third,\n");
    let snapshot = project.snapshot();
    assert_eq!(snapshot.users().unwrap(), ["0.5"]);
    let items: Vec<(String, String)> =
        snapshot.items().unwrap().into_iter().map(|item| (item.key, item.title)).collect();
    assert_eq!(items, [("1.5", "First"), ("2.0", "Second")].map(|(key, title)| (key.to_owned(), title.to_owned())));
}

/// As pandas writes whole numbers of a column with gaps: not one key is the catalogue's.
#[test]
fn keys_that_are_written_in_two_ways_are_not_taken_for_items_without_a_row() {
    let project = Project::new();
    project.write("ratings.csv", "user,item,time\n1,1.0,1\n1,2.0,2\n");
    project.write("items.csv", "item,title,genres\n1,First,\n2,Second,\n3,Third,\n");
    refused(&project, &["items.sql", "such as \"1\", theirs such as \"1.0\"", "make them the same"]);
}

/// A column becomes one of numbers only where every value prints back as it is written.
#[test]
fn numbers_are_given_back_as_they_are_written() {
    let check = |values: [&str; 3]| {
        let project = Project::new().with("{title}. {genres}", "{genres}");
        let [a, b, c] = values;
        project.write("items.csv", format!("item,title,genres\na,First,{a}\nb,Second,{b}\nc,Third,{c}\n"));
        let texts: Vec<String> = project.snapshot().items().unwrap().into_iter().map(|item| item.text).collect();
        assert_eq!(texts, values);
    };
    check(["7", "-12", "0"]);
    check(["4.0", "3.5", "-0.25"]);
    check(["19.90", "19.9", "5.00"]);
    check(["4", "3.5", "2"]);
    check(["1e5", "2.5", "0.1"]);
    check(["12345678901234567890", "1", "2"]);
    check(["0.1000000000000000055", "0.1", "0.2"]);
}

#[test]
fn keys_of_more_digits_than_an_integer_holds_stay_apart() {
    let project = Project::new();
    let keys = ["12345678901234567890", "12345678901234567891"];
    project.write("ratings.csv", format!("user,item,time\n1,{},1\n1,{},2\n", keys[0], keys[1]));
    project.write("items.csv", format!("item,title,genres\n{},First,\n{},Second,\nx,Third,\n", keys[0], keys[1]));
    let items: Vec<(String, String)> =
        project.snapshot().items().unwrap().into_iter().map(|item| (item.key, item.title)).collect();
    assert_eq!(items, [(keys[0].to_owned(), "First".to_owned()), (keys[1].to_owned(), "Second".to_owned())]);
}

/// Signs of a pattern of names are part of a name here, whatever else the pattern would find.
#[test]
fn a_path_names_one_file() {
    let expect = Project::new().snapshot().interactions().unwrap();
    for name in ["rating[s].csv", "ratings*.csv", "what? now.csv", "deep [1]/ratings.csv"] {
        let project = Project::new().with("path = \"ratings.csv\"", &format!("path = \"{name}\""));
        project.write(name, RATINGS);
        project.write("ratings.csv", "user,item,time\nzz,a,1\n");
        assert_eq!(project.snapshot().interactions().unwrap(), expect, "{name}");
    }
}

#[test]
fn texts_come_from_the_template_and_unknown_items_have_none() {
    let project = Project::new();
    project.write("ratings.csv", "user,item,time\n1,a,1\n1,b,2\n1,c,2\n1,zz,3\n");
    let snapshot = project.snapshot();
    let items: Vec<(String, String)> =
        snapshot.items().unwrap().into_iter().map(|item| (item.title, item.text)).collect();
    let expect = [("First", "First. Drama"), ("Second", "Second."), ("Third, the", "Third, the. Crime"), ("zz", "")];
    assert_eq!(items, expect.map(|(title, text)| (title.to_owned(), text.to_owned())));
    assert_eq!(snapshot.manifest.notes["items.without_row"], 1);
    assert_eq!(snapshot.manifest.notes["given.missing"], 1);
}

#[test]
fn two_runs_give_the_same_bytes() {
    let project = Project::new();
    project.build_to("one").unwrap();
    project.build_to("two").unwrap();
    assert_eq!(tree(&project.path("one")), tree(&project.path("two")));
}

/// The interactions of [`RATINGS`] as Parquet, with such times.
fn parquet_project(times: ArrayRef) -> Project {
    parquet_of(Arc::new(StringArray::from(vec!["b", "a", "c", "b", "a"])), times)
}

/// The same with such items.
fn parquet_of(items: ArrayRef, times: ArrayRef) -> Project {
    let project = Project::new()
        .with("path = \"ratings.csv\"\nformat = \"csv\"", "path = \"ratings.parquet\"\nformat = \"parquet\"");
    let columns: Vec<(&str, ArrayRef)> =
        vec![("user", Arc::new(StringArray::from(vec!["10", "9", "9", "9", "x"]))), ("item", items), ("time", times)];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let file = std::fs::File::create(project.path("ratings.parquet")).unwrap();
    let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    project
}

#[test]
fn parquet_reads_as_csv_does() {
    let expect = Project::new().snapshot().interactions().unwrap();
    let project = parquet_project(Arc::new(Int64Array::from(vec![5, 7, 7, 1, 3])));
    assert_eq!(project.snapshot().interactions().unwrap(), expect);
    let project = parquet_project(Arc::new(StringArray::from(vec!["5", "7", "7", "1", "3"])));
    refused(&project, &["ratings.parquet", "`time` is Utf8", "integers"]);
    let times = || Arc::new(Int64Array::from(vec![5, 7, 7, 1, 3]));
    // As pandas writes a column of categories.
    let items: DictionaryArray<Int32Type> = vec!["b", "a", "c", "b", "a"].into_iter().collect();
    assert_eq!(parquet_of(Arc::new(items), times()).snapshot().interactions().unwrap(), expect);
    let items = Float64Array::from(vec![1.5, 2.0, 3.0, 4.0, 5.0]);
    let project = parquet_of(Arc::new(items), times());
    refused(&project, &["ratings.parquet", "`item` is Float64", "\"1.5\"", "store it as text"]);
}

/// The k-core by the definition: drop one row that breaks the rule until there is none.
fn naive_k_core(rows: &[(u8, u8)], min_user: usize, min_item: usize) -> Vec<(u8, u8)> {
    let mut kept = rows.to_vec();
    loop {
        let users = |u: u8| kept.iter().filter(|row| row.0 == u).count();
        let items = |i: u8| kept.iter().filter(|row| row.1 == i).count();
        match kept.iter().position(|(u, i)| users(*u) < min_user || items(*i) < min_item) {
            Some(at) => kept.remove(at),
            None => return kept,
        };
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_k_core_is_the_one_of_the_definition(
        rows in prop::collection::vec((0u8..6, 0u8..6), 1..40),
        min_user in 1usize..4,
        min_item in 1usize..4,
    ) {
        let project = Project::new()
            .of_ids()
            .with("min_user = 1", &format!("min_user = {min_user}"))
            .with("min_item = 1", &format!("min_item = {min_item}"));
        let mut text = "user,item,time\n".to_owned();
        for (time, (user, item)) in rows.iter().enumerate() {
            text.push_str(&format!("{user},{item},{time}\n"));
        }
        project.write("ratings.csv", text);
        let expect = naive_k_core(&rows, min_user, min_item);
        if expect.is_empty() {
            let error = project.build().unwrap_err().to_string();
            prop_assert!(error.contains("k_core") && error.contains("no interaction is left"), "{error}");
            return Ok(());
        }
        let snapshot = project.snapshot();
        let (users, items) = (snapshot.users().unwrap(), snapshot.items().unwrap());
        let mut by_user: BTreeMap<u8, Vec<String>> = BTreeMap::new();
        for (user, item) in &expect {
            by_user.entry(*user).or_default().push(item.to_string());
        }
        let found: BTreeMap<u8, Vec<String>> = snapshot
            .sequences()
            .unwrap()
            .into_iter()
            .zip(users)
            .map(|(ids, user)| (user.parse().unwrap(), ids.iter().map(|id| items[*id as usize - 1].key.clone()).collect()))
            .collect();
        prop_assert_eq!(found, by_user);
        let distinct: BTreeSet<u8> = expect.iter().map(|row| row.1).collect();
        prop_assert_eq!(items.len(), distinct.len());
    }
}

//! CSV files: what quotes may hold, and what a quote without its partner costs.

use crate::support::{ITEMS, Project, refused};

#[test]
fn a_value_in_quotes_may_hold_a_line_end_and_takes_no_row_with_it() {
    let project = Project::new();
    project
        .write("items.csv", "item,title,genres\na,\"First,\nof two\",Drama\nb,\"Se\"\"cond\",\nc,5\" disk,\"Crime\"\n");
    let items = project.snapshot().items().unwrap();
    let titles: Vec<&str> = items.iter().map(|item| item.title.as_str()).collect();
    assert_eq!(titles, ["First,\nof two", "Se\"cond", "5\" disk"]);
    // A blank behind a closing quote costs no row either.
    project.write("items.csv", "item,title,genres\na,\"First\" ,Drama\nb,\"Second\"\t,\nc,Third,\"Crime\" \n");
    let items = project.snapshot().items().unwrap();
    let titles: Vec<&str> = items.iter().map(|item| item.title.trim_end()).collect();
    assert_eq!(titles, ["First", "Second", "Third"]);
}

#[test]
fn a_quote_without_its_partner_is_named_in_every_csv_file() {
    let check = |file: &str, contents: &str, parts: &[&str]| {
        let project = Project::new();
        project.write(file, contents);
        refused(&project, &[&[file], parts].concat());
    };
    // In the last column no row has a value too many or too few.
    check("items.csv", &ITEMS.replace("First,Drama", "First,\"Drama"), &["line 2 opens", "closed on line 4"]);
    check("items.csv", "item,title,genres\na,First,Drama\nb,Second,\"\nc,Third,\n", &["line 3 opens", "never closed"]);
    check("ratings.csv", "user,item,time\n9,a,\"7\n9,c,7\n9,b,1\n", &["line 2 opens", "never closed"]);
    let keys = Project::new().with("keys = \"items.csv\"", "keys = \"keys.csv\"");
    keys.write("keys.csv", "item\na\n\"b\nc\n");
    refused(&keys, &["keys.csv", "line 3 opens", "never closed"]);
}

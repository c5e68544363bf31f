//! Predicates on item metadata: what they select, and what they refuse.

use retrieval::{MAX_CACHED_SETS, MAX_CONDITIONS, MAX_VALUES, Metadata, Predicate, RetrievalError};
use std::sync::Arc;

fn films() -> Metadata {
    let mut films = Metadata::new(5);
    films.text("genre", [(1, "Drama"), (1, "War"), (2, "Drama"), (3, "Comedy"), (5, "War")]).unwrap();
    films.number("year", [(1, 1979.0), (2, 1994.0), (3, 1994.0), (5, 2020.0)]).unwrap();
    films
}

fn equals(value: &str) -> Predicate {
    Predicate::Equals { column: "genre".into(), value: value.into() }
}

fn years(from: Option<f64>, to: Option<f64>) -> Predicate {
    Predicate::Range { column: "year".into(), from, to }
}

#[test]
fn select() {
    let check = |predicate: Predicate, expect: &[u32]| {
        let ids: Vec<u32> = films().items_where(&predicate).unwrap().ids().collect();
        assert_eq!(ids, expect, "{predicate:?}");
    };
    check(equals("Drama"), &[1, 2]);
    check(equals("Western"), &[]);
    check(Predicate::OneOf { column: "genre".into(), values: vec!["War".into(), "Comedy".into()] }, &[1, 3, 5]);
    check(years(Some(1994.0), None), &[2, 3, 5]);
    check(years(None, Some(1994.0)), &[1, 2, 3]);
    check(years(Some(1980.0), Some(1994.0)), &[2, 3]);
    check(years(Some(2000.0), Some(1990.0)), &[]);
    check(years(None, None), &[1, 2, 3, 5]);
    check(Predicate::Not(Box::new(equals("Drama"))), &[3, 4, 5]);
    check(Predicate::All(vec![equals("War"), years(None, Some(2000.0))]), &[1]);
    check(Predicate::Any(vec![equals("Comedy"), equals("War")]), &[1, 3, 5]);
    check(Predicate::All(vec![]), &[1, 2, 3, 4, 5]);
    check(Predicate::Any(vec![]), &[]);
}

#[test]
fn refuse() {
    let check = |predicate: Predicate, expect: &str| {
        let error = films().items_where(&predicate).unwrap_err().to_string();
        assert_eq!(films().check(&predicate).unwrap_err().to_string(), error);
        assert!(error.contains(expect), "{error:?} lacks {expect:?}");
    };
    check(Predicate::Equals { column: "year".into(), value: "1994".into() }, r#"text columns are ["genre"]"#);
    check(Predicate::Range { column: "price".into(), from: None, to: None }, r#"number columns are ["year"]"#);
    check(years(Some(f64::NAN), None), "NaN");
    check(Predicate::All(vec![equals("War"); MAX_CONDITIONS]), "65 conditions");
    let values = vec![String::new(); MAX_VALUES + 1];
    check(Predicate::OneOf { column: "genre".into(), values }, "1001 values");
    assert_eq!(Metadata::new(5).text("a", [(6, "x")]).unwrap_err(), RetrievalError::Item { id: 6, items: 5 });
    assert!(matches!(Metadata::new(5).number("a", [(1, f64::NAN)]), Err(RetrievalError::Bound { .. })));
}

#[test]
fn sets_are_kept_up_to_a_limit_and_no_longer_than_their_columns() {
    let mut films = films();
    let drama = films.items_where(&equals("Drama")).unwrap();
    assert!(Arc::ptr_eq(&drama, &films.items_where(&equals("Drama")).unwrap()));
    for year in 0..MAX_CACHED_SETS {
        films.items_where(&years(Some(year as f64), None)).unwrap();
    }
    assert!(!Arc::ptr_eq(&drama, &films.items_where(&equals("Drama")).unwrap()), "the oldest goes first");
    films.text("genre", [(4, "Drama")]).unwrap();
    assert_eq!(films.items_where(&equals("Drama")).unwrap().ids().collect::<Vec<_>>(), [4]);
}

#[test]
fn a_kept_set_costs_as_much_however_long_its_predicate() {
    let films = films();
    let long = "x".repeat(1_000_000);
    let set = films.items_where(&equals(&long)).unwrap();
    assert!(Arc::ptr_eq(&set, &films.items_where(&equals(&long)).unwrap()), "it is kept");
    assert!(format!("{films:?}").len() < 10_000, "with its text");
    // Near ones are told apart.
    let other = films.items_where(&equals(&format!("{long}x"))).unwrap();
    assert!(!Arc::ptr_eq(&set, &other));
}

//! Each refusal, with the words that help.

use retrieval::{Filter, MAX_BATCH, MAX_K, NestedTable, RetrievalError};

fn table() -> NestedTable {
    let rows: Vec<f32> = (0..12).map(|value| value as f32).collect();
    NestedTable::new(&rows, &[2, 4]).unwrap()
}

#[test]
fn tables() {
    let check = |rows: &[f32], dims: &[usize], expect: &str| {
        let error = NestedTable::new(rows, dims).unwrap_err().to_string();
        assert!(error.contains(expect), "{error:?} lacks {expect:?}");
    };
    check(&[1.0], &[], "nesting dims []");
    check(&[1.0], &[0, 1], "nesting dims [0, 1]");
    check(&[1.0; 4], &[2, 2], "nesting dims [2, 2]");
    check(&[1.0; 4], &[4, 2], "nesting dims [4, 2]");
    check(&[], &[2], "0 values");
    check(&[1.0; 5], &[2, 4], "5 values");
    check(&[0.0, 0.0, 1.0, f32::NAN], &[2], "row 1");
    check(&[0.0, f32::INFINITY], &[2], "row 0");
}

#[test]
fn queries() {
    let check = |query: &[f32], k: usize, expect: RetrievalError| {
        assert_eq!(table().top_k(query, k, &|_| true).unwrap_err(), expect);
    };
    check(&[1.0; 3], 1, RetrievalError::Untrained { dim: 3, trained: vec![2, 4] });
    check(&[], 1, RetrievalError::Untrained { dim: 0, trained: vec![2, 4] });
    check(&[1.0; 2], 0, RetrievalError::K { k: 0 });
    check(&[1.0; 2], MAX_K + 1, RetrievalError::K { k: MAX_K + 1 });
    check(&[0.0, f32::NAN], 1, RetrievalError::Query { index: 1 });
    check(&[f32::NEG_INFINITY, 0.0], 1, RetrievalError::Query { index: 0 });
}

#[test]
fn items() {
    let check = |id: u32, dim: usize, expect: RetrievalError| {
        assert_eq!(table().most_similar(id, dim, 1, &|_| true).unwrap_err(), expect);
    };
    check(0, 2, RetrievalError::Item { id: 0, items: 2 });
    check(3, 2, RetrievalError::Item { id: 3, items: 2 });
    check(1, 5, RetrievalError::Untrained { dim: 5, trained: vec![2, 4] });
    let text = table().top_k(&[1.0], 1, &|_| true).unwrap_err().to_string();
    assert!(text.contains("[2, 4]"), "{text:?} does not list the trained dims");
}

#[test]
fn ties_go_to_the_lower_id() {
    let rows = [9.0, 1.0, 1.0, 2.0, 1.0, -0.0];
    let table = NestedTable::new(&rows, &[1]).unwrap();
    let ids = |query: f32, k: usize| -> Vec<u32> {
        table.top_k(&[query], k, &|_| true).unwrap().iter().map(|scored| scored.id).collect()
    };
    assert_eq!(ids(1.0, 3), [3, 1, 2]);
    assert_eq!(ids(1.0, 10), [3, 1, 2, 4, 5]);
    // Zero and minus zero are one score.
    assert_eq!(ids(-0.0, 10), [1, 2, 3, 4, 5]);
}

#[test]
fn a_vanishing_row_is_similar_to_none() {
    let table = NestedTable::new(&[0.0, 1e-42, 1.0, 0.0], &[1]).unwrap();
    let similar = table.most_similar(2, 1, 5, &|_| true).unwrap();
    assert_eq!(similar.iter().map(|scored| (scored.id, scored.score)).collect::<Vec<_>>(), [(1, 0.0), (3, 0.0)]);
}

#[test]
fn batches() {
    let check = |queries: &[f32], dim: usize, filters: usize, threads: usize, expect: RetrievalError| {
        let filters = vec![Filter::all(); filters];
        assert_eq!(table().top_k_batch(queries, dim, 1, &filters, threads).unwrap_err(), expect);
    };
    check(&[1.0; 3], 2, 1, 1, RetrievalError::Batch { values: 3, dim: 2 });
    let many = vec![1.0; 2 * (MAX_BATCH + 1)];
    check(&many, 2, 1, 1, RetrievalError::Batch { values: 2 * (MAX_BATCH + 1), dim: 2 });
    check(&[1.0; 6], 2, 2, 1, RetrievalError::Filters { filters: 2, queries: 3 });
    check(&[1.0; 4], 2, 0, 1, RetrievalError::Filters { filters: 0, queries: 2 });
    check(&[1.0; 4], 2, 1, 0, RetrievalError::Threads { threads: 0 });
    check(&[1.0; 4], 2, 1, 65, RetrievalError::Threads { threads: 65 });
    check(&[1.0, 1.0, 1.0, f32::NAN], 2, 1, 1, RetrievalError::Query { index: 1 });
    assert!(table().top_k_batch(&[], 2, 1, &[Filter::all()], 1).unwrap().is_empty());
}

#[test]
fn scores_that_could_overflow() {
    assert_eq!(NestedTable::new(&[0.0, 1e38], &[1]).unwrap_err(), RetrievalError::Row { row: 1 });
    let table = NestedTable::new(&[0.0, 1e30, -1e30], &[1]).unwrap();
    assert!(matches!(table.top_k(&[1e10], 1, &|_| true), Err(RetrievalError::Overflow { .. })));
    assert_eq!(table.top_k(&[1.0], 1, &|_| true).unwrap()[0].id, 1);
}

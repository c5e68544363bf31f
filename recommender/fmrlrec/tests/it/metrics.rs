//! Ranks and metrics: exact on the fixture, and by hand on small cases.

use crate::fixtures::{Fixture, fixtures};
use fmrlrec::{metrics_of_ranks, ranks_at_dims};

#[test]
fn the_fixture_gives_its_ranks_and_metrics() {
    let (Some(fixture), Some(dir)) = (Fixture::open("metrics.safetensors"), fixtures()) else { return };
    let (shape, scores) = fixture.floats::<f32>("scores");
    let targets = fixture.ints("labels");
    // One user vector a row of scores, and the identity as item table: scores come back as they are.
    let n = shape[1];
    let mut identity = vec![0.0f32; n * n];
    (0..n).for_each(|i| identity[i * n + i] = 1.0);
    let ranks = ranks_at_dims(&scores, &identity, &targets, &[n]).remove(0);
    let expected: Vec<usize> = fixture.ints("rank").iter().map(|rank| *rank as usize).collect();
    assert_eq!(ranks, expected);
    let text = std::fs::read_to_string(dir.join("metrics_expected.json")).unwrap();
    let expected: std::collections::BTreeMap<String, f64> = serde_json::from_str(&text).unwrap();
    let found = metrics_of_ranks(&ranks);
    assert_eq!(found.len(), expected.len());
    for (name, value) in expected {
        let ours = found[&name.to_lowercase()];
        assert!((ours - value).abs() < 1e-6, "{name} = {ours}, expected {value}");
    }
}

#[test]
fn ranks_count_ties_by_id_and_leave_padding_out() {
    fn check(scores: [f32; 4], target: u32, expect: usize) {
        let table = [1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1.];
        assert_eq!(ranks_at_dims(&scores, &table, &[target], &[4]), vec![vec![expect]], "{scores:?} {target}");
    }
    check([9.0, 1.0, 2.0, 3.0], 3, 1);
    check([9.0, 1.0, 2.0, 3.0], 1, 3);
    check([9.0, 2.0, 2.0, 2.0], 1, 1);
    check([9.0, 2.0, 2.0, 2.0], 3, 3);
}

/// A model that gives numbers no more must not look perfect.
#[test]
fn a_score_that_is_no_number_never_improves_a_rank() {
    // One column: the user vector is 1, so an item's score is its element of the table.
    fn check(table: [f32; 4], target: u32, expect: usize) {
        assert_eq!(ranks_at_dims(&[1.0], &table, &[target], &[1]), vec![vec![expect]], "{table:?} {target}");
    }
    let nan = f32::NAN;
    check([9.0, nan, 2.0, 3.0], 1, 3);
    check([9.0, nan, 2.0, 3.0], 3, 2);
    check([9.0, nan, nan, 3.0], 3, 3);
    check([9.0, nan, nan, nan], 1, 3);
    check([nan, 1.0, 2.0, 3.0], 3, 1);
}

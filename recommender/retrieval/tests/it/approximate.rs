//! What is approximate against exact: the same bits where items survive, and all of them where it must.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retrieval::{Bitset, Filter, Funnel, Int8Table, MAX_SHORTLIST, NestedTable, RetrievalError, Stage};
use std::sync::Arc;

const DIMS: [usize; 7] = [8, 24, 64, 256, 300, 512, 700];

fn values(random: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.random_range(-1.0f32..1.0)).collect()
}

fn table(random: &mut ChaCha8Rng, items: usize) -> Arc<NestedTable> {
    Arc::new(NestedTable::new(&values(random, (items + 1) * 700), &DIMS).unwrap())
}

fn funnel(stages: &[(usize, usize)]) -> Funnel {
    Funnel { stages: stages.iter().map(|&(dim, shortlist)| Stage { dim, shortlist }).collect() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]

    #[test]
    fn a_funnel_keeps_the_best_of_each_stage(
        seed in any::<u64>(),
        items in 1usize..=300,
        k in 1usize..=20,
        levels in prop::collection::btree_set(0usize..7, 2..=5),
        lists in prop::collection::vec(1usize..=200, 5),
        share in 0.0f64..=1.0,
    ) {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let table = table(random, items);
        let levels: Vec<usize> = levels.into_iter().collect();
        let (&last, firsts) = levels.split_last().unwrap();
        let mut lists = lists[..firsts.len()].to_vec();
        lists.sort_by(|a, b| b.cmp(a));
        let stages: Vec<_> = firsts.iter().map(|&level| DIMS[level]).zip(lists.iter().copied()).collect();
        let query = values(random, DIMS[last]);
        let allow = Bitset::from_ids(items, (1..=items as u32).filter(|_| random.random_bool(share))).unwrap();
        // The naive funnel: an exact search among the survivors, stage after stage.
        let mut survivors = allow.clone();
        for (dim, list) in &stages {
            let kept = table.search(&query[..*dim], *list.max(&k), &Filter::all().allow(&survivors), 1).unwrap();
            survivors = Bitset::from_ids(items, kept.iter().map(|scored| scored.id)).unwrap();
        }
        let expect = table.search(&query, k, &Filter::all().allow(&survivors), 1).unwrap();
        let found = table.search_funnel(&query, k, &funnel(&stages), &Filter::all().allow(&allow), 1).unwrap();
        prop_assert_eq!(found, expect);
    }

    #[test]
    fn bytes_give_the_exact_result(
        seed in any::<u64>(),
        items in 1usize..=400,
        level in 0usize..7,
        k in prop_oneof![1usize..=20, Just(1000)],
        tied in any::<bool>(),
        spread in -30i32..=15,
        threads in 1usize..=2,
    ) {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let mut rows = values(random, (items + 1) * 700);
        // Rows of very different lengths, some of them zero, or whole numbers with many ties.
        for row in rows.chunks_mut(700) {
            let factor = if random.random_bool(0.1) { 0.0 } else { 10f32.powi(random.random_range(spread.min(0)..=spread.max(0))) };
            row.iter_mut().for_each(|value| *value = if tied { (*value * 3.0).round() } else { *value * factor });
        }
        let table = Arc::new(NestedTable::new(&rows, &DIMS).unwrap());
        let bytes = Int8Table::new(Arc::clone(&table), DIMS[level]).unwrap();
        let query = values(random, DIMS[level]);
        let deny = Bitset::from_ids(items, (1..=items as u32).filter(|_| random.random_bool(0.2))).unwrap();
        let seen = [1, 5, 9];
        let filter = Filter::all().deny(&deny).without(&seen);
        prop_assert_eq!(bytes.search(&query, k, &filter, threads).unwrap(), table.search(&query, k, &filter, 1).unwrap());
    }
}

#[test]
fn funnels_that_are_none() {
    let table = table(&mut ChaCha8Rng::seed_from_u64(1), 20);
    let check = |stages: &[(usize, usize)], expect: RetrievalError| {
        let error = table.search_funnel(&[0.5; 256], 3, &funnel(stages), &Filter::all(), 1).unwrap_err();
        assert_eq!(error, expect, "{stages:?}");
    };
    let stages = RetrievalError::Stages { dim: 256 };
    check(&[], stages.clone());
    check(&[(64, 10), (24, 5)], stages.clone());
    check(&[(24, 5), (64, 10)], stages.clone());
    check(&[(256, 10)], stages.clone());
    check(&[(300, 10)], stages.clone());
    check(&[(64, 0)], stages.clone());
    check(&[(64, MAX_SHORTLIST + 1)], stages);
    check(&[(60, 10)], RetrievalError::Untrained { dim: 60, trained: DIMS.to_vec() });
    let bytes = Int8Table::new(Arc::clone(&table), 64).unwrap();
    let error = bytes.search(&[0.5; 24], 3, &Filter::all(), 1).unwrap_err();
    assert_eq!(error, RetrievalError::Untrained { dim: 24, trained: vec![64] });
}

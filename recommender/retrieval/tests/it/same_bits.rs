//! A score has the same bits whatever path computed it, and lies as near to the truth as f32 allows.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retrieval::{Bitset, Filter, NestedTable};

fn values(random: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| random.random_range(-1.0f32..1.0)).collect()
}

/// Dims of the paper, dims of one, and dims that fit nothing.
fn dims() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        Just(vec![8, 16, 32, 64, 128, 256, 512, 1024, 2048]),
        Just(vec![64]),
        Just(vec![24, 40]),
        Just(vec![1, 2, 3, 5, 7, 259, 700]),
        prop::collection::btree_set(1usize..=600, 1..=5).prop_map(|dims| dims.into_iter().collect()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn scan_batch_and_single_rows(
        seed in any::<u64>(),
        dims in dims(),
        items in 1usize..=200,
        count in 2usize..=11,
        pick in any::<prop::sample::Index>(),
    ) {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let width = dims[dims.len() - 1];
        let rows = values(random, (items + 1) * width);
        let table = NestedTable::new(&rows, &dims).unwrap();
        let dim = dims[pick.index(dims.len())];
        let queries = values(random, count * dim);
        // So few that rows are scored one by one.
        let few = Bitset::from_ids(items, (1..=items as u32).step_by(17)).unwrap();
        let batch = table.top_k_batch(&queries, dim, 1000, &[Filter::all()], 1).unwrap();
        for (query, batch) in queries.chunks(dim).zip(&batch) {
            let scan = table.search(query, 1000, &Filter::all(), 1).unwrap();
            prop_assert_eq!(&scan, batch);
            prop_assert_eq!(&scan, &table.search(query, 1000, &Filter::all(), 2).unwrap());
            prop_assert_eq!(&scan, &table.top_k(query, 1000, &|_| true).unwrap());
            let single = table.search(query, 1000, &Filter::all().allow(&few), 1).unwrap();
            let expect: Vec<_> = scan.iter().copied().filter(|scored| few.contains(scored.id)).collect();
            prop_assert_eq!(single, expect);
            for scored in &scan {
                let row = &rows[scored.id as usize * width..][..dim];
                let truth: f64 = row.iter().zip(query).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
                prop_assert!((f64::from(scored.score) - truth).abs() < 2e-6 * dim as f64, "{scored:?} is {truth}");
            }
        }
    }
}

#[test]
fn two_threads_share_a_table_that_is_worth_it() {
    let random = &mut ChaCha8Rng::seed_from_u64(5);
    let rows = values(random, 40_000 * 64);
    let table = NestedTable::new(&rows, &[16, 64]).unwrap();
    let queries = values(random, 9 * 64);
    let one = table.top_k_batch(&queries, 64, 50, &[Filter::all()], 1).unwrap();
    assert_eq!(one, table.top_k_batch(&queries, 64, 50, &[Filter::all()], 2).unwrap());
    for (query, one) in queries.chunks(64).zip(one) {
        assert_eq!(one, table.search(query, 50, &Filter::all(), 2).unwrap());
    }
}

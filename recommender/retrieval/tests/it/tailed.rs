//! A table with rows behind it gives what one table of all rows gives, bit for bit, on every path.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retrieval::{Bitset, Filter, NestedTable, RetrievalError, Tailed, TailedFilter};

const DIMS: [usize; 4] = [4, 24, 40, 300];
const WIDTH: usize = 300;

fn rows(random: &mut ChaCha8Rng, items: usize, tied: bool) -> Vec<f32> {
    let value = |random: &mut ChaCha8Rng| random.random_range(-1.0f32..1.0);
    let round = |value: f32| if tied { (value * 2.0).round() } else { value };
    (0..(items + 1) * WIDTH).map(|_| round(value(random))).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn a_tail_changes_no_result(
        seed in any::<u64>(),
        items in 1usize..=200,
        behind in 1usize..=200,
        level in 0usize..4,
        k in 1usize..=40,
        queries in 1usize..=9,
        tied in any::<bool>(),
        share in 0.0f64..=1.0,
    ) {
        let random = &mut ChaCha8Rng::seed_from_u64(seed);
        let (all, dim) = (rows(random, items + behind, tied), DIMS[level]);
        let (front, back) = all.split_at((items + 1) * WIDTH);
        let one = NestedTable::new(&all, &DIMS).unwrap();
        let table = NestedTable::new(front, &DIMS).unwrap();
        let back = NestedTable::new(&[&vec![0.0; WIDTH], back].concat(), &DIMS).unwrap();
        let both = Tailed::new(&table, Some(&back)).unwrap();
        prop_assert_eq!((both.items(), both.dims()), (one.items(), one.dims()));

        let total = items + behind;
        let allow = Bitset::from_ids(total, (1..=total as u32).filter(|_| random.random_bool(share))).unwrap();
        let in_table = Bitset::from_ids(items, allow.ids().filter(|id| *id as usize <= items)).unwrap();
        let in_tail = allow.ids().filter(|id| *id as usize > items).map(|id| id - items as u32);
        let in_tail = Bitset::from_ids(behind, in_tail).unwrap();
        let without = [1, items as u32, items as u32 + 1, total as u32];
        let behind_without = [1, behind as u32];
        let of_all = Filter::all().allow(&allow).without(&without);
        let of_both = TailedFilter {
            table: Filter::all().allow(&in_table).without(&without[..2]),
            tail: Filter::all().allow(&in_tail).without(&behind_without),
        };
        let vectors = &rows(random, queries, tied)[..queries * dim];
        let expect = one.top_k_batch(vectors, dim, k, std::slice::from_ref(&of_all), 1).unwrap();
        let found = both.top_k_batch(vectors, dim, k, &vec![of_both.clone(); queries], 1).unwrap();
        prop_assert_eq!(&found, &expect);
        prop_assert_eq!(both.top_k_batch(vectors, dim, k, &[of_both], 2).unwrap(), expect);

        let allowed = |id: u32| allow.contains(id);
        let query = &vectors[..dim];
        prop_assert_eq!(both.top_k(query, k, &allowed).unwrap(), one.top_k(query, k, &allowed).unwrap());
        for id in [1, items as u32, items as u32 + 1, total as u32] {
            prop_assert_eq!(both.vector(id, dim).unwrap(), one.vector(id, dim).unwrap());
            let (similar, expect) = (both.most_similar(id, dim, k, &allowed), one.most_similar(id, dim, k, &allowed));
            prop_assert_eq!(similar.unwrap(), expect.unwrap());
        }
    }
}

#[test]
fn without_a_tail_it_is_the_table() {
    let random = &mut ChaCha8Rng::seed_from_u64(1);
    let table = NestedTable::new(&rows(random, 9, false), &DIMS).unwrap();
    let alone = Tailed::new(&table, None).unwrap();
    let query = vec![0.5; 24];
    assert_eq!(alone.top_k(&query, 3, &|_| true).unwrap(), table.top_k(&query, 3, &|_| true).unwrap());
    for id in [0, 10] {
        assert_eq!(alone.vector(id, 24).unwrap_err(), RetrievalError::Item { id, items: 9 });
    }
    let narrow = NestedTable::new(&[0.0; 24], &[4, 12]).unwrap();
    let error = Tailed::new(&table, Some(&narrow)).unwrap_err();
    assert_eq!(error, RetrievalError::TailDims { tail: vec![4, 12], table: DIMS.to_vec() });
}

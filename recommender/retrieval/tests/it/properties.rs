//! Any dims, any filter, any k: the table answers as the naive version does.

use crate::naive;
use proptest::prelude::*;
use retrieval::{MAX_K, NestedTable};

#[derive(Debug, Clone)]
struct Case {
    dims: Vec<usize>,
    /// [n + 1, last dim], row-major.
    rows: Vec<f32>,
    level: usize,
    query: Vec<f32>,
    k: usize,
    /// Item `id` is allowed if `allowed[id]`.
    allowed: Vec<bool>,
}

/// Small whole numbers: scores are exact in any order of addition, and ties are many.
fn case() -> impl Strategy<Value = Case> {
    let dims = prop::collection::btree_set(1usize..=40, 1..=5).prop_map(|set| set.into_iter().collect::<Vec<_>>());
    // 0 items, one tile, and more than two tiles.
    let items = prop_oneof![0usize..=8, 200usize..=600];
    (dims, items, 1usize..=60, 0.0f64..=1.0).prop_flat_map(|(dims, items, k, kept)| {
        let width = dims[dims.len() - 1];
        let levels = dims.len();
        let value = (-3i8..=3).prop_map(f32::from);
        (
            Just(dims),
            prop::collection::vec(value.clone(), (items + 1) * width),
            0..levels,
            prop::collection::vec(value, width),
            prop_oneof![4 => Just(k), 1 => Just(MAX_K)],
            prop::collection::vec(prop::bool::weighted(kept), items + 1),
        )
            .prop_map(|(dims, rows, level, query, k, allowed)| Case { dims, rows, level, query, k, allowed })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn top_k_is_the_naive_one(case in case()) {
        let Case { dims, rows, level, query, k, allowed } = case;
        let (dim, width) = (dims[level], dims[dims.len() - 1]);
        let table = NestedTable::new(&rows, &dims).unwrap();
        let allowed = |id: u32| allowed[id as usize];
        let found = table.top_k(&query[..dim], k, &allowed).unwrap();
        prop_assert_eq!(&found, &naive::top_k(&rows, width, &query[..dim], k, &allowed));
        let possible = (1..rows.len() / width).filter(|&id| allowed(id as u32)).count();
        prop_assert_eq!(found.len(), k.min(possible), "the filter must not eat results");
        prop_assert!(found.iter().all(|scored| scored.id != 0), "PAD came back");
    }

    #[test]
    fn most_similar_is_the_cosine_without_the_item_itself(case in case(), pick in any::<prop::sample::Index>()) {
        let Case { dims, rows, level, k, .. } = case;
        let (dim, width) = (dims[level], dims[dims.len() - 1]);
        let items = rows.len() / width - 1;
        prop_assume!(items > 0);
        let id = (pick.index(items) + 1) as u32;
        let table = NestedTable::new(&rows, &dims).unwrap();
        let found = table.most_similar(id, dim, k, &|_| true).unwrap();
        let cosines = naive::most_similar(&rows, width, id, dim);
        prop_assert_eq!(found.len(), k.min(items - 1));
        let mut best: Vec<f64> = cosines.iter().map(|(_, cosine)| *cosine).collect();
        best.sort_by(|a, b| b.total_cmp(a));
        for (scored, best) in found.iter().zip(best) {
            let own = cosines.iter().find(|(other, _)| *other == scored.id).unwrap().1;
            prop_assert!((f64::from(scored.score) - own).abs() < 1e-5, "{scored:?} is {own}");
            prop_assert!((own - best).abs() < 1e-5, "{scored:?} took the place of {best}");
        }
    }

    #[test]
    fn a_vector_is_the_prefix_of_its_row(case in case()) {
        let width = case.dims[case.dims.len() - 1];
        let table = NestedTable::new(&case.rows, &case.dims).unwrap();
        let dim = case.dims[case.level];
        for id in 1..=table.items() {
            prop_assert_eq!(table.vector(id as u32, dim).unwrap(), &case.rows[id * width..][..dim]);
        }
    }
}

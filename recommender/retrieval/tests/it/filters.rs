//! Filters of any selectivity, for one query and for batches: k results come back, and the right ones.

use crate::naive;
use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retrieval::{Bitset, Filter, MAX_WITHOUT, NestedTable, RetrievalError, Scored};

const DIMS: [usize; 4] = [8, 16, 40, 300];

/// Small whole numbers: scores are exact in any order of addition, and ties are many.
fn whole_numbers(random: &mut ChaCha8Rng, count: usize) -> Vec<f32> {
    (0..count).map(|_| f32::from(random.random_range(-3i8..=3))).collect()
}

fn subset(random: &mut ChaCha8Rng, items: usize, share: f64) -> Bitset {
    let ids: Vec<u32> = (1..=items as u32).filter(|_| random.random_bool(share)).collect();
    Bitset::from_ids(items, ids).unwrap()
}

/// A table, three filters' sets, and queries, from a seed.
struct Case {
    rows: Vec<f32>,
    table: NestedTable,
    dim: usize,
    queries: Vec<f32>,
    allow: Bitset,
    deny: Bitset,
    seen: Vec<u32>,
}

fn case(seed: u64, items: usize, level: usize, count: usize, share: f64) -> Case {
    let random = &mut ChaCha8Rng::seed_from_u64(seed);
    let rows = whole_numbers(random, (items + 1) * DIMS[3]);
    let table = NestedTable::new(&rows, &DIMS).unwrap();
    let dim = DIMS[level];
    let queries = whole_numbers(random, count * dim);
    let (allow, deny) = (subset(random, items, share), subset(random, items, 0.3));
    let seen = (0..20).map(|_| random.random_range(0..items as u32 + 5)).collect();
    Case { rows, table, dim, queries, allow, deny, seen }
}

impl Case {
    fn naive(&self, query: &[f32], k: usize, accept: &dyn Fn(u32) -> bool) -> Vec<Scored> {
        naive::top_k(&self.rows, DIMS[3], query, k, accept)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn one_query(
        seed in any::<u64>(),
        items in prop_oneof![1usize..=3, 60usize..=70, 300usize..=900],
        level in 0usize..4,
        k in prop_oneof![1usize..=30, Just(1000)],
        share in prop_oneof![Just(0.0), Just(0.002), 0.0..=0.1, 0.0..=1.0, Just(1.0)],
        threads in 1usize..=3,
    ) {
        let case = case(seed, items, level, 1, share);
        let filter = Filter::all().allow(&case.allow).deny(&case.deny).without(&case.seen);
        let accept = |id: u32| case.allow.contains(id) && !case.deny.contains(id) && !case.seen.contains(&id);
        let found = case.table.search(&case.queries, k, &filter, threads).unwrap();
        let expect = case.naive(&case.queries, k, &accept);
        prop_assert_eq!(&found, &expect);
        prop_assert_eq!(found, case.table.top_k(&case.queries, k, &accept).unwrap());
    }

    #[test]
    fn a_batch_with_a_filter_each(
        seed in any::<u64>(),
        items in prop_oneof![1usize..=3, 120usize..=400],
        level in 0usize..4,
        count in 1usize..=19,
        k in prop_oneof![1usize..=30, Just(1000)],
        share in prop_oneof![Just(0.0), 0.0..=0.1, 0.0..=1.0],
        shared in any::<bool>(),
        threads in 1usize..=3,
    ) {
        let case = case(seed, items, level, count, share);
        let each = |at: usize| match at % 3 {
            0 => Filter::all().allow(&case.allow),
            1 => Filter::all().deny(&case.deny).without(&case.seen),
            _ => Filter::all(),
        };
        let accepts = |at: usize, id: u32| match at % 3 {
            0 => case.allow.contains(id),
            1 => !case.deny.contains(id) && !case.seen.contains(&id),
            _ => true,
        };
        let filters: Vec<Filter<'_>> = if shared { vec![each(0)] } else { (0..count).map(each).collect() };
        let found = case.table.top_k_batch(&case.queries, case.dim, k, &filters, threads).unwrap();
        prop_assert_eq!(found.len(), count);
        for (at, query) in case.queries.chunks(case.dim).enumerate() {
            let which = if shared { 0 } else { at };
            prop_assert_eq!(&found[at], &case.naive(query, k, &|id| accepts(which, id)), "query {}", at);
        }
    }
}

#[test]
fn sets_combine_as_sets_do() {
    for items in [1, 63, 64, 65, 200] {
        let random = &mut ChaCha8Rng::seed_from_u64(items as u64);
        let (a, b) = (subset(random, items, 0.4), subset(random, items, 0.4));
        let check = |set: Bitset, expect: &dyn Fn(u32) -> bool| {
            let ids: Vec<u32> = (1..=items as u32).filter(|&id| expect(id)).collect();
            assert_eq!(set.ids().collect::<Vec<_>>(), ids);
            assert_eq!(set.count(), ids.len());
        };
        check(a.and(&b).unwrap(), &|id| a.contains(id) && b.contains(id));
        check(a.or(&b).unwrap(), &|id| a.contains(id) || b.contains(id));
        check(a.complement(), &|id| !a.contains(id));
        check(Bitset::full(items), &|_| true);
        check(Bitset::empty(items), &|_| false);
    }
}

#[test]
fn filters_that_do_not_fit() {
    let table = NestedTable::new(&[1.0; 3], &[1]).unwrap();
    let set = Bitset::empty(3);
    let refused = |filter: Filter<'_>| table.search(&[1.0], 1, &filter, 1).unwrap_err();
    assert_eq!(refused(Filter::all().allow(&set)), RetrievalError::Set { set: 3, items: 2 });
    assert_eq!(refused(Filter::all().deny(&set)), RetrievalError::Set { set: 3, items: 2 });
    let many = vec![1; MAX_WITHOUT + 1];
    assert_eq!(refused(Filter::all().without(&many)), RetrievalError::Without { ids: MAX_WITHOUT + 1 });
    assert_eq!(Bitset::from_ids(3, [0]).unwrap_err(), RetrievalError::Item { id: 0, items: 3 });
    assert_eq!(Bitset::from_ids(3, [4]).unwrap_err(), RetrievalError::Item { id: 4, items: 3 });
    assert_eq!(set.and(&Bitset::empty(4)).unwrap_err(), RetrievalError::Set { set: 4, items: 3 });
}

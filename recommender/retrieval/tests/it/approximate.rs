//! What is approximate against exact: the same bits where items survive, and all of them where it must.

use proptest::prelude::*;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retrieval::{
    Bitset, CodedTable, EXACT_ITEMS, Filter, Funnel, Ivf, IvfConfig, MAX_K, MAX_SHORTLIST, NestedTable, Plan,
    Precision, Probe, RetrievalError, Stage, TuneConfig, tune,
};
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
        half in any::<bool>(),
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
        let precision = if half { Precision::Half } else { Precision::Int8 };
        let bytes = CodedTable::new(Arc::clone(&table), DIMS[level], precision).unwrap();
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
    let bytes = CodedTable::new(Arc::clone(&table), 64, Precision::Half).unwrap();
    let error = bytes.search(&[0.5; 24], 3, &Filter::all(), 1).unwrap_err();
    assert_eq!(error, RetrievalError::Uncoded { dim: 24, coded: 64 });
}

/// That item 1 is the best, and that coded tables say so too.
fn item_1_is_best_in_bytes(rows: &[f32], query: &[f32]) {
    let (columns, all) = (query.len(), Filter::all());
    let table = Arc::new(NestedTable::new(rows, &[columns]).unwrap());
    let exact = table.search(query, 1, &all, 1).unwrap();
    assert_eq!(exact[0].id, 1, "{columns} columns");
    for precision in [Precision::Int8, Precision::Half] {
        let bytes = CodedTable::new(Arc::clone(&table), columns, precision).unwrap();
        assert_eq!(bytes.search(query, 1, &all, 1).unwrap(), exact, "{precision:?}, {columns} columns");
    }
}

#[test]
fn bytes_give_the_exact_result_where_rounding_adds_up() {
    // A sum of more than 2048 such terms rounds each of them down; one of half as many loses nothing. That costs
    // item 1 more than it is ahead by: in one sum from 4096 columns on, in 8 lanes from 32,768. Of 140,000
    // products of 127 and 127 the sum is no i32.
    let term = 1.0 + 2f32.powi(-13) - 2f32.powi(-22);
    for columns in [2048, 4096, 32_768, 140_000] {
        let mut rows = vec![0.0; 3 * columns];
        rows[columns..2 * columns].fill(1.0);
        rows[2 * columns..][..columns / 2].fill(2.0 * (1.0 - 1e-5));
        item_1_is_best_in_bytes(&rows, &vec![term; columns]);
    }
}

#[test]
fn bytes_give_the_exact_result_where_products_vanish() {
    // Every product of item 1 is 2^-51, but that of its code, 2^-11, is below the smallest f32.
    let columns = 2048;
    let mut rows = vec![0.0; 3 * columns];
    rows[columns..2 * columns].fill(2f32.powi(89));
    rows[columns] = 2f32.powi(100);
    rows[2 * columns + 1] = 2f32.powi(99);
    let mut query = vec![f32::from_bits(1 << 9); columns]; // 2^-140
    query[0] = 0.0;
    item_1_is_best_in_bytes(&rows, &query);
}

#[test]
fn cells_find_everything_when_all_are_probed_and_k_however_few_are_allowed() {
    let random = &mut ChaCha8Rng::seed_from_u64(3);
    let table = table(random, 500);
    let config = IvfConfig { cell_dim: 24, scan_dim: 64, cells: 12, iterations: 5, seed: 9 };
    let index = Ivf::new(Arc::clone(&table), config, 1).unwrap();
    let again = Ivf::new(Arc::clone(&table), config, 2).unwrap();
    for _ in 0..20 {
        let query = values(random, 256);
        let exact = |filter: &Filter<'_>| table.search(&query, 10, filter, 1).unwrap();
        let all = Probe { cells: 12, shortlist: 500 };
        assert_eq!(index.search(&query, 10, all, &Filter::all()).unwrap(), exact(&Filter::all()));
        let one = Probe { cells: 1, shortlist: 1 };
        let few = Bitset::from_ids(500, (1..=500).filter(|_| random.random_bool(0.05))).unwrap();
        let found = index.search(&query, 10, one, &Filter::all().allow(&few)).unwrap();
        assert_eq!(found.len(), 10.min(few.count()));
        assert!(found.iter().all(|scored| few.contains(scored.id)));
        assert_eq!(found, again.search(&query, 10, one, &Filter::all().allow(&few)).unwrap());
        let rare = Bitset::from_ids(500, [7, 77, 177]).unwrap();
        assert_eq!(
            index.search(&query, 10, one, &Filter::all().allow(&rare)).unwrap(),
            exact(&Filter::all().allow(&rare))
        );
    }
}

#[test]
fn cells_that_are_none() {
    let table = table(&mut ChaCha8Rng::seed_from_u64(4), 30);
    let good = IvfConfig { cell_dim: 24, scan_dim: 64, cells: 3, iterations: 2, seed: 1 };
    let built = |config: IvfConfig| Ivf::new(Arc::clone(&table), config, 1);
    let refused = |cells, iterations| built(IvfConfig { cells, iterations, ..good }).unwrap_err();
    for (cells, iterations) in [(0, 2), (31, 2), (3, 0), (3, 101)] {
        assert_eq!(refused(cells, iterations), RetrievalError::Cells { cells, iterations, most_cells: 30 });
    }
    assert!(matches!(built(IvfConfig { cell_dim: 25, ..good }), Err(RetrievalError::Untrained { dim: 25, .. })));
    for value in [1e13f32, 1e20] {
        let long = Arc::new(NestedTable::new(&[0.0, value, value], &[1]).unwrap());
        let config = IvfConfig { cell_dim: 1, scan_dim: 1, cells: 1, iterations: 1, seed: 1 };
        let error = Ivf::new(long, config, 1).unwrap_err();
        assert_eq!(error, RetrievalError::Centres { length: f64::from(value) });
    }
    let index = built(good).unwrap();
    for (dim, cells, shortlist) in [(24, 1, 1), (64, 0, 1), (64, 4, 1), (64, 1, 0)] {
        let error = index.search(&vec![0.5; dim], 3, Probe { cells, shortlist }, &Filter::all()).unwrap_err();
        assert_eq!(error, RetrievalError::Probe { dim, least_dim: 64, cells: 3 });
    }
}

/// Columns whose variance falls: what a nested training makes.
fn decaying(random: &mut ChaCha8Rng, count: usize, width: usize) -> Vec<f32> {
    (0..count * width).map(|at| random.random_range(-1.0f32..1.0) / (1.0 + (at % width) as f32).sqrt()).collect()
}

#[test]
fn tuning_reaches_the_recall_on_queries_it_did_not_see() {
    let random = &mut ChaCha8Rng::seed_from_u64(6);
    let dims = [8, 16, 32, 64];
    let table = Arc::new(NestedTable::new(&decaying(random, EXACT_ITEMS + 1, 64), &dims).unwrap());
    let queries = decaying(random, 60, 64);
    let config = TuneConfig { k: 10, recall: 0.9, ivf: None, threads: 1 };
    let tuned = tune(&table, &queries, 64, &config).unwrap();
    assert!(tuned.cost_bytes < tuned.exact_bytes / 2, "{tuned:?}");
    assert!(tuned.held_out_recall > 0.85, "{tuned:?}");
    assert_eq!(tuned, tune(&table, &queries, 64, &config).unwrap());
    let text = serde_json::to_string(&tuned).unwrap();
    assert_eq!(tuned, serde_json::from_str(&text).unwrap());
}

/// Sixteen heaps of items, one at each end of each axis; who looks at an end wants its heap and nothing else. A table of
/// one dim allows no funnel.
#[test]
fn tuning_chooses_cells_where_items_lie_in_heaps() {
    let random = &mut ChaCha8Rng::seed_from_u64(9);
    let mut heaped = |count: usize| {
        let mut rows: Vec<f32> = (0..count * 8).map(|_| random.random_range(-0.5..0.5)).collect();
        for (at, row) in rows.chunks_exact_mut(8).enumerate() {
            row[at % 8] += if at % 16 < 8 { 10.0 } else { -10.0 };
        }
        rows
    };
    // Row 0 is PAD.
    let rows = [vec![0.0; 8], heaped(EXACT_ITEMS)].concat();
    let (table, queries) = (Arc::new(NestedTable::new(&rows, &[8]).unwrap()), heaped(64));
    let ivf = Some(IvfConfig { cell_dim: 8, scan_dim: 8, cells: 64, iterations: 3, seed: 1 });
    let tuned = tune(&table, &queries, 8, &TuneConfig { k: 10, recall: 0.9, ivf, threads: 1 }).unwrap();
    let Plan::Ivf { index, probe } = tuned.plan else { panic!("{tuned:?}") };
    assert!(tuned.cost_bytes < tuned.exact_bytes / 2 && tuned.held_out_recall > 0.85, "{tuned:?}");
    // The plan is the search that was measured, on every query.
    let cells = Ivf::new(Arc::clone(&table), index, 1).unwrap();
    let found = |query| cells.search(query, 10, probe, &Filter::all()).unwrap();
    let exact = |query| table.search(query, 10, &Filter::all(), 1).unwrap();
    let hits = |query| found(query).iter().filter(|scored| exact(query).contains(scored)).count();
    assert!(queries.chunks_exact(8).map(hits).sum::<usize>() > 64 * 8);
}

#[test]
fn tuning_for_a_large_k_tries_no_shortlist_that_is_refused() {
    let random = &mut ChaCha8Rng::seed_from_u64(8);
    let table = Arc::new(NestedTable::new(&decaying(random, EXACT_ITEMS + 1, 16), &[8, 16]).unwrap());
    let queries = decaying(random, 20, 16);
    let ivf = Some(IvfConfig { cell_dim: 8, scan_dim: 8, cells: 2, iterations: 1, seed: 1 });
    let config = TuneConfig { k: MAX_K, recall: 0.9, ivf, threads: 1 };
    let tuned = tune(&table, &queries, 16, &config).unwrap();
    assert!(tuned.held_out_recall > 0.85, "{tuned:?}");
}

#[test]
fn a_small_table_is_searched_exactly() {
    let random = &mut ChaCha8Rng::seed_from_u64(7);
    let table = Arc::new(NestedTable::new(&decaying(random, 1000, 64), &[8, 64]).unwrap());
    let config = TuneConfig { k: 10, recall: 0.5, ivf: None, threads: 1 };
    let queries = decaying(random, 20, 64);
    assert_eq!(tune(&table, &queries, 64, &config).unwrap().plan, Plan::Exact);
    let refused =
        |queries: &[f32], recall: f64| tune(&table, queries, 64, &TuneConfig { recall, ..config.clone() }).unwrap_err();
    assert_eq!(refused(&queries[64..], 0.5), RetrievalError::Tuning { queries: 19, recall: 0.5 });
    assert_eq!(refused(&queries, 0.0), RetrievalError::Tuning { queries: 20, recall: 0.0 });
    assert_eq!(refused(&queries, 1.5), RetrievalError::Tuning { queries: 20, recall: 1.5 });
}

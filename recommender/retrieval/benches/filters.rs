//! What a filter costs at each selectivity: `cargo run --release -p retrieval --example filters`.
//!
//! Beside the scan that skips and the function asked for each candidate (the older interface): what it
//! would cost to search without a filter for k / selectivity results and throw the rest away.
#![allow(clippy::print_stdout)]

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retrieval::{Bitset, Filter, NestedTable};

const ITEMS: usize = 100_000;
const K: usize = 10;
const TURNS: usize = 7;

fn main() {
    let random = &mut ChaCha8Rng::seed_from_u64(7);
    let dims = [64, 1024];
    let rows: Vec<f32> = (0..(ITEMS + 1) * 1024).map(|_| random.random_range(-1.0..1.0)).collect();
    let table = NestedTable::new(&rows, &dims).expect("a table");
    drop(rows);
    println!("{ITEMS} items, k = {K}, one thread, milliseconds of CPU time, median of {TURNS} turns of 20 queries\n");
    println!("| dim | allowed at random | in the scan | asked one by one | search wider, then filter |");
    println!("|---|---|---|---|---|");
    for dim in dims {
        let queries: Vec<f32> = (0..20 * dim).map(|_| random.random_range(-1.0..1.0)).collect();
        for share in [1.0, 0.5, 0.1, 0.01, 0.001, 0.0001] {
            let allow = Bitset::from_ids(ITEMS, (1..=ITEMS as u32).filter(|_| random.random_bool(share)));
            row(&table, &queries, dim, share, &allow.expect("ids of the table"));
        }
    }
}

/// Searches for one query and says how many results came.
type Way<'a> = &'a dyn Fn(&[f32]) -> usize;

fn row(table: &NestedTable, queries: &[f32], dim: usize, share: f64, allow: &Bitset) {
    let filter = Filter::all().allow(allow);
    let scan = |query: &[f32]| table.search(query, K, &filter, 1).expect("a search").len();
    let asked = |query: &[f32]| table.top_k(query, K, &|id| allow.contains(id)).expect("a search").len();
    let wide = (K as f64 / share * 1.5) as usize;
    let wider = |query: &[f32]| {
        let found = table.search(query, wide.min(retrieval::MAX_K), &Filter::all(), 1).expect("a search");
        found.iter().filter(|scored| allow.contains(scored.id)).take(K).count()
    };
    let ways: [Way<'_>; 3] = [&scan, &asked, &wider];
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..TURNS {
        for (way, times) in ways.iter().zip(&mut times) {
            for query in queries.chunks_exact(dim) {
                let start = cpu_seconds();
                std::hint::black_box(way(query));
                times.push((cpu_seconds() - start) * 1e3);
            }
        }
    }
    let [scan, asked, wider] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times[times.len() / 2]
    });
    let wider = if wide > retrieval::MAX_K { "k results are not sure".to_owned() } else { format!("{wider:.3}") };
    println!("| {dim} | {}% | {scan:.3} | {asked:.3} | {wider} |", share * 100.0);
}

/// CPU seconds of this process: a process that waits for its core is not charged for it.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

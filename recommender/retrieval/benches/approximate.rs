//! Funnels, bytes and cells against exact search, in turns: recall@10 and milliseconds of CPU time of one thread.
//!
//! ```sh
//! cargo run --release -p retrieval --example approximate -- synthetic ITEMS DECAY
//! cargo run --release -p retrieval --example approximate -- bundle ITEM_TABLE.safetensors DIM[,DIM...]
//! ```
//! `synthetic` makes items and queries of 1024 columns, each an independent normal whose variance falls as
//! (1 + column)^-DECAY. `bundle` reads the item table of a trained Bundle; every 50th item's vector is a query.
#![allow(clippy::print_stdout)]

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use retrieval::{
    CodedTable, Filter, Funnel, Ivf, IvfConfig, NestedTable, Plan, Precision, Probe, Scored, Stage, TuneConfig, tune,
};
use std::sync::Arc;
use std::time::Instant;

const K: usize = 10;
const TURNS: usize = 5;
const TIMED_QUERIES: usize = 50;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words[..] {
        ["synthetic", items, decay] => synthetic(items.parse().expect("ITEMS"), decay.parse().expect("DECAY")),
        ["bundle", file, dims] => {
            bundle(file, &dims.split(',').map(|dim| dim.parse().expect("DIM")).collect::<Vec<_>>())
        }
        _ => panic!("synthetic ITEMS DECAY, or bundle FILE DIMS"),
    }
}

fn synthetic(items: usize, decay: f32) {
    let random = &mut ChaCha8Rng::seed_from_u64(7);
    let dims = [8, 16, 32, 64, 128, 256, 512, 1024];
    let deviations: Vec<f32> = (0..1024).map(|column| (1.0 + column as f32).powf(-decay / 2.0)).collect();
    let mut vectors = |count: usize| {
        let mut values = Vec::with_capacity(count * 1024);
        (0..count).for_each(|_| values.extend(deviations.iter().map(|deviation| normal(random) * deviation)));
        values
    };
    println!("{items} items x 1024, variance (1 + column)^-{decay}\n");
    let (rows, queries) = (vectors(items + 1), vectors(400));
    let table = Arc::new(NestedTable::new(&rows, &dims).expect("a table"));
    drop(rows);
    compare(&table, &queries, 1024);
}

fn bundle(file: &str, dims: &[usize]) {
    let bytes = std::fs::read(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let (name, tensor) = tensors.iter().next().expect("a tensor");
    let rows: Vec<f32> =
        tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect();
    let dim = dims[dims.len() - 1];
    let table = Arc::new(NestedTable::new(&rows, dims).expect("a table"));
    println!("{name} {:?}: {} items\n", tensor.shape(), table.items());
    let queries: Vec<f32> = (1..=table.items() as u32)
        .step_by((table.items() / 400).max(1))
        .take(400)
        .flat_map(|id| table.vector(id, dim).expect("an item"))
        .collect();
    compare(&table, &queries, dim);
}

/// One way to search.
struct Method<'a> {
    name: String,
    search: Search<'a>,
}

type Search<'a> = Box<dyn Fn(&[f32]) -> Vec<Scored> + 'a>;

fn compare(table: &Arc<NestedTable>, queries: &[f32], dim: usize) {
    let all = Filter::all();
    let coded = |precision| CodedTable::new(Arc::clone(table), dim, precision).expect("codes");
    let (bytes, halves) = (coded(Precision::Int8), coded(Precision::Half));
    let cells = (table.items() as f64).sqrt() as usize;
    let scan_dim = *table.dims().iter().find(|&&small| small >= 64.min(dim)).expect("a dim");
    let index = IvfConfig { cell_dim: scan_dim, scan_dim, cells, iterations: 10, seed: 7 };
    let start = Instant::now();
    let ivf = Ivf::new(Arc::clone(table), index, 1).expect("cells");
    println!("{cells} cells at dim {scan_dim} built in {:.1} s, one thread.", start.elapsed().as_secs_f64());
    let all = &all;
    let mut methods = vec![Method {
        name: "exact".into(),
        search: Box::new(move |query| table.search(query, K, all, 1).expect("a search")),
    }];
    methods.push(Method {
        name: "int8, exact by proof".into(),
        search: Box::new(|query| bytes.search(query, K, all, 1).expect("a search")),
    });
    methods.push(Method {
        name: "f16, exact by proof".into(),
        search: Box::new(|query| halves.search(query, K, all, 1).expect("a search")),
    });
    for stages in stages_of(table.dims(), dim) {
        let name = stages.iter().map(|stage| format!("{} ({})", stage.dim, stage.shortlist)).collect::<Vec<_>>();
        let funnel = Funnel { stages };
        methods.push(Method {
            name: format!("funnel {} -> {dim}", name.join(" -> ")),
            search: Box::new(move |query| table.search_funnel(query, K, &funnel, all, 1).expect("a search")),
        });
    }
    for probes in [8, 16, 32, 64] {
        let probe = Probe { cells: probes.min(cells), shortlist: 400 };
        let ivf = &ivf;
        methods.push(Method {
            name: format!("{} cells of {cells}, shortlist 400", probe.cells),
            search: Box::new(move |query| ivf.search(query, K, probe, all).expect("a search")),
        });
    }
    for recall in [0.95, 0.99, 0.999] {
        let config = TuneConfig { k: K, recall, ivf: Some(index), threads: 1 };
        let start = Instant::now();
        let tuned = tune(table, queries, dim, &config).expect("tuned");
        let seconds = start.elapsed().as_secs_f64();
        println!("Recall {recall} ({seconds:.1} s): {:?}, held out {:.4}.", tuned.plan, tuned.held_out_recall);
        if let Plan::Funnel(funnel) = tuned.plan {
            methods.push(Method {
                name: format!("tuned for {recall}"),
                search: Box::new(move |query| table.search_funnel(query, K, &funnel, all, 1).expect("a search")),
            });
        }
    }
    report(&methods, queries, dim);
}

/// Funnels of the issue, and one stage more.
fn stages_of(dims: &[usize], dim: usize) -> Vec<Vec<Stage>> {
    let lists: [&[(usize, usize)]; 7] = [
        &[(64, 400)],
        &[(64, 1000)],
        &[(32, 1000)],
        &[(64, 400), (256, 50)],
        &[(64, 1000), (256, 100)],
        &[(32, 2000), (128, 200)],
        &[(16, 5000), (64, 500), (256, 50)],
    ];
    let known = |stages: &&[(usize, usize)]| stages.iter().all(|&(at, _)| at < dim && dims.contains(&at));
    let stages = |stages: &[(usize, usize)]| stages.iter().map(|&(dim, shortlist)| Stage { dim, shortlist }).collect();
    lists.into_iter().filter(known).map(stages).collect()
}

fn report(methods: &[Method<'_>], queries: &[f32], dim: usize) {
    let found: Vec<Vec<Vec<Scored>>> =
        methods.iter().map(|method| queries.chunks_exact(dim).map(|query| (method.search)(query)).collect()).collect();
    let mut medians = vec![Vec::new(); methods.len()];
    for _ in 0..TURNS {
        for (method, medians) in methods.iter().zip(&mut medians) {
            let times = queries.chunks_exact(dim).take(TIMED_QUERIES).map(|query| {
                let start = cpu_seconds();
                std::hint::black_box((method.search)(query));
                (cpu_seconds() - start) * 1e3
            });
            medians.push(median(times.collect()));
        }
    }
    println!(
        "\n| one thread, {} queries, median of {TURNS} turns | recall@10 | CPU ms | turns | times exact |",
        queries.len() / dim
    );
    println!("|---|---|---|---|---|");
    let exact = median(medians[0].clone());
    for ((method, found_by), times) in methods.iter().zip(&found).zip(&medians) {
        let (ms, low, high) =
            (median(times.clone()), least(times), -least(&times.iter().map(|ms| -ms).collect::<Vec<_>>()));
        let recall = recall(found_by, &found[0]);
        println!("| {} | {recall:.4} | {ms:.3} | {low:.3} to {high:.3} | {:.1} |", method.name, exact / ms);
    }
}

fn recall(found: &[Vec<Scored>], truth: &[Vec<Scored>]) -> f64 {
    let hits = found.iter().zip(truth).map(|(found, truth)| truth.iter().filter(|best| found.contains(best)).count());
    hits.sum::<usize>() as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn least(values: &[f64]) -> f64 {
    values.iter().copied().fold(f64::INFINITY, f64::min)
}

/// CPU seconds of this process: a process that waits for its core is not charged for it.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// Box and Muller's.
fn normal(random: &mut ChaCha8Rng) -> f32 {
    let (a, b): (f32, f32) = (1.0 - random.random::<f32>(), random.random());
    (-2.0 * a.ln()).sqrt() * (std::f32::consts::TAU * b).cos()
}

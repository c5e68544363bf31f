//! Our side of the comparison with other libraries: answers commands on standard input, one a line, so
//! that `peers.py` can time us and them in turns on the same data.
//!
//! ```text
//! table FILE ROWS DIM[,DIM...]     raw f32 of this machine [ROWS, last dim]; row 0 is PAD
//! random ROWS DIM[,DIM...] SEED    the same, made here, with 256 queries
//! queries FILE COUNT DIM           raw f32 [COUNT, DIM]
//! run DIM BATCH THREADS K TURNS    {"ms": [wall, one a batch], "cpu_ms": [...], "ids": [[k ids] a query]}
//! ```
#![allow(clippy::print_stdout)]

use rand::{Rng, SeedableRng};
use retrieval::{Filter, NestedTable};
use std::io::{BufRead, Read, Write};
use std::time::Instant;

fn main() {
    let mut bench = Bench::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("standard input is text");
        let words: Vec<&str> = line.split_whitespace().collect();
        let answer = match words[..] {
            ["table", file, rows, dims] => bench.table(&floats(file), number(rows), &list(dims)),
            ["random", rows, dims, seed] => bench.random(number(rows), &list(dims), number(seed) as u64),
            ["queries", file, count, dim] => bench.queries(floats(file), number(count), number(dim)),
            ["run", dim, batch, threads, k, turns] => {
                bench.run(number(dim), number(batch), number(threads), number(k), number(turns))
            }
            _ => panic!("unknown command {line:?}"),
        };
        println!("{answer}");
        std::io::stdout().flush().expect("standard output is open");
    }
}

#[derive(Default)]
struct Bench {
    table: Option<NestedTable>,
    queries: Vec<f32>,
    width: usize,
}

impl Bench {
    fn table(&mut self, values: &[f32], rows: usize, dims: &[usize]) -> String {
        assert_eq!(values.len(), rows * dims[dims.len() - 1], "rows and dims fit the file");
        self.table = None;
        self.table = Some(NestedTable::new(values, dims).expect("a table"));
        format!("{{\"rows\": {rows}}}")
    }

    fn random(&mut self, rows: usize, dims: &[usize], seed: u64) -> String {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let mut values = |count: usize| (0..count).map(|_| random.random_range(-1.0..1.0)).collect::<Vec<f32>>();
        let width = dims[dims.len() - 1];
        let (table, queries) = (values(rows * width), values(256 * width));
        (self.queries, self.width) = (queries, width);
        self.table(&table, rows, dims)
    }

    fn queries(&mut self, values: Vec<f32>, count: usize, dim: usize) -> String {
        assert_eq!(values.len(), count * dim, "count and dim fit the file");
        (self.queries, self.width) = (values, dim);
        format!("{{\"queries\": {count}}}")
    }

    fn run(&self, dim: usize, batch: usize, threads: usize, k: usize, turns: usize) -> String {
        let table = self.table.as_ref().expect("a table comes first");
        let queries: Vec<f32> =
            self.queries.chunks_exact(self.width).flat_map(|query| &query[..dim]).copied().collect();
        let (mut ms, mut cpu_ms, mut ids) = (Vec::new(), Vec::new(), Vec::new());
        for turn in 0..turns {
            ids.clear();
            for batch in queries.chunks_exact(dim * batch) {
                let (start, cpu) = (Instant::now(), cpu_seconds());
                let results = if batch.len() == dim {
                    vec![table.search(batch, k, &Filter::all(), threads).expect("a search")]
                } else {
                    table.top_k_batch(batch, dim, k, &[Filter::all()], threads).expect("a batch")
                };
                ms.push(start.elapsed().as_secs_f64() * 1e3);
                cpu_ms.push((cpu_seconds() - cpu) * 1e3);
                ids.extend(results.into_iter().map(|result| result.iter().map(|best| best.id).collect::<Vec<_>>()));
            }
            // One turn over many single queries is enough.
            if turn == 0 && ms.len() >= turns {
                break;
            }
        }
        serde_json::json!({"ms": ms, "cpu_ms": cpu_ms, "ids": ids}).to_string()
    }
}

/// CPU time of all threads of this process.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

fn floats(file: &str) -> Vec<f32> {
    let read = || -> std::io::Result<Vec<f32>> {
        let bytes = std::fs::metadata(file)?.len();
        // Read in place: a million rows are 4 GiB, and twice that would not fit beside the peers.
        let mut values = vec![0.0f32; bytes as usize / size_of::<f32>()];
        std::fs::File::open(file)?.read_exact(bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    };
    read().unwrap_or_else(|error| panic!("{file}: {error}"))
}

fn list(text: &str) -> Vec<usize> {
    text.split(',').map(number).collect()
}

fn number(text: &str) -> usize {
    text.parse().unwrap_or_else(|_| panic!("{text:?} is not a number"))
}

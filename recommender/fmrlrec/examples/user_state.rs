//! What an event costs when the user's state is carried on by one step, beside a forward pass over the
//! newest items, at histories from 10 to 10,000; and, given a Snapshot, what the longer window that carried
//! states read does to quality.
//!
//! `cargo run --release --package fmrlrec --example user_state -- BUNDLE [SNAPSHOT]`

use feature_store::Snapshot;
use fmrlrec::{Bundle, LeaveOneOut, Split};
use std::path::Path;
use std::time::Instant;

/// Times that each cost is measured; the median counts.
const ROUNDS: usize = 7;
/// Events a round.
const EVENTS: usize = 50;
/// Rank up to which a test item counts.
const CUT: usize = 10;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let Some(bundle) = args.first() else {
        say("usage: user_state BUNDLE [SNAPSHOT]");
        std::process::exit(2);
    };
    let bundle = Bundle::open(Path::new(bundle)).expect("a Bundle");
    costs(&bundle);
    if let Some(snapshot) = args.get(1) {
        quality(&bundle, &Snapshot::open(Path::new(snapshot)).expect("a Snapshot"));
    }
}

#[expect(clippy::print_stdout, reason = "the numbers are what the program is for")]
fn say(line: &str) {
    println!("{line}");
}

/// Microseconds of `work`, a median of [`ROUNDS`], and the spread around it.
fn median_us(mut work: impl FnMut()) -> (f64, f64, f64) {
    let mut times: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begun = Instant::now();
            (0..EVENTS).for_each(|_| work());
            begun.elapsed().as_secs_f64() * 1e6 / EVENTS as f64
        })
        .collect();
    times.sort_by(f64::total_cmp);
    (times[ROUNDS / 2], times[0], times[ROUNDS - 1])
}

fn costs(bundle: &Bundle) {
    let (max_len, items) = (bundle.max_history(), bundle.items().len() as u32);
    let dim = *bundle.dims().last().expect("a Bundle has dims");
    say(&format!("dim {dim}, max_len {max_len}: microseconds an event, median (least to most) of {ROUNDS}"));
    say("| history | one step | forward over the newest | forward over all |");
    say("|---|---|---|---|");
    for len in [10_usize, 100, 1_000, 10_000] {
        let history: Vec<u32> = (0..len as u32).map(|at| at * 7 % items + 1).collect();
        let state = bundle.fold(&history, dim).expect("a trained dim");
        let shown = |(median, least, most): (f64, f64, f64)| format!("{median:.0} ({least:.0} to {most:.0})");
        let step = median_us(|| drop(bundle.advance(&state, 1).expect("an item")));
        let newest = median_us(|| drop(bundle.user_vector(&history, dim).expect("a trained dim")));
        let begun = Instant::now();
        drop(bundle.fold(&history, dim).expect("a trained dim"));
        let all = begun.elapsed().as_secs_f64() * 1e6;
        say(&format!("| {len} | {} | {} | {all:.0} |", shown(step), shown(newest)));
    }
}

/// Leave-one-out, every item ranked: the newest `max_len` items, and the service's window.
fn quality(bundle: &Bundle, snapshot: &Snapshot) {
    let users = snapshot.users().expect("a sound Snapshot").len();
    let mut sequences = vec![Vec::new(); users];
    for row in snapshot.interactions().expect("a sound Snapshot") {
        sequences[row.user as usize].push(row.item);
    }
    let split = LeaveOneOut::new(sequences);
    let max_len = bundle.max_history();
    say("| dim | Recall@10, newest max_len | NDCG@10 | Recall@10, carried window | NDCG@10 |");
    say("|---|---|---|---|---|");
    for &dim in bundle.dims() {
        let newest = mean(&split, bundle, dim, |history| history.len().saturating_sub(max_len));
        let carried = mean(&split, bundle, dim, |history| {
            // As recommender/service/src/kept.rs says.
            (history.len() - history.len() % max_len).saturating_sub(max_len)
        });
        say(&format!("| {dim} | {:.4} | {:.4} | {:.4} | {:.4} |", newest.0, newest.1, carried.0, carried.1));
    }
}

fn mean(split: &LeaveOneOut, bundle: &Bundle, dim: usize, from: impl Fn(&[u32]) -> usize) -> (f64, f64) {
    let width = *bundle.dims().last().expect("a Bundle has dims");
    let (mut recall, mut ndcg, mut users) = (0.0, 0.0, 0.0);
    for (history, target) in split.held_out(Split::Test) {
        let state = bundle.fold(&history[from(history)..], dim).expect("a trained dim");
        let score = |id: u32| -> f32 {
            let row = &bundle.item_table()[id as usize * width..][..dim];
            row.iter().zip(state.vector()).map(|(a, b)| a * b).sum()
        };
        let wanted = score(target);
        // Not below, so that a score that is no number never improves a rank.
        let ahead = |id: &u32| *id != target && score(*id).partial_cmp(&wanted) != Some(std::cmp::Ordering::Less);
        let rank = (1..=bundle.items().len() as u32).filter(ahead).count();
        users += 1.0;
        if rank < CUT {
            recall += 1.0;
            ndcg += 1.0 / (rank as f64 + 2.0).log2();
        }
    }
    (recall / users, ndcg / users)
}

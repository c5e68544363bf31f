//! What an event costs when the user's state is carried on by one step, beside a forward pass over the
//! newest items, at histories from 10 to 10,000; and, given a Snapshot, what the longer window that carried
//! states read does to quality.
//!
//! `cargo run --release --package fmrlrec --example user_state -- BUNDLE [SNAPSHOT]`

use feature_store::Snapshot;
use fmrlrec::{Bundle, LeaveOneOut, Split, metrics_of_ranks, ranks_at_dims};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

/// Times that each cost is measured; the median counts.
const ROUNDS: usize = 7;
/// Events a round.
const EVENTS: usize = 50;

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
    let split = LeaveOneOut::new(snapshot.sequences().expect("a sound Snapshot"));
    let max_len = bundle.max_history();
    let newest = metrics(&split, bundle, |history| history.len().saturating_sub(max_len));
    let carried = metrics(&split, bundle, |history| {
        // As recommender/service/src/kept.rs says.
        (history.len() - history.len() % max_len).saturating_sub(max_len)
    });
    say("| dim | Recall@10, newest max_len | NDCG@10 | Recall@10, carried window | NDCG@10 |");
    say("|---|---|---|---|---|");
    for ((dim, newest), carried) in bundle.dims().iter().zip(newest).zip(carried) {
        let shown = |metrics: &Metrics| format!("{:.4} | {:.4}", metrics["recall@10"], metrics["ndcg@10"]);
        say(&format!("| {dim} | {} | {} |", shown(&newest), shown(&carried)));
    }
}

type Metrics = BTreeMap<String, f64>;

/// At each dim, of users who are read from the item of their history that `from` says.
fn metrics(split: &LeaveOneOut, bundle: &Bundle, from: impl Fn(&[u32]) -> usize) -> Vec<Metrics> {
    let largest = *bundle.dims().last().expect("a Bundle has dims");
    let (mut users, mut targets) = (Vec::new(), Vec::new());
    for (history, target) in split.held_out(Split::Test) {
        let state = bundle.fold(&history[from(history)..], largest).expect("a trained dim");
        users.extend_from_slice(state.vector());
        targets.push(target);
    }
    let ranks = ranks_at_dims(&users, bundle.item_table(), &targets, bundle.dims());
    ranks.iter().map(|ranks| metrics_of_ranks(ranks)).collect()
}

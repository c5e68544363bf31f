//! `tune`: Bundle -> the same Bundle with a search plan for each dim, for a stated recall.

use crate::alone::{Alone, folder};
use crate::arguments::TuneArgs;
use crate::artefacts::{check_bundle, open_bundle, open_snapshot};
use crate::failure::bad_input;
use crate::output::say;
use anyhow::Context as _;
use fmrlrec::Bundle;
use retrieval::{EXACT_ITEMS, MIN_TUNING_QUERIES, Plan, Tuned};
use service::{TuneRequest, tune_bundle};
use std::path::Path;

/// Chooses the plans, writes them into the Bundle and says what they are.
pub(crate) fn run(args: &TuneArgs) -> anyhow::Result<()> {
    check_bundle(&args.bundle)?;
    let _alone = Alone::take(&folder(&args.bundle))?;
    let bundle = open_bundle(&args.bundle)?;
    if let Some(dim) = args.dim.filter(|dim| !bundle.dims().contains(dim)) {
        return Err(bad_input(format!("--dim {dim} was not trained; give one of {:?}", bundle.dims())));
    }
    let histories = match &args.snapshot {
        Some(snapshot) => histories(&bundle, snapshot)?,
        None => Vec::new(),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(retrieval::MAX_THREADS);
    let request = TuneRequest {
        recall: args.recall,
        k: args.k,
        dims: args.dim.into_iter().collect(),
        queries: args.queries,
        seed: args.seed,
        threads,
    };
    let mut tuned = tune_bundle(&bundle, &request, &histories)?;
    if let Some(dim) = args.dim {
        tuned.extend(kept(&bundle)?.into_iter().filter(|other| other.dim != dim));
        tuned.sort_by_key(|tuned| tuned.dim);
    }
    let text = serde_json::to_string_pretty(&tuned).context("writing the plans as JSON")?;
    bundle.write_search_plans(&args.bundle, &(text + "\n"))?;
    let items = bundle.items().len();
    if items < EXACT_ITEMS {
        say(&format!("{items} items are fewer than {EXACT_ITEMS}: exact search is the plan at every dim"))?;
    }
    tuned.iter().try_for_each(|tuned| say(&line(tuned)))?;
    say("a tier with search = \"tuned\" uses them")
}

/// Plans of the other dims, if the Bundle has some.
fn kept(bundle: &Bundle) -> anyhow::Result<Vec<Tuned>> {
    bundle.search_plans().map_or(Ok(Vec::new()), |text| {
        serde_json::from_str(text).map_err(|error| {
            bad_input(format!("the Bundle's search plans are unreadable ({error}); tune without --dim"))
        })
    })
}

/// Each user's history of a Snapshot, in the Bundle's ids.
fn histories(bundle: &Bundle, dir: &Path) -> anyhow::Result<Vec<Vec<u32>>> {
    let snapshot = open_snapshot(dir)?;
    let ids: Vec<Option<u32>> = snapshot.items()?.iter().map(|item| bundle.vocabulary().id(&item.key)).collect();
    let of_bundle = |sequence: Vec<u32>| -> Vec<u32> {
        sequence.into_iter().filter_map(|id| ids.get(id as usize - 1).copied().flatten()).collect()
    };
    let histories: Vec<Vec<u32>> = snapshot.sequences()?.into_iter().map(of_bundle).collect();
    if ids.iter().all(Option::is_none) {
        let dir = dir.display();
        return Err(bad_input(format!("--snapshot {dir} has no item of the Bundle; name the one it was trained on")));
    }
    if histories.len() < MIN_TUNING_QUERIES {
        return Err(bad_input(format!(
            "--snapshot {} has the histories of {} users, and at least {MIN_TUNING_QUERIES} are needed; leave it out",
            dir.display(),
            histories.len()
        )));
    }
    Ok(histories)
}

fn line(tuned: &Tuned) -> String {
    let plan = match &tuned.plan {
        Plan::Exact => "exact".to_owned(),
        Plan::Coded(precision) => format!("{precision:?} beside the table, exact by proof"),
        Plan::Funnel(funnel) => {
            let stages = funnel.stages.iter().map(|stage| format!("{} ({})", stage.dim, stage.shortlist));
            format!("funnel {} -> {}", stages.collect::<Vec<_>>().join(" -> "), tuned.dim)
        }
        Plan::Ivf { index, probe } => {
            let (of, at, scan) = (index.cells, index.cell_dim, index.scan_dim);
            format!("{} of {of} cells at dim {at} scanned at dim {scan}, shortlist {}", probe.cells, probe.shortlist)
        }
    };
    let share = tuned.cost_bytes as f64 / tuned.exact_bytes.max(1) as f64;
    let (found, asked) = (tuned.held_out_recall, tuned.config.recall);
    let below = match found < asked {
        true => format!(", below the {asked} asked for: tune with more --queries, or for a higher --recall"),
        false => String::new(),
    };
    format!(
        "dim {}: {plan}; recall@{} {found:.4} on {} queries that did not choose it{below}; reads {:.1}% of an exact search",
        tuned.dim,
        tuned.config.k,
        tuned.held_out_queries,
        100.0 * share
    )
}

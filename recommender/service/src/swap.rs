//! Serving another Bundle without a restart: open and verify, check that the tiers fit, compare on requests
//! of late, switch, compute known users' vectors anew. Whatever goes wrong before the switch leaves the old Bundle
//! serving; the switch itself is one pointer, and running requests end on the Bundle they hold.

use crate::compute::{Query, Search, top_k_batch};
use crate::problem::Problem;
use crate::recent::Asked;
use crate::served::{ServedBundle, Trial};
use crate::serving::Serving;
use crate::tiers::SearchMode;
use crate::view::View;
use actix_web::web;
use fmrlrec::Bundle;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Items compared between the two Bundles, for each request.
const COMPARED: usize = 10;

/// What a load found out.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(crate) struct SwapReport {
    /// Bundle that was loaded.
    bundle_id: String,
    /// Bundle that was served before.
    previous_bundle_id: String,
    /// Requests of late that both Bundles answered.
    compared: usize,
    /// Mean share of the first ten items that both answer; null if nothing was asked yet. The items of
    /// two Bundles are compared by key.
    overlap: Option<f64>,
    /// Time to open, verify and lay out, in milliseconds.
    load_ms: u64,
    /// Items that came after training and that it serves.
    added_items: usize,
    /// Stored items that it cannot place: it knows none of their features, or expects another width.
    left_out_items: usize,
    /// Time to compare, in milliseconds.
    check_ms: u64,
    /// Known users whose vectors were computed anew, right after the switch; 0 for a dry run and for a trial, whose
    /// users are computed as they come.
    warmed_users: usize,
    /// Whether the loaded Bundle is served to all now; false for a dry run and for one on trial.
    switched: bool,
    /// Users in a thousand that it is served to.
    share_permille: u32,
    /// Whether its answers go to nobody.
    shadow: bool,
}

/// Every user, in thousandths.
pub(crate) const ALL: u32 = 1_000;
/// Longest time to compute known users' vectors anew.
const WARM_UP: Duration = Duration::from_secs(20);

/// How a load is asked for.
#[derive(Debug, Clone)]
pub(crate) struct SwapWish {
    /// Folder beside the configured one; none is the configured one.
    pub(crate) name: Option<String>,
    /// Refuse below this overlap.
    pub(crate) min_overlap: f64,
    /// Users in a thousand that get it: below 1000 it is a trial beside the Bundle of now.
    pub(crate) share_permille: u32,
    /// Whether it only ranks unseen what the Bundle of now answers to that share.
    pub(crate) shadow: bool,
    /// Do everything but switch.
    pub(crate) dry_run: bool,
}

/// Loads, checks and switches. One load at a time. It goes on when the caller goes away: half a load
/// would be a surprise to whoever asks next.
///
/// # Errors
/// 409 while another load runs; 422 for a Bundle that is refused, with the reason.
pub(crate) async fn load(serving: web::Data<Serving>, wish: SwapWish) -> Result<SwapReport, Problem> {
    actix_web::rt::spawn(async move { load_alone(&serving, wish).await }).await.map_err(Problem::internal)?
}

async fn load_alone(serving: &web::Data<Serving>, wish: SwapWish) -> Result<SwapReport, Problem> {
    let Ok(_one_at_a_time) = serving.loading.try_lock() else {
        return Err(Problem::conflict("another admin change is running; try again when it is done"));
    };
    let folder = folder_of(&serving.bundle_folder, wish.name.as_deref())?;
    let (shared, permille, shadow, dry_run) = (serving.clone(), wish.share_permille, wish.shadow, wish.dry_run);
    let loaded = web::block(move || prepare(&shared, &folder, &wish)).await.map_err(Problem::internal)?;
    let outcome = match &loaded {
        Ok(_) if dry_run => "dry_run",
        Ok((report, _)) if report.switched => "switched",
        Ok(_) => "on_trial",
        Err(_) => "refused",
    };
    serving.metrics.swaps.with_label_values(&[outcome]).inc();
    let (mut report, next) = loaded.inspect_err(|problem| {
        tracing::warn!(detail = problem.detail, "a bundle was refused; the old one keeps serving");
    })?;
    if report.switched {
        let before = switch(serving, next).await?;
        serving.metrics.bundles_are(&serving.bundle);
        report.warmed_users = take_over(serving, before).await;
    } else if !dry_run {
        tracing::info!(bundle_id = next.bundle.id(), permille, shadow, "a bundle is on trial");
        serving.bundle.set_trial(Some(Trial { served: next, permille, shadow }));
    }
    serving.metrics.bundles_are(&serving.bundle);
    Ok(report)
}

/// Ends a trial; without one, serves the Bundle before this one again, once. It goes on when the caller goes away.
///
/// # Errors
/// 409 if there is none or a load runs, or if the live tiers do not fit it.
pub(crate) async fn roll_back(serving: web::Data<Serving>) -> Result<(), Problem> {
    actix_web::rt::spawn(async move { roll_back_alone(&serving).await }).await.map_err(Problem::internal)?
}

async fn roll_back_alone(serving: &web::Data<Serving>) -> Result<(), Problem> {
    let Ok(_one_at_a_time) = serving.loading.try_lock() else {
        return Err(Problem::conflict("another admin change is running; try again when it is done"));
    };
    if serving.bundle.trial().is_some() {
        serving.bundle.set_trial(None);
        serving.metrics.swaps.with_label_values(&["trial_ended"]).inc();
        serving.metrics.bundles_are(&serving.bundle);
        return Ok(());
    }
    let previous = serving.bundle.previous().ok_or_else(|| {
        Problem::conflict(
            "there is no bundle to go back to: none was swapped in since the service started or went back",
        )
    })?;
    serving.tiers.fits(&previous.bundle.shape()).map_err(|error| Problem::conflict(error.to_string()))?;
    let before = switch(serving, previous).await?;
    // A second call, of a script that tries again, must not bring back what was gone back from.
    serving.bundle.forget_previous();
    serving.metrics.bundles_are(&serving.bundle);
    serving.metrics.swaps.with_label_values(&["rolled_back"]).inc();
    take_over(serving, before).await;
    Ok(())
}

/// Serves `next`; gives what was served before.
async fn switch(serving: &web::Data<Serving>, next: Arc<ServedBundle>) -> Result<View, Problem> {
    // Items that came while it was looked at, or while it was out of service.
    let (shared, refreshed) = (serving.clone(), Arc::clone(&next));
    let refresh = move || refreshed.refresh_items(shared.store.store(), shared.limits.added_items);
    if let Err(error) = web::block(refresh).await.map_err(Problem::internal)? {
        tracing::error!(%error, "items of the store cannot be taken in");
    }
    tracing::info!(bundle_id = next.bundle.id(), "serving another bundle");
    // What was on trial is either this one or no longer wanted.
    serving.bundle.set_trial(None);
    let before = serving.bundle.view();
    serving.bundle.swap(next);
    Ok(before)
}

/// Computes the vectors of known users anew after a switch; gives their number. Those that could not be are computed when
/// they ask.
async fn take_over(serving: &web::Data<Serving>, before: View) -> usize {
    let shared = serving.clone();
    let work = move || shared.store.take_over(&before, &shared.bundle.view(), Instant::now() + WARM_UP);
    let done = web::block(work).await.map_err(Problem::internal).and_then(|done| done);
    done.inspect_err(|problem| tracing::error!(detail = problem.detail, "users are computed as they come")).unwrap_or(0)
}

/// A folder by name beside the configured one: a caller chooses among Bundles, not among paths.
fn folder_of(configured: &Path, name: Option<&str>) -> Result<PathBuf, Problem> {
    let Some(name) = name else { return Ok(configured.to_path_buf()) };
    let plain = !name.is_empty()
        && name.len() <= 255
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'));
    if !plain {
        return Err(Problem::bad_request(
            "bundle is no folder name; send the name of a folder beside the configured bundle, without slashes",
        ));
    }
    Ok(configured.with_file_name(name))
}

/// Blocking: everything before the switch.
fn prepare(serving: &Serving, folder: &Path, wish: &SwapWish) -> Result<(SwapReport, Arc<ServedBundle>), Problem> {
    let begun = Instant::now();
    let bundle = Bundle::open(folder).map_err(refused)?;
    serving.tiers.fits(&bundle.shape()).map_err(refused)?;
    let next = ServedBundle::new(bundle, folder.to_path_buf(), (serving.clock)()).map_err(refused)?;
    let next = Arc::new(next);
    next.refresh_items(serving.store.store(), serving.limits.added_items)?;
    let load_ms = begun.elapsed().as_millis() as u64;
    let begun = Instant::now();
    let (current, seen) = (serving.bundle.view(), next.view());
    let asked = serving.recent.list();
    let mut overlaps = Vec::with_capacity(asked.len());
    for asked in &asked {
        let (old, new) = (first_items(serving, &current, asked)?, first_items(serving, &seen, asked)?);
        match (old.is_empty(), new.is_empty()) {
            (_, false) => {}
            // Whoever has seen every item is answered none by any Bundle.
            (true, true) => continue,
            (false, true) => return Err(refused("it answers a request of late with no item")),
        }
        overlaps.push(new.iter().filter(|key| old.contains(key)).count() as f64 / new.len() as f64);
    }
    if overlaps.is_empty() && wish.min_overlap > 0.0 {
        return Err(refused("min_overlap needs requests of late to compare, and there were none; send 0 without"));
    }
    let overlap = (!overlaps.is_empty()).then(|| overlaps.iter().sum::<f64>() / overlaps.len() as f64);
    if overlap.is_some_and(|overlap| overlap < wish.min_overlap) {
        let (found, least) = (overlap.unwrap_or_default(), wish.min_overlap);
        return Err(refused(format!(
            "over {} requests of late the first {COMPARED} items overlap by {found:.3}, below min_overlap {least}",
            overlaps.len()
        )));
    }
    let report = SwapReport {
        bundle_id: next.bundle.id().to_string(),
        previous_bundle_id: current.bundle.id().to_string(),
        compared: overlaps.len(),
        overlap,
        added_items: seen.added().len(),
        left_out_items: seen.added().left_out(),
        load_ms,
        check_ms: begun.elapsed().as_millis() as u64,
        warmed_users: 0,
        switched: !wish.dry_run && wish.share_permille == ALL && !wish.shadow,
        share_permille: wish.share_permille,
        shadow: wish.shadow,
    };
    Ok((report, next))
}

/// Keys of the first items at the largest dim. It touches every page that serving will.
fn first_items(serving: &Serving, view: &View, asked: &Asked) -> Result<Vec<String>, Problem> {
    let dim = *view.dims().last().ok_or_else(|| refused("it has no dims"))?;
    let keys: Vec<String> = match asked {
        Asked::Inline(keys) => keys.clone(),
        Asked::User(user) => serving.store.history_keys(user)?,
    };
    let entry = serving.store.inline(view, dim, &view.whole, &keys)?;
    let search = Search {
        query: Query::Vector(entry.vector(dim)),
        k: COMPARED.min(view.items()),
        hidden: [entry.seen(), &[], &[]],
        only: None,
        filter: None,
        as_tuned: true,
    };
    let mut found = top_k_batch(view, SearchMode::Exact, &[search]);
    let items = found.pop().ok_or_else(|| Problem::internal("a search gave no result"))??;
    Ok(items.iter().filter_map(|item| view.item(item.id)).map(|item| item.key.to_string()).collect())
}

fn refused(reason: impl std::fmt::Display) -> Problem {
    Problem::new(
        actix_web::http::StatusCode::UNPROCESSABLE_ENTITY,
        format!("the bundle is refused and the old one keeps serving: {reason}"),
    )
}

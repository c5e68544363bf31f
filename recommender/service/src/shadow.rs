//! Shadow traffic: a Bundle on trial ranks what is asked of the Bundle of now, its answers go to nobody,
//! and how far the two agree is counted. So a Bundle is judged on live requests before any user sees it.
//!
//! The question is put once the answer is known, only while the tier is at its full dim with nothing waiting,
//! and at most [`MOST`] at once; what is left out is counted too. It takes compute time like any other, and
//! does not count as an answer of the tier.

use crate::asking::ask;
use crate::compute::Ranked;
use crate::problem::Problem;
use crate::routes::RecommendRequest;
use crate::serving::{Serving, ranked_in_shadow};
use crate::tiers::Choice;
use crate::view::View;
use actix_web::web;
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Questions in the shadow at once.
const MOST: usize = 8;

/// The places of questions in the shadow.
pub(crate) struct Shadow(Arc<Semaphore>);

impl Shadow {
    pub(crate) fn new() -> Shadow {
        Shadow(Arc::new(Semaphore::new(MOST)))
    }
}

/// Asks the Bundle in the shadow, if there is one and the request is in its share, and counts the share of
/// the answer that it agrees with. Returns at once.
pub(crate) fn follow(
    serving: &web::Data<Serving>,
    view: &View,
    choice: &Choice,
    request: &RecommendRequest,
    found: &Ranked,
) {
    let Some(other) = serving.bundle.in_shadow(request.user_id.as_deref()) else { return };
    let count = |outcome: &str| serving.metrics.shadow.with_label_values(&[outcome]).inc();
    // A page after the first has no like there, and explanations are not compared.
    let comparable = request.cursor.is_none() && other.dims().contains(&found.dim) && !found.items.is_empty();
    let idle = choice.tier.level() == 0 && serving.queued(&choice.tier) == 0;
    let place = Arc::clone(&serving.shadow.0).try_acquire_owned();
    let (true, true, Ok(place)) = (comparable, idle, place) else { return count("left_out") };
    let Ok(mut ask) = ask(request, &other, found.dim, found.items.len(), None) else { return count("failed") };
    ask.explain = false;
    let answered: HashSet<String> =
        found.items.iter().filter_map(|item| view.item(item.id)).map(|item| item.key.to_owned()).collect();
    let (serving, choice) = (serving.clone(), choice.clone());
    actix_web::rt::spawn(async move {
        let _place = place;
        let outcome = match compare(&serving, &other, &choice, ask, &answered).await {
            Ok(true) => "compared",
            Ok(false) => "left_out",
            Err(_) => "failed",
        };
        serving.metrics.shadow.with_label_values(&[outcome]).inc();
    });
}

/// False if the tier got busy in the meantime, or load made the dim another one: then the two are not comparable.
async fn compare(
    serving: &Serving,
    other: &View,
    choice: &Choice,
    ask: crate::compute::Ask,
    answered: &HashSet<String>,
) -> Result<bool, Problem> {
    let dim = ask.dim;
    if serving.queued(&choice.tier) > 0 {
        return Ok(false);
    }
    let found = ranked_in_shadow(serving, other, &choice.tier, ask).await?;
    if found.dim != dim {
        return Ok(false);
    }
    let keys = found.items.iter().filter_map(|item| other.item(item.id));
    let both = keys.filter(|item| answered.contains(item.key)).count();
    serving.metrics.shadow_overlap.observe(both as f64 / answered.len() as f64);
    Ok(true)
}

//! From keys to ids and from ranked ids to answers, with the limits on keys and k.

use crate::compute::Ranked;
use crate::config::LimitsConfig;
use crate::problem::Problem;
use crate::tiers::Tier;
use crate::view::{ItemRef, View};
use retrieval::Scored;

/// One ranked item of an answer; borrows from the Bundle.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(crate) struct RankedItem<'a> {
    /// Item key.
    #[schema(example = "1")]
    item_id: &'a str,
    /// Title in the catalogue.
    #[schema(example = "Toy Story (1995)")]
    title: &'a str,
    /// Larger is better. Comparable within one answer only.
    #[schema(example = 7.25)]
    score: f32,
    /// With `explain`: the history items that pushed it, most first.
    #[serde(skip_serializing_if = "Option::is_none")]
    because: Option<Vec<Because<'a>>>,
}

/// A history item behind a result.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(crate) struct Because<'a> {
    /// Item key.
    item_id: &'a str,
    /// Title in the catalogue.
    title: &'a str,
    /// What the result's score loses without it.
    loss: f32,
}

/// Ids to keys and titles.
pub(crate) fn ranked_items<'a>(view: &'a View, ranked: &Ranked) -> Vec<RankedItem<'a>> {
    // The search gave these ids from the same view.
    let catalogue = |id: u32| view.item(id).unwrap_or(ItemRef { key: "", title: "", added: false });
    let because = |pushed: &Vec<(u32, f32)>| -> Vec<Because<'a>> {
        let one = |&(id, loss): &(u32, f32)| Because { item_id: catalogue(id).key, title: catalogue(id).title, loss };
        pushed.iter().map(one).collect()
    };
    let item = |(place, scored): (usize, &Scored)| {
        let item = catalogue(scored.id);
        let because = ranked.because.get(place).map(because);
        RankedItem { item_id: item.key, title: item.title, score: scored.score, because }
    };
    ranked.items.iter().enumerate().map(item).collect()
}

/// A hidden item is not there: not for those who ask what is like it either.
pub(crate) fn hidden_item(view: &View, id: u32) -> Problem {
    let key = view.item(id).map_or("", |item| item.key);
    Problem::not_found(format!("item {key:?} is hidden; putting it shows it again"))
}

/// A key of no item.
pub(crate) fn unknown_item(key: &str) -> Problem {
    Problem::not_found(format!("item {key:?} is neither in this bundle nor added to it"))
}

/// Ids of the keys that are known, ascending, each once.
pub(crate) fn known_ids(view: &View, keys: &[String]) -> Vec<u32> {
    let mut ids: Vec<u32> = keys.iter().filter_map(|key| view.id(key)).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

/// The number of items to answer.
///
/// # Errors
/// 400 if k is 0 or above the tier's limit.
pub(crate) fn check_k(k: Option<usize>, limits: &LimitsConfig, tier: &Tier) -> Result<usize, Problem> {
    let most = tier.config.max_k.min(limits.max_k);
    match k {
        None => Ok(limits.default_k.min(most)),
        Some(k) if (1..=most).contains(&k) => Ok(k),
        Some(k) => Err(Problem::bad_request(format!("k is {k}; ask for 1 to {most}"))),
    }
}

/// # Errors
/// 400 if a key is empty or longer than the limit.
pub(crate) fn check_key(field: &str, key: &str, limits: &LimitsConfig) -> Result<(), Problem> {
    match key.len() {
        0 => Err(Problem::bad_request(format!("{field} is empty; send a key of 1 to {} bytes", limits.key_bytes))),
        bytes if bytes > limits.key_bytes => {
            Err(Problem::bad_request(format!("{field} has {bytes} bytes; at most {} are accepted", limits.key_bytes)))
        }
        _ => Ok(()),
    }
}

/// # Errors
/// 400 if the list has more keys than `most`, or one of them breaks [`check_key`].
pub(crate) fn check_list(field: &str, keys: &[String], most: usize, limits: &LimitsConfig) -> Result<(), Problem> {
    if keys.len() > most {
        return Err(Problem::bad_request(format!("{field} has {} items; at most {most} are accepted", keys.len())));
    }
    keys.iter().enumerate().try_for_each(|(index, key)| check_key(&format!("{field}[{index}]"), key, limits))
}

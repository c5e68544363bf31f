//! From keys to ids and from ranked ids to answers, with the limits on keys and k.

use crate::config::LimitsConfig;
use crate::problem::Problem;
use feature_store::Vocabulary;
use fmrlrec::Bundle;
use retrieval::Scored;
use std::collections::HashSet;

/// One ranked item of an answer.
#[derive(Debug, serde::Serialize, utoipa::ToSchema)]
pub(crate) struct RankedItem {
    /// Item key.
    #[schema(example = "1")]
    item_id: String,
    /// Title in the catalogue.
    #[schema(example = "Toy Story (1995)")]
    title: String,
    /// Larger is better. Comparable within one answer only.
    #[schema(example = 7.25)]
    score: f32,
}

/// A history split into what the Bundle knows and what it does not.
pub(crate) struct Resolved {
    /// Ids in the history's order.
    pub(crate) ids: Vec<u32>,
    /// Unknown keys, each once, in the history's order.
    pub(crate) unknown: Vec<String>,
}

/// Looks up a history's keys.
pub(crate) fn resolve<'a>(vocabulary: &Vocabulary, keys: impl Iterator<Item = &'a str>) -> Resolved {
    let mut seen = HashSet::new();
    let mut resolved = Resolved { ids: Vec::new(), unknown: Vec::new() };
    for key in keys {
        match vocabulary.id(key) {
            Some(id) => resolved.ids.push(id),
            None if seen.insert(key) => resolved.unknown.push(key.to_string()),
            None => {}
        }
    }
    resolved
}

/// Ids to keys and titles.
pub(crate) fn answer(bundle: &Bundle, ranked: Vec<Scored>) -> Vec<RankedItem> {
    let item = |scored: Scored| {
        let item = &bundle.items()[scored.id as usize - 1];
        RankedItem { item_id: item.key.clone(), title: item.title.clone(), score: scored.score }
    };
    ranked.into_iter().map(item).collect()
}

/// The number of items to answer.
///
/// # Errors
/// 400 if k is 0 or above the limit.
pub(crate) fn check_k(k: Option<usize>, limits: &LimitsConfig) -> Result<usize, Problem> {
    match k.unwrap_or(limits.default_k) {
        k if (1..=limits.max_k).contains(&k) => Ok(k),
        k => Err(Problem::bad_request(format!("k is {k}; ask for 1 to {}", limits.max_k))),
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

//! A tier as written down: in the TOML config at the first start, as JSON in an admin call, and in the
//! journal that keeps live changes. One set of rules for all three.

use crate::ServiceError;
use crate::config::{broken, in_range};
use fmrlrec::BundleShape;
use std::collections::BTreeSet;

/// Most tiers at once: each is a label of every metric.
const MAX_TIERS: usize = 32;
/// Most header values of one tier.
const MAX_VALUES: usize = 1_000;
/// Longest header value, in bytes.
const MAX_VALUE_BYTES: usize = 256;
/// Longest latency target, in milliseconds.
const MAX_TARGET_MS: u64 = 60_000;
/// Largest rate and burst, in requests (a second).
const MAX_RATE: u64 = 10_000_000;
/// All of the queue, in thousandths.
const WHOLE: u64 = 1_000;

/// How a tier searches the item table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SearchMode {
    /// Every item is scored.
    #[default]
    Exact,
    /// By the plan that `recommender tune` wrote into the Bundle for the dim; exactly where there is none.
    Tuned,
}

/// A tier: a dim as deployed, who gets it, and what it may use.
#[derive(Debug, Clone, PartialEq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TierConfig {
    /// Name in requests, answers and metrics.
    pub name: String,
    /// Nesting dim served: one that the Bundle was trained at.
    pub dim: usize,
    /// Blocks of the model that user vectors go through: all, or those before a trained exit, for requests
    /// that must be cheaper still. Absent means all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depth: Option<usize>,
    /// Instead of `depth`: leading columns that each block works on for user vectors, a trained dim each or 0 for
    /// none (MatFormer's Mix'n'Match). `recommender evaluate --block-dims` measures what it costs in quality.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_dims: Option<Vec<usize>>,
    /// Smallest dim that the tier is stepped down to under load; `dim` itself forbids stepping.
    pub min_dim: usize,
    /// Whether requests that choose nothing get this tier.
    pub default: bool,
    /// Most items of an answer, at most `limits.max_k`.
    pub max_k: usize,
    /// Time within which an answer is wanted, in milliseconds; the tier steps down to keep it.
    pub latency_target_ms: u64,
    /// Requests a second for each API key of the tier, and for all others together; 0 is no limit.
    pub rate_per_s: u32,
    /// Requests that may come at once before the rate counts; 0 only with a rate of 0.
    pub burst: u32,
    /// Share of the compute queue and of its threads when others want them too, in thousandths.
    pub share_permille: u32,
    /// Values of the header named by `tier_header` that get this tier.
    pub header_values: Vec<String>,
    /// How items are found; exact if left out, as it is in the files of older versions.
    #[serde(default)]
    pub search: SearchMode,
}

/// Checks a tier table against what a Bundle was trained at and the service's largest k.
///
/// # Errors
/// The first broken rule, as one sentence that names the field, its value and the way out.
pub(crate) fn validate_tiers(tiers: &[TierConfig], trained: &BundleShape, max_k: usize) -> Result<(), ServiceError> {
    in_range("the number of tiers", tiers.len() as u64, MAX_TIERS as u64)?;
    let defaults: Vec<&str> = tiers.iter().filter(|t| t.default).map(|t| t.name.as_str()).collect();
    if defaults.len() != 1 {
        let found = if defaults.is_empty() { "no tier".to_string() } else { defaults.join(" and ") };
        return Err(broken("tiers", format!("default = true is on {found}; mark exactly one tier as the default")));
    }
    let (mut names, mut values) = (BTreeSet::new(), BTreeSet::new());
    for tier in tiers {
        let name = tier.name.as_str();
        if !is_tier_name(name) {
            return Err(broken("tiers.name", format!("{name:?} is no tier name; use 1 to 64 of a-z, 0-9, - and _")));
        }
        if !names.insert(name) {
            return Err(broken("tiers.name", format!("{name:?} is used by two tiers; give each its own name")));
        }
        validate_dims(tier, &trained.dims)?;
        validate_depth(tier, trained)?;
        validate_block_dims(tier, trained)?;
        validate_limits(tier, max_k).map_err(|error| match error {
            ServiceError::Config { field, reason } => broken(field, format!("{reason} (tier {name:?})")),
            other => other,
        })?;
        unique_values(tier, &mut values)?;
    }
    Ok(())
}

fn validate_dims(tier: &TierConfig, trained: &[usize]) -> Result<(), ServiceError> {
    let name = tier.name.as_str();
    for (field, dim) in [("tiers.dim", tier.dim), ("tiers.min_dim", tier.min_dim)] {
        if !trained.contains(&dim) {
            let reason = format!(
                "tier {name:?} asks for dim {dim}, which the Bundle was not trained at; use one of {trained:?}"
            );
            return Err(broken(field, reason));
        }
    }
    if tier.min_dim > tier.dim {
        let reason = format!("tier {name:?} has min_dim {} above its dim {}; lower it", tier.min_dim, tier.dim);
        return Err(broken("tiers.min_dim", reason));
    }
    Ok(())
}

fn validate_depth(tier: &TierConfig, trained: &BundleShape) -> Result<(), ServiceError> {
    let Some(depth) = tier.depth else { return Ok(()) };
    let dim_there = trained.exits.iter().find(|(exit, _)| *exit == depth).map(|(_, dim)| *dim);
    if depth == trained.blocks || dim_there.is_some_and(|dim| tier.dim <= dim) {
        return Ok(());
    }
    let (name, dim, blocks) = (&tier.name, tier.dim, trained.blocks);
    let exits: Vec<String> = trained.exits.iter().map(|(depth, dim)| format!("{depth} up to dim {dim}")).collect();
    let exits = if exits.is_empty() { "no exit before that".to_owned() } else { exits.join(", ") };
    let reason = format!(
        "tier {name:?} asks for depth {depth} at dim {dim}; the Bundle has {blocks} blocks and was trained at {exits}"
    );
    Err(broken("tiers.depth", reason))
}

fn validate_block_dims(tier: &TierConfig, trained: &BundleShape) -> Result<(), ServiceError> {
    let (Some(block_dims), name) = (&tier.block_dims, &tier.name) else { return Ok(()) };
    if tier.depth.is_some() {
        return Err(broken("tiers.block_dims", format!("tier {name:?} has a depth too; state one of them")));
    }
    let wrong = |error| broken("tiers.block_dims", format!("tier {name:?}: {error}"));
    trained.check_block_dims(block_dims).map_err(wrong)
}

fn validate_limits(tier: &TierConfig, max_k: usize) -> Result<(), ServiceError> {
    in_range("tiers.max_k", tier.max_k as u64, max_k as u64)?;
    in_range("tiers.latency_target_ms", tier.latency_target_ms, MAX_TARGET_MS)?;
    in_range("tiers.share_permille", u64::from(tier.share_permille), WHOLE)?;
    if tier.rate_per_s == 0 && tier.burst == 0 {
        return Ok(());
    }
    in_range("tiers.rate_per_s", u64::from(tier.rate_per_s), MAX_RATE)?;
    in_range("tiers.burst", u64::from(tier.burst), MAX_RATE)
}

fn unique_values<'a>(tier: &'a TierConfig, seen: &mut BTreeSet<&'a str>) -> Result<(), ServiceError> {
    let (field, name, values) = ("tiers.header_values", tier.name.as_str(), &tier.header_values);
    if values.len() > MAX_VALUES {
        let count = values.len();
        return Err(broken(field, format!("tier {name:?} lists {count}; at most {MAX_VALUES} are accepted")));
    }
    for (index, value) in values.iter().enumerate() {
        let place = index + 1;
        if value.is_empty() || value.len() > MAX_VALUE_BYTES || !value.bytes().all(|b| b.is_ascii_graphic()) {
            let reason = format!(
                "value {place} of tier {name:?} is not 1 to {MAX_VALUE_BYTES} visible ASCII characters, as a header needs"
            );
            return Err(broken(field, reason));
        }
        if !seen.insert(value) {
            return Err(broken(
                field,
                format!("value {place} of tier {name:?} is already listed; list each value once over all tiers"),
            ));
        }
    }
    Ok(())
}

pub(crate) fn is_tier_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_')
}

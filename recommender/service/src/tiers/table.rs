//! Which tier and dim a request is served at: the ones it names, else the tier of its API key, else
//! of a header, else the default.

use crate::access::KeyTier;
use crate::problem::Problem;
use crate::tiers::config::TierConfig;
use crate::tiers::tier::Tier;
use actix_web::http::header::HeaderMap;
use std::collections::HashMap;
use std::sync::Arc;

/// The tiers of one version of the table. Immutable; a live change makes a new one.
pub(crate) struct TierTable {
    pub(crate) version: u64,
    tiers: Vec<Arc<Tier>>,
    default: usize,
    /// API key, by index, to its tier, if it has one, and whether it may choose.
    by_key: Vec<(Option<usize>, bool)>,
    header: String,
    by_header_value: HashMap<String, usize>,
}

/// What a request asks for.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wish<'a> {
    pub(crate) tier: Option<&'a str>,
    pub(crate) dim: Option<usize>,
    /// The request's API key, by index.
    pub(crate) key: Option<usize>,
}

/// The tier whose limits count, and the dim to serve at.
#[derive(Clone)]
pub(crate) struct Choice {
    pub(crate) tier: Arc<Tier>,
    /// Whether the tier chose the dim, rather than the request.
    pub(crate) by_tier: bool,
    pub(crate) dim: usize,
}

impl TierTable {
    /// Takes tiers that [`crate::tiers::validate_tiers`] accepted. `key_tiers` names each API key's
    /// tier, which is one of them or empty.
    pub(crate) fn new(
        version: u64,
        tiers: &[TierConfig],
        header: &str,
        key_tiers: &[KeyTier],
        before: Option<&TierTable>,
    ) -> TierTable {
        let keep = |name: &str| before.and_then(|table| table.tiers.iter().find(|tier| &*tier.name == name));
        let live = |tier: &TierConfig| match keep(&tier.name) {
            Some(same) if same.config == *tier => Arc::clone(same),
            before => Arc::new(Tier::new(tier.clone(), key_tiers.len(), before.map(Arc::as_ref))),
        };
        let default = tiers.iter().position(|tier| tier.default).expect("validate_tiers found one default");
        let place = |key: &KeyTier| (tiers.iter().position(|tier| tier.name == key.tier), key.may_choose);
        let values = |(index, tier): (usize, &TierConfig)| {
            tier.header_values.iter().map(move |value| (value.clone(), index)).collect::<Vec<_>>()
        };
        TierTable {
            version,
            tiers: tiers.iter().map(live).collect(),
            default,
            by_key: key_tiers.iter().map(place).collect(),
            header: header.to_string(),
            by_header_value: tiers.iter().enumerate().flat_map(values).collect(),
        }
    }

    /// The tiers, in the config's order.
    pub(crate) fn tiers(&self) -> &[Arc<Tier>] {
        &self.tiers
    }

    /// As written down.
    pub(crate) fn configs(&self) -> Vec<TierConfig> {
        self.tiers.iter().map(|tier| tier.config.clone()).collect()
    }

    /// Chooses. Header values that no tier lists count as absent.
    ///
    /// # Errors
    /// 400 for a tier and a dim at once, an unknown tier, or a dim that was not trained; 403 for one that the
    /// API key may not choose.
    pub(crate) fn choose(&self, wish: Wish<'_>, headers: &HeaderMap, trained: &[usize]) -> Result<Choice, Problem> {
        let own = &self.tiers[self.unnamed(wish.key, headers)];
        let free = wish.key.and_then(|key| self.by_key.get(key)).is_none_or(|(_, may_choose)| *may_choose);
        let within =
            wish.tier.is_none_or(|name| name == &*own.name) && wish.dim.is_none_or(|dim| dim <= own.config.dim);
        if !free && !within {
            let (name, dim) = (&own.name, own.config.dim);
            return Err(Problem::forbidden(format!("the API key has tier {name:?} alone, and dims up to {dim}")));
        }
        match (wish.tier, wish.dim) {
            (Some(_), Some(_)) => Err(Problem::bad_request("tier and dim are both given; send one of them")),
            (None, Some(dim)) if trained.contains(&dim) => Ok(Choice { tier: Arc::clone(own), by_tier: false, dim }),
            (None, Some(dim)) => {
                Err(Problem::bad_request(format!("dim {dim} was not trained; use one of {trained:?}")))
            }
            (Some(name), None) => {
                let found = self.tiers.iter().position(|tier| &*tier.name == name);
                found.map(|index| self.choice(index)).ok_or_else(|| self.unknown(name))
            }
            (None, None) => Ok(self.choice(self.unnamed(wish.key, headers))),
        }
    }

    fn unnamed(&self, key: Option<usize>, headers: &HeaderMap) -> usize {
        let by_key = key.and_then(|key| self.by_key.get(key)?.0);
        let by_header = || {
            let value = headers.get(&self.header).and_then(|value| value.to_str().ok());
            value.and_then(|value| self.by_header_value.get(value).copied())
        };
        by_key.or_else(by_header).unwrap_or(self.default)
    }

    fn choice(&self, index: usize) -> Choice {
        let tier = Arc::clone(&self.tiers[index]);
        Choice { by_tier: true, dim: tier.config.dim, tier }
    }

    fn unknown(&self, name: &str) -> Problem {
        let names: Vec<&str> = self.tiers.iter().map(|tier| &*tier.name).collect();
        // A name is echoed only as far as it can be one.
        let shown: String = name.chars().take(64).collect();
        Problem::bad_request(format!("tier {shown:?} is unknown; use one of {names:?}"))
    }
}

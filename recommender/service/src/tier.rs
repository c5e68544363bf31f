//! Which dim a request is served at: its tier or dim, else its API key, else a header, else the
//! default tier.

use crate::config::ServiceConfig;
use crate::problem::Problem;
use actix_web::http::header::{HeaderMap, HeaderName};
use std::collections::HashMap;

/// Header with an API key.
pub(crate) const API_KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// The tier table of the config, ready to be asked.
pub(crate) struct Tiers {
    tiers: Vec<Tier>,
    default: usize,
    by_api_key: HashMap<String, usize>,
    header: String,
    by_header_value: HashMap<String, usize>,
    trained_dims: Vec<usize>,
}

struct Tier {
    name: String,
    dim: usize,
}

/// A dim, and the tier that chose it if one did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    pub(crate) tier: Option<String>,
    pub(crate) dim: usize,
}

impl Tiers {
    /// Takes a config that [`ServiceConfig::validate`] accepted for these dims.
    pub(crate) fn new(config: &ServiceConfig, trained_dims: &[usize]) -> Tiers {
        let indexed = || config.tiers.iter().enumerate();
        let lookup = |values: fn(&crate::TierConfig) -> &[String]| -> HashMap<String, usize> {
            indexed().flat_map(|(index, tier)| values(tier).iter().map(move |value| (value.clone(), index))).collect()
        };
        Tiers {
            tiers: config.tiers.iter().map(|tier| Tier { name: tier.name.clone(), dim: tier.dim }).collect(),
            default: indexed()
                .find(|(_, tier)| tier.default)
                .map(|(index, _)| index)
                .expect("validate found one default"),
            by_api_key: lookup(|tier| &tier.api_keys),
            header: config.tier_header.clone(),
            by_header_value: lookup(|tier| &tier.header_values),
            trained_dims: trained_dims.to_vec(),
        }
    }

    /// Name and dim of each tier and whether it is the default, in the config's order.
    pub(crate) fn list(&self) -> impl Iterator<Item = (&str, usize, bool)> {
        self.tiers.iter().enumerate().map(|(index, tier)| (tier.name.as_str(), tier.dim, index == self.default))
    }

    /// Chooses. Keys and header values that no tier lists count as absent.
    ///
    /// # Errors
    /// 400 for a tier and a dim at once, an unknown tier, or a dim that was not trained.
    pub(crate) fn choose(
        &self,
        tier: Option<&str>,
        dim: Option<usize>,
        headers: &HeaderMap,
    ) -> Result<Choice, Problem> {
        match (tier, dim) {
            (Some(_), Some(_)) => Err(Problem::bad_request("tier and dim are both given; send one of them")),
            (None, Some(dim)) if self.trained_dims.contains(&dim) => Ok(Choice { tier: None, dim }),
            (None, Some(dim)) => {
                Err(Problem::bad_request(format!("dim {dim} was not trained; use one of {:?}", self.trained_dims)))
            }
            (Some(name), None) => {
                let found = self.tiers.iter().position(|tier| tier.name == name);
                found.map(|index| self.choice(index)).ok_or_else(|| self.unknown(name))
            }
            (None, None) => {
                let listed = |header: &str, table: &HashMap<String, usize>| {
                    headers
                        .get(header)
                        .and_then(|value| value.to_str().ok())
                        .and_then(|value| table.get(value).copied())
                };
                let by_key = listed(API_KEY_HEADER.as_str(), &self.by_api_key);
                let index = by_key.or_else(|| listed(&self.header, &self.by_header_value));
                Ok(self.choice(index.unwrap_or(self.default)))
            }
        }
    }

    fn choice(&self, index: usize) -> Choice {
        Choice { tier: Some(self.tiers[index].name.clone()), dim: self.tiers[index].dim }
    }

    fn unknown(&self, name: &str) -> Problem {
        let names: Vec<&str> = self.tiers.iter().map(|tier| tier.name.as_str()).collect();
        // A name is echoed only as far as it can be one.
        let shown: String = name.chars().take(64).collect();
        Problem::bad_request(format!("tier {shown:?} is unknown; use one of {names:?}"))
    }
}

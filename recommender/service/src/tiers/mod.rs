//! Tiers: what is written down (`config`), what is live (`table`, `tier`), when a tier steps down
//! (`controller`), and how a live change is kept (`journal`).

mod config;
mod controller;
mod journal;
mod table;
mod tier;

pub use config::{SearchMode, TierConfig};
pub(crate) use config::{is_tier_name, validate_tiers};
pub(crate) use journal::{Change, Journal, kept_tiers};
pub(crate) use table::{Choice, TierTable, Wish};
pub(crate) use tier::Tier;

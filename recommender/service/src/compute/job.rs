//! One request as the compute threads see it, and what they give back.

use crate::problem::Problem;
use crate::spans::Moments;
use crate::tiers::Tier;
use crate::view::View;
use retrieval::{Predicate, Scored};
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::oneshot;

/// What items are wanted for.
pub(crate) enum Source {
    /// A user, by key.
    User(String),
    /// Item keys, oldest first.
    Inline(Vec<String>),
    /// An item, by id.
    Item(u32),
}

/// What is asked.
pub(crate) struct Ask {
    pub(crate) source: Source,
    /// Wanted dim; the level of the tier may make it smaller.
    pub(crate) dim: usize,
    pub(crate) k: usize,
    /// Ids that must not come back; ascending.
    pub(crate) exclude: Vec<u32>,
    /// If there, only these ids; ascending.
    pub(crate) only: Option<Vec<u32>>,
    /// If there, only items whose attributes satisfy it.
    pub(crate) filter: Option<Predicate>,
    /// Whether items of the history may come back.
    pub(crate) include_seen: bool,
    /// 0 for the best items, up to 1 for different ones.
    pub(crate) diversity: f32,
    /// Whether to name the history items behind each result.
    pub(crate) explain: bool,
    /// For a page after the first.
    pub(crate) page: Option<Page>,
}

/// A page after the first: what the pages before fixed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Page {
    /// Dim of the first page, whatever the load is now.
    pub(crate) dim: usize,
    /// Items on the pages before.
    pub(crate) offset: usize,
    /// Version of the history that they were ranked for.
    pub(crate) history: u64,
}

/// A question on its way.
pub(crate) struct Job {
    pub(crate) view: View,
    pub(crate) tier: Arc<Tier>,
    pub(crate) ask: Ask,
    pub(crate) begun: Instant,
    /// Asked of a Bundle in the shadow: nobody waits for it, so its time says nothing of the tier's.
    pub(crate) shadow: bool,
    pub(crate) answer: oneshot::Sender<Result<Ranked, Problem>>,
}

/// The items, best first.
#[derive(Debug)]
pub(crate) struct Ranked {
    pub(crate) items: Vec<Scored>,
    /// Dim that ranked them.
    pub(crate) dim: usize,
    /// Keys of the history that the Bundle does not know.
    pub(crate) unknown: Vec<String>,
    /// Items of the history that the model read.
    pub(crate) history_len: usize,
    /// For each item, history items that pushed it and by how much; empty unless asked for.
    pub(crate) because: Vec<Vec<(u32, f32)>>,
    /// Version of the history.
    pub(crate) history: u64,
    /// Whether items were found by a plan that can miss some.
    pub(crate) approximate: bool,
    pub(crate) moments: Moments,
}

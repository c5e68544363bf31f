//! Model and search on threads of their own: a fair queue of tiers (`queue`), threads that take
//! batches from it (`pool`), what a batch does (`batch`), how items are found (`search`), made different
//! (`diversify`) and explained (`explain`).

mod batch;
mod diversify;
mod explain;
mod job;
mod pool;
mod queue;
mod search;

pub(crate) use job::{Ask, Job, Page, Ranked, Source};
pub(crate) use pool::{Pool, PoolSizes, TICK};
pub(crate) use search::{Query, Search, top_k_batch};

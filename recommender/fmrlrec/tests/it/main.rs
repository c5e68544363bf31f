//! Behaviour of the model crate: exactness against fixtures, the three laws, training end to end.

mod batches;
mod compatibility;
mod evaluation;
mod exits;
mod fixtures;
mod gpu;
mod laws;
mod loss;
mod metrics;
mod new_items;
mod refusals;
mod stopping;
mod threads;
mod training;
mod user_state;

//! Behaviour of the model crate: exactness against fixtures, the three laws, training end to end.

mod fixtures;
mod laws;
mod loss;
mod metrics;
mod training;
mod user_state;

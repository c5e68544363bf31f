//! Behaviour of the feature store: Snapshots survive a round trip and nothing else, user state
//! survives everything.

mod snapshot;
mod state;
mod vocabulary;

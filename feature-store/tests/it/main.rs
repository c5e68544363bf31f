//! Behaviour of the feature store: Snapshots survive a round trip and nothing else, user state
//! survives everything.

mod contents;
mod history;
mod snapshot;
mod source;
mod state;
mod vocabulary;

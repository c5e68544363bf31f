//! Behaviour of the feature store: Snapshots survive a round trip and nothing else, user state
//! survives everything.

mod contents;
mod history;
mod place;
mod redis_server;
mod shared;
mod snapshot;
mod source;
mod state;
mod vocabulary;

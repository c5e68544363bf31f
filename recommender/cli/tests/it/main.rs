//! The program from outside: what a user types, what comes back, and what is left on disk.

mod artefacts;
mod completions;
mod cuts;
mod data;
mod demo;
mod deploy;
mod export;
mod fault_table;
mod faults;
mod flow;
mod help;
mod ingest;
mod inputs;
mod interrupt;
mod kill;
mod logs;
mod notebook;
mod program;
#[path = "../../../../feature-store/tests/it/redis_server.rs"]
mod redis_server;
mod replicas;
mod schemathesis;
mod served_stream;
mod stream;
mod stream_runs;
#[cfg(feature = "otlp")]
mod traces;
mod tune;

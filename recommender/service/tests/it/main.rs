//! Tests of the service over real sockets: each starts a server on a free port and talks HTTP to it.

mod access;
mod batch;
mod client;
mod concurrency;
mod config;
mod cursors;
mod depth;
mod event_stream;
mod events;
mod filters;
mod fixture;
mod items;
mod live_tiers;
mod new_items;
mod operations;
mod overload;
mod page;
mod plans;
mod recommend;
mod refusals;
mod similar;
mod spans;
mod swap;
mod tls;
mod traces;
mod user_vectors;

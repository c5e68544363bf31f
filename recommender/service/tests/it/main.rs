//! Tests of the service over real sockets: each starts a server on a free port and talks HTTP to it.

mod client;
mod concurrency;
mod config;
mod events;
mod fixture;
mod operations;
mod recommend;
mod refusals;
mod similar;

//! The event stream: decoders, the log, the consumer, and a real broker where there is one.

mod batch;
mod broker;
mod consumer;
mod decoders;
mod kafka;
mod letters;
mod log;
mod mutate;
mod producer;
mod secure;
mod shared_state;
mod starts;
mod world;

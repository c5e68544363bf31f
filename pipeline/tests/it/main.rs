//! Everything `build` promises, on small inputs made here and on the real data where it is laid
//! beside the checkout.

mod alignment;
mod amazon;
mod attributes;
mod bad_input;
mod csv;
mod encoders;
mod interactions;
mod movielens;
mod onnx;
mod provided;
mod readme;
#[path = "../../../feature-store/tests/it/redis_server.rs"]
mod redis_server;
mod sequences;
mod stream;
mod support;

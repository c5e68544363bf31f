//! Tests of the retrieval crate: properties against a naive version, and one check for each refusal.

mod naive;
mod properties;
mod refusals;

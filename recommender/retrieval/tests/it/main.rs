//! Tests of the retrieval crate: properties against a naive version, and one check for each refusal.

mod approximate;
mod filters;
mod naive;
mod predicates;
mod properties;
mod refusals;
mod same_bits;
mod tailed;

//! Funnel, quantised tables and IVF against exact search.

fn main() {}

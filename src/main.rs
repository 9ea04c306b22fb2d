//! The `sluice` binary: see [`sluice::cli`].

fn main() {}

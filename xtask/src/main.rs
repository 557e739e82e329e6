//! `cargo xtask`: set-up, tests, demo, payload and benchmarks.
fn main() {}

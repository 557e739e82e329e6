//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod faults;
mod fuzz_bodies;
mod limits;
mod oracles;
mod pipable;
#[path = "support/pipable.rs"]
mod pipable_support;
mod rewrite;
mod round_trip;
mod support;
#[path = "support/trees.rs"]
mod trees;
mod vectors;
#[path = "support/windows_tree.rs"]
mod windows_tree;

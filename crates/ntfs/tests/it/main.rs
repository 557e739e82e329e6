//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod check;
mod faults;
mod foreign;
mod fuzz_bodies;
mod oracles;
mod reader;
mod refusals;
mod support;

//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod change;
mod check;
mod faults;
mod faults_compressed;
mod foreign;
mod fuzz_bodies;
mod kernel;
mod mounted;
mod mounted_volumes;
mod oracles;
mod reader;
mod refusals;
mod sparse;
mod support;

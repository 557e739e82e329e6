//! Tests of the crate from outside: what foreign tools say of what it makes, and fuzz bodies over damaged samples.
#![allow(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

mod fuzz_bodies;
mod key_holder;
mod oracles;

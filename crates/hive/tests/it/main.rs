//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod bcd;
mod corpus;
mod edit;
mod fuzz_bodies;
mod logs;
mod reg;
mod support;

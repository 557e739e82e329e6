//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod boot;
mod driver_hives;
mod fuzz_bodies;
mod inject;
mod layers;
mod repository;
mod support;

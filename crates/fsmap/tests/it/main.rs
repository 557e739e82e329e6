//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod ext;
mod fuzz_bodies;
mod listing;
mod oracles;
mod support;
mod xfs_files;

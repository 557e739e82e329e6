//! The integration tests of this crate, one module a subject, in one program: each program of its own costs seconds of linking.

mod fat_oracles;
mod faults;
mod firmware_boot;
mod fuzz_bodies;
mod gpt_oracles;
mod oracle;
mod recognise_oracles;
mod vm;

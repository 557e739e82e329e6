//! Signatures of drivers: hashes of programs as signatures hold them, and what is embedded in them.

mod pe;

pub(crate) use pe::Program;

//! Virtual disk files against qemu-img, and any bytes at all.
#![expect(clippy::unwrap_used, clippy::disallowed_types, reason = "tests start programs and write files")]

mod fuzz_bodies;
mod oracles;
mod support;

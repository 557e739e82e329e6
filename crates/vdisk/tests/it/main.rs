//! Virtual disk files against qemu-img, and any bytes at all.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod fuzz_bodies;
mod oracles;
mod support;

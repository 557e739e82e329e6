//! Programs that UEFI firmware starts, with what Secure Boot wants of them: PE files and their sections, unified kernel
//! images, Authenticode signatures, lists of keys and the messages that enrol them.
//!
//! Bytes only, and no keys: a [`Signer`] signs what it is given. Layouts and sources are in `FORMAT.md`.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod der;
mod error;

mod program;
mod signature;
mod uki;

pub mod keys;

#[doc(hidden)]
pub mod fuzz;

pub use error::Error;
pub use program::{MAX_PROGRAM_BYTES, Program, Section};
pub use signature::{SignError, Signer, sign};
pub use uki::{Part, assemble};

//! INF files: parsing, choice of models for a Windows version, driver rank, what a package installs.
//!
//! Bytes only: a file comes as bytes and is never changed. Grammar, rules and their sources are in `FORMAT.md`.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;
mod limits;

mod inf;
mod lines;
mod strings;
mod text;

pub use error::{Error, Note, Severity};
pub use inf::Inf;
pub use limits::{MAX_FIELD_CHARS, MAX_FILE_BYTES, MAX_SECTION_NAME_CHARS};
pub use lines::{Line, Section};
pub use text::Encoding;

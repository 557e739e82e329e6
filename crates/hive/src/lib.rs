//! Registry hives: reading, editing in place, recovery from logs, `.reg` text, and boot stores (BCD).
//!
//! Bytes only: a hive comes as bytes and leaves as bytes; time is handed in. Edits touch the cells they must and nothing
//! else, so descriptors, class names and what this crate does not understand survive. Layout, sources and quirks are in
//! `FORMAT.md`.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;
mod limits;

mod base;
mod cells;
mod image;
mod name;
mod subkeys;
mod value;

mod check;
mod create;
mod edit;
mod hive;
mod log;

pub mod bcd;
pub mod reg;

#[doc(hidden)]
pub mod fuzz;

pub use base::{BaseBlock, State};
pub use check::{Fault, Report, Severity, check};
pub use create::CreateOptions;
pub use edit::Editor;
pub use error::Error;
pub use hive::{Hive, Key, KeyId, Value, Walk};
pub use limits::{MAX_DEPTH, MAX_KEY_NAME_UNITS, MAX_VALUE_NAME_UNITS};
pub use log::{Recovered, Replay, recover};
pub use value::{Data, ValueType};

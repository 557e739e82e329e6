//! Positioned I/O through shared references.
//!
//! Every reader of images and disks takes `&dyn ReadAt`, every writer `&dyn WriteAt`: many threads can use one
//! without a shared cursor (DESIGN section 4). This crate holds the two traits, adapters for memory and files,
//! and a byte cursor that never panics. It knows no formats.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod cursor;
mod file;
mod memory;
mod positioned;
mod window;

pub use cursor::{Cursor, Truncated};
pub use file::FileAt;
pub use memory::MemoryDisk;
pub use positioned::{ReadAt, WriteAt};
pub use window::Window;

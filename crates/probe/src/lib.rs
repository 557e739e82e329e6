//! Parsers of what a machine tells about itself: SMBIOS tables, PCI and USB descriptors, `/proc` texts, module lists,
//! firmware variables, signatures at the start of a disk.
//!
//! Bytes and text go in, `gravure-model` types come out; where they are read from is the business of
//! `gravure-linux::machine`. Layouts, sources and quirks stand in FORMAT.md.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;
mod field;

pub mod content;
pub mod hwid;
pub mod modules;
pub mod pci;
pub mod procfs;
pub mod smbios;
pub mod usb;

#[doc(hidden)]
pub mod fuzz;

pub use error::Error;

//! Virtual disk files: what hypervisors keep disks in. qcow2, VHD and VHDX are read as the disk they hold; qcow2 and VHDX are
//! written, only as large as what is in them.
//!
//! Bytes only. Chains of files (backing files, differencing disks), encryption and files that were not closed cleanly are
//! refused by name. `FORMAT.md` has the layouts.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;

mod field;

mod map;

mod qcow2;
mod vhd;
mod vhdx;

mod disk;
mod write;

#[doc(hidden)]
pub mod fuzz;

pub use disk::{Kind, VirtualDisk};
pub use error::Error;
pub use qcow2::write_qcow2;
pub use vhdx::{VhdxIds, write_vhdx};
pub use write::{Written, write_raw};

/// Bytes of a disk at most: 64 TiB, what VHDX allows.
pub const MAX_DISK_BYTES: u64 = 64 << 40;
/// Bytes of a table that is kept in memory at most.
pub(crate) const MAX_TABLE_BYTES: u64 = 64 << 20;

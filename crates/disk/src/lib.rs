//! What stands on a disk besides the systems themselves: partition layouts, GPT and MBR tables, FAT system partitions, GRUB's
//! and Windows' BIOS boot code, firmware boot entries, discs, and the signatures of whatever was there before.
//!
//! Bytes only: everything is computed from sizes and a seed and goes through `ReadAt` and `WriteAt`. Layouts and
//! identifiers are pure functions of the plan, so a retry writes the same bytes. Tables of offsets, sources and quirks are in
//! `FORMAT.md`.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;

pub mod guid;
pub mod identity;
pub mod layout;

pub mod gpt;
pub mod mbr;
pub mod table;
pub mod transfer;

pub mod bios;
pub mod boot_code;
pub mod efi;
pub mod fat;
pub mod iso;

pub mod recognise;
pub mod sbat;
pub mod wipe;

#[doc(hidden)]
pub mod fuzz;

pub use error::Error;
pub use gravure_nttypes::Guid;
pub use identity::Identity;
pub use layout::{DiskShape, Layout, Partition, PartitionRequest, PartitionSize, Role};
pub use recognise::{Found, FoundKind, recognise};
pub use table::{Table, TableImage};

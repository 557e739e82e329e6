//! NTFS volumes (version 3.1): laid out whole from a `Tree` and written in one pass, boot sectors last; read back as a `Tree`;
//! checked; label, serial number and size changed.
//!
//! Bytes only: a [`VolumePlan`] says what stands where, the engine writes it from any thread; a [`Volume`] reads through
//! `ReadAt`. What is on disk and which quirks count is in `FORMAT.md`.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;

mod disk;
mod rule;

mod layout;
mod read;

mod change;
mod check;
mod files;
mod map;

#[doc(hidden)]
pub mod fuzz;

pub use change::{Grown, grow, set_label, set_serial};
pub use check::{CheckObserver, CheckReport, Finding, Strictness, check};
pub use error::{Error, MAX_REFUSALS, Reason, Refusal, Refusals};
pub use files::{FileClusters, FileVisitor, StreamClusters, StreamRun};
pub use layout::{
    BOOT_FILE_LEN, Collisions, ContentGuide, Encoding, MAX_LABEL_UNITS, NoGuide, Notes, Part, Piece, Place,
    Reduction, Remedy, ResidentBytes, SectorSize, VolumeOptions, VolumePlan, WofAlgorithm, Write, reduce,
};
pub use map::{UsedRun, UsedRuns};
pub use read::{
    BootSector, Contents, Decoders, Hibernation, ListedName, LogState, Scan, ScanGuide, Unclean, Volume,
    VolumeState,
};
pub use rule::{Rule, Severity};

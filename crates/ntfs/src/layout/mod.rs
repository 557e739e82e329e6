//! Laying a volume out: from a tree to the bytes of every cluster, before the first is written.
//!
//! [`VolumePlan::new`] goes over the tree twice. [`collect`] finds files, names and everything NTFS cannot hold; [`compose`]
//! decides which attributes each file has and in which records; [`plan`] gives records and clusters their numbers. After
//! that every byte has its place: contents can be written in any order from any thread ([`VolumePlan::place`]), metadata
//! streams ([`VolumePlan::metadata`]), boot sectors come last ([`VolumePlan::boot_sectors`]).
//!
//! Order on the volume: boot file, copy of the first records, MFT with its bitmap, a zone for the MFT to grow into, the
//! other system files, indexes of directories, contents in the order of the archive. Every stream is one run, sparse ones with
//! holes between.
//!
//! Arithmetic and indexing are not checked by hand here as they are where bytes come from outside: sizes are bounded by
//! [`collect`] (streams below 2^44, counts below 2^32) before anything is computed from them, indexes are of lists made
//! here, and overflow checks are on in releases.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    reason = "numbers are bounded by `collect`, indexes are our own; see the module's text"
)]

mod attribute;
mod boot;
mod collect;
mod compose;
mod index;
mod names;
mod options;
mod plan;
mod records;
mod reduce;
mod secure;
mod sparse;
mod system;
mod system_records;
mod views;
mod writes;

pub use collect::Notes;
pub use options::{
    BOOT_FILE_LEN, Collisions, ContentGuide, Encoding, MAX_LABEL_UNITS, NoGuide, SectorSize, VolumeOptions,
    WofAlgorithm,
};
pub use plan::{Part, Place, VolumePlan};
pub use reduce::{Reduction, Remedy, reduce};
pub use sparse::Piece;
pub use writes::{ResidentBytes, Write};

pub(crate) use options::{MAX_CLUSTERS, MAX_STREAM_BYTES};

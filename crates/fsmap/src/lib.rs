//! Used-block maps: which bytes of a partition its file system uses, so that an image keeps those and nothing else; where the
//! files lie in them, so that images share content; and what a block belongs to, so that a bad sector has a name.
//!
//! The rule over all others: what is not known for certain to be free counts as used, or the map is refused with the reason.
//! A journal that has to be replayed is replayed into an [`Overlay`]; the device itself is never written. What each file
//! system says where, and what is refused, is in `FORMAT.md`.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;

mod map;
mod probe;

mod extents;
mod list;
mod overlay;
mod owners;
mod runs;
mod segments;

mod bits;
mod checksum;
mod clusters;
mod field;

mod btrfs;
mod exfat;
mod ext;
mod fat;
mod locked;
mod lvm;
mod ntfs;
mod swap;
mod xfs;

#[doc(hidden)]
pub mod fuzz;

pub use btrfs::{BtrfsChunk, BtrfsContent, BtrfsLayout};
pub use error::{Error, Reason};
pub use extents::FileExtent;
pub use list::{ListKind, Listed, list};
pub use map::{Basis, Exclusions, Fallback, NestedVolume, Options, UsedMap, map};
pub use overlay::{Overlaid, Overlay};
pub use owners::{Owned, Owner, owners};
pub use probe::{Fact, Kind, Probe, State, probe};
pub use runs::{Class, Excluded, Run};
pub use segments::{Segment, Segments};
pub use xfs::{XfsAttribute, XfsFacts, XfsFile, XfsPiece, XfsTime, XfsVolume};

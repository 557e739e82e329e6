//! Block images: what a device holds, as a tree of hashes over chunks, and the three forms it is kept in: one seekable file,
//! the same bytes as a stream, or chunks in packs of a store with a manifest.
//!
//! Bytes only. Everything read is hostile until checked: `limits` bounds every length before it is followed, chunks are
//! checked against their BLAKE3 before anybody sees them. `FORMAT.md` has the layout.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;
pub mod limits;

mod encoding;
mod frame;
mod id;

mod cutter;
pub mod facts;
mod region;
mod root;
mod table;

mod file;
mod pack;
mod partclone;

#[doc(hidden)]
pub mod fuzz;

pub use cutter::{Cut, Cutter, FileSpan, UsedSpan};
pub use encoding::{Encoding, FrameDecoder, FrameEncoder, check_id};
pub use error::Error;
pub use facts::Facts;
pub use file::{
    FORMAT_VERSION, ImageFile, ImageStream, ImageWriter, Placed, StreamItem, check_region, is_image,
};
pub use frame::{Entry, Frame, FrameHeader, FrameKind};
pub use id::{BadId, ChunkId};
pub use pack::{PackBuilder, PackEntry, PackIndex, by_id, max_pack_bytes, read_pack};
pub use partclone::{PartcloneHeader, PartcloneReader, PartcloneStrip, is_partclone};
pub use region::{FinishedRegion, RegionBuilder};
pub use root::{Region, Root};
pub use table::{
    Exclusion, Extent, ExtentKind, Location, parse_locations, parse_table, table_len, write_extent,
    write_location,
};

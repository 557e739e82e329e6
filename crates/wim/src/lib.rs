//! WIM container: header, blob table, resources, metadata, XML, integrity; reading and writing.
//!
//! Bytes only: sources and targets are positioned readers and writers, content is decoded and encoded by the caller on
//! as many threads as it likes. Everything read is hostile until checked: see [`Limits`] and `FORMAT.md`.
#![forbid(unsafe_code)]
#![warn(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing)]
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::as_conversions, clippy::indexing_slicing))]

mod error;
mod limits;

mod compression;
mod header;
mod resource;

mod blobs;
mod chunks;
mod content;
mod solid;

mod info;
mod integrity;
mod metadata;
mod xml;

mod parts;
mod pipe;
mod wim;
mod write;

#[doc(hidden)]
pub mod fuzz;

pub use blobs::{Blob, BlobId, MetadataResource, Resource, ResourceId};
pub use chunks::{Chunk, ChunkEncoding, RAW_PIECE_BYTES, ResourceLayout};
pub use compression::{Compression, Method};
pub use content::ChunkDecoder;
pub use error::{BlobEntryIssue, Error, FileIssue, MAX_WARNINGS, Opened, Scope, Warning, XmlIssue};
pub use header::{HEADER_BYTES, Header, HeaderFlags, Layout};
pub use info::{ImageCounts, ImageInfo, WimInfo, WindowsInfo, WindowsVersion};
pub use integrity::{INTEGRITY_CHUNK_BYTES, IntegrityMismatch, IntegrityTable, hash_range};
pub use limits::Limits;
pub use metadata::Metadata;
pub use metadata::counts::image_counts;
pub use parts::{BlobSet, FoundBlob, check_split_set};
pub use pipe::{PipeReader, PipeResource};
pub use resource::{ResourceFlags, ResourceHeader};
pub use solid::SolidHeader;
pub use wim::{ImageIndex, Wim};
pub use write::{
    BlobOutcome, ChunkData, CopyOutcome, PipableWriter, PlainContent, PlainFrame, TablesWritten, WimTarget,
    WimWriter, WriteOptions, Written, references,
};
pub use xml::{Element, XmlNode, split_step};

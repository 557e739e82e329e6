//! FAT volumes for system partitions (Microsoft "FAT: General Overview of On-Disk Format" 1.03; ECMA-107): built whole from a list of
//! files, and read back.
//!
//! A system partition's content is known before it is written, so the volume is laid out in memory and
//! streamed once: every file in one run of clusters, the same bytes for the same input, the boot sector last. Own code rather than `fatfs` (which is an oracle
//! in the tests): that crate takes its clock from a `'static` object, allocates cluster by cluster, and carries boot
//! code copied from a GPL program.

mod build;
mod geometry;
mod name;
mod read;
mod time;

pub use build::{FatBuilder, FatImage, FatOptions};
pub use geometry::{FatKind, Geometry};
pub use read::{FatEntry, FatVolume};
pub use time::FatTime;

use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Part of the boot sector that all kinds share.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct BpbDisk {
    jump: [u8; 3],         // 0x00
    oem_name: [u8; 8],     // 0x03
    sector_bytes: U16,     // 0x0b  512, 1024, 2048, 4096
    cluster_sectors: u8,   // 0x0d  power of two
    reserved_sectors: U16, // 0x0e  boot sector and its company
    fat_count: u8,         // 0x10
    root_entries: U16,     // 0x11  0 on FAT32
    sectors16: U16,        // 0x13  0: see sectors32
    media: u8,             // 0x15
    fat_sectors16: U16,    // 0x16  0 on FAT32
    track_sectors: U16,    // 0x18
    heads: U16,            // 0x1a
    hidden_sectors: U32,   // 0x1c  sectors before the volume
    sectors32: U32,        // 0x20
}
const _: () = assert!(size_of::<BpbDisk>() == 0x24);

/// What FAT32 has behind that.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct Bpb32Disk {
    fat_sectors: U32,   // 0x24
    flags: U16,         // 0x28  0: both copies are kept alike
    version: U16,       // 0x2a  0
    root_cluster: U32,  // 0x2c
    info_sector: U16,   // 0x30
    backup_sector: U16, // 0x32
    reserved: [u8; 12], // 0x34
}
const _: () = assert!(size_of::<Bpb32Disk>() == 0x40 - 0x24);

/// The end of the parameters, at 0x24 (FAT16) or 0x40 (FAT32).
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct BpbTailDisk {
    drive: u8,       // +0x00
    reserved: u8,    // +0x01
    signature: u8,   // +0x02  0x29: the next three are there
    serial: U32,     // +0x03
    label: [u8; 11], // +0x07
    kind: [u8; 8],   // +0x12  text for humans, not to be trusted
}
const _: () = assert!(size_of::<BpbTailDisk>() == 26);

/// An entry of a directory.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct EntryDisk {
    name: [u8; 11],     // 0x00
    attributes: u8,     // 0x0b
    case: u8,           // 0x0c
    created_centis: u8, // 0x0d
    created_time: U16,  // 0x0e
    created_date: U16,  // 0x10
    accessed_date: U16, // 0x12
    cluster_high: U16,  // 0x14
    modified_time: U16, // 0x16
    modified_date: U16, // 0x18
    cluster_low: U16,   // 0x1a
    size: U32,          // 0x1c
}
const _: () = assert!(size_of::<EntryDisk>() == 32);

/// A part of a long name; stands before the entry it belongs to, last part first.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct LongNameDisk {
    order: u8,        // 0x00  from 1; 0x40 marks the last part
    first: [U16; 5],  // 0x01
    attributes: u8,   // 0x0b  0x0f
    kind: u8,         // 0x0c  0
    checksum: u8,     // 0x0d  of the short name
    second: [U16; 6], // 0x0e
    cluster: U16,     // 0x1a  0
    third: [U16; 2],  // 0x1c
}
const _: () = assert!(size_of::<LongNameDisk>() == 32);

const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_ARCHIVE: u8 = 0x20;
const ATTRIBUTE_LONG_NAME: u8 = 0x0f;
const ENTRY_BYTES: usize = 32;
/// Long names hold 255 units at most.
const MAX_NAME_UNITS: usize = 255;
/// Largest directory the format allows: 65536 entries.
const MAX_DIRECTORY_BYTES: usize = 65536 * ENTRY_BYTES;

#[cfg(test)]
mod tests;

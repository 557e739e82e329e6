//! Attribute headers, type numbers and flags.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Type numbers; attributes of a file stand in this order.
pub(crate) mod attribute_type {
    pub(crate) const STANDARD_INFORMATION: u32 = 0x10;
    pub(crate) const ATTRIBUTE_LIST: u32 = 0x20;
    pub(crate) const FILE_NAME: u32 = 0x30;
    pub(crate) const OBJECT_ID: u32 = 0x40;
    pub(crate) const VOLUME_NAME: u32 = 0x60;
    pub(crate) const VOLUME_INFORMATION: u32 = 0x70;
    pub(crate) const DATA: u32 = 0x80;
    pub(crate) const INDEX_ROOT: u32 = 0x90;
    pub(crate) const INDEX_ALLOCATION: u32 = 0xa0;
    pub(crate) const BITMAP: u32 = 0xb0;
    pub(crate) const REPARSE_POINT: u32 = 0xc0;
    pub(crate) const EA_INFORMATION: u32 = 0xd0;
    pub(crate) const EA: u32 = 0xe0;
}

/// Attribute whose value stands in the record.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct ResidentDisk {
    pub(crate) attribute_type: U32, // 0x00
    pub(crate) len: U32,            // 0x04  bytes with padding to 8
    pub(crate) non_resident: u8,    // 0x08  0
    pub(crate) name_len: u8,        // 0x09  units
    pub(crate) name_offset: U16,    // 0x0a
    pub(crate) flags: U16,          // 0x0c
    pub(crate) instance: U16,       // 0x0e  unique in the record
    pub(crate) value_len: U32,      // 0x10  bytes
    pub(crate) value_offset: U16,   // 0x14
    pub(crate) indexed: u8,         // 0x16  1: the value is in an index
    pub(crate) reserved: u8,        // 0x17
} // 0x18  name, value
pub(crate) const RESIDENT_BYTES: usize = 0x18;
const _: () = assert!(size_of::<ResidentDisk>() == RESIDENT_BYTES);

/// Attribute whose value stands in clusters.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct NonResidentDisk {
    pub(crate) attribute_type: U32,  // 0x00
    pub(crate) len: U32,             // 0x04
    pub(crate) non_resident: u8,     // 0x08  1
    pub(crate) name_len: u8,         // 0x09
    pub(crate) name_offset: U16,     // 0x0a
    pub(crate) flags: U16,           // 0x0c
    pub(crate) instance: U16,        // 0x0e
    pub(crate) lowest_vcn: U64,      // 0x10
    pub(crate) highest_vcn: U64,     // 0x18  clusters - 1
    pub(crate) runs_offset: U16,     // 0x20
    pub(crate) compression_unit: u8, // 0x22  log2 of clusters; 0 without holes
    pub(crate) reserved: [u8; 5],    // 0x23
    pub(crate) allocated: U64,       // 0x28  bytes of the runs, holes included
    pub(crate) size: U64,            // 0x30  bytes of the stream
    pub(crate) initialized: U64,     // 0x38  bytes that were ever written
} // 0x40  bytes without the holes (sparse streams only); name, runs
pub(crate) const NON_RESIDENT_BYTES: usize = 0x40;
const _: () = assert!(size_of::<NonResidentDisk>() == NON_RESIDENT_BYTES);

/// Flag of attributes with holes.
pub(crate) const ATTRIBUTE_SPARSE: u16 = 0x8000;

/// One attribute in an attribute list.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct ListEntryDisk {
    pub(crate) attribute_type: U32, // 0x00
    pub(crate) len: U16,            // 0x04  bytes with padding to 8
    pub(crate) name_len: u8,        // 0x06
    pub(crate) name_offset: u8,     // 0x07
    pub(crate) lowest_vcn: U64,     // 0x08
    pub(crate) record: U64,         // 0x10  reference to the record that holds it
    pub(crate) instance: U16,       // 0x18
} // 0x1a  name
pub(crate) const LIST_ENTRY_BYTES: usize = 0x1a;
const _: () = assert!(size_of::<ListEntryDisk>() == LIST_ENTRY_BYTES);

/// Largest attribute list that Windows takes.
pub(crate) const MAX_LIST_BYTES: usize = 256 << 10;

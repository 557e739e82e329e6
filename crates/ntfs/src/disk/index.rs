//! Indexes: root, blocks, entries. They are B-trees: entries of inner nodes are real entries.

use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Head of a node, in the root and in blocks alike; offsets count from its start.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct NodeDisk {
    pub(crate) entries_offset: U32, // 0x00
    pub(crate) used: U32,           // 0x04
    pub(crate) allocated: U32,      // 0x08
    pub(crate) flags: U32,          // 0x0c  1: there are nodes below
}
const NODE_BYTES: usize = 0x10;
const _: () = assert!(size_of::<NodeDisk>() == NODE_BYTES);

/// Value of $INDEX_ROOT before the entries.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct IndexRootDisk {
    pub(crate) attribute_type: U32, // 0x00  what is indexed; 0 in view indexes
    pub(crate) collation: U32,      // 0x04
    pub(crate) block_bytes: U32,    // 0x08
    pub(crate) block_clusters: u8,  // 0x0c  or units of 512 bytes when clusters are larger
    pub(crate) reserved: [u8; 3],   // 0x0d
    pub(crate) node: NodeDisk,      // 0x10
} // 0x20
pub(crate) const INDEX_ROOT_BYTES: usize = 0x20;
const _: () = assert!(size_of::<IndexRootDisk>() == INDEX_ROOT_BYTES);

/// Head of an index block.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct IndexBlockDisk {
    pub(crate) magic: [u8; 4],     // 0x00  "INDX"
    pub(crate) update_offset: U16, // 0x04  0x28
    pub(crate) update_count: U16,  // 0x06
    pub(crate) log_sequence: U64,  // 0x08
    pub(crate) vcn: U64,           // 0x10  its own
    pub(crate) node: NodeDisk,     // 0x18
} // 0x28  update sequence
pub(crate) const INDEX_BLOCK_HEAD_BYTES: usize = 0x28;
const _: () = assert!(size_of::<IndexBlockDisk>() == INDEX_BLOCK_HEAD_BYTES);
/// Where the node's offsets count from.
pub(crate) const INDEX_BLOCK_NODE_POS: usize = 0x18;
const _: () = assert!(std::mem::offset_of!(IndexBlockDisk, node) == INDEX_BLOCK_NODE_POS);

pub(crate) const INDEX_BLOCK_MAGIC: [u8; 4] = *b"INDX";
/// Bytes of a block, on every volume.
pub(crate) const INDEX_BLOCK_BYTES: usize = 4096;
/// Unit of block numbers when clusters are larger than blocks.
pub(crate) const SMALL_VCN_BYTES: u32 = 512;
pub(crate) const NODE_HAS_CHILDREN: u32 = 1;

/// Head of an entry. In name indexes the first field is the reference of the file, in view indexes it is where the data is.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct IndexEntryDisk {
    pub(crate) reference: U64, // 0x00  or u16 data offset, u16 data length, u32 0
    pub(crate) len: U16,       // 0x08  bytes with padding to 8 and child
    pub(crate) key_len: U16,   // 0x0a
    pub(crate) flags: U16,     // 0x0c
    pub(crate) reserved: U16,  // 0x0e
} // 0x10  key, data, padding, child
pub(crate) const INDEX_ENTRY_BYTES: usize = 0x10;
const _: () = assert!(size_of::<IndexEntryDisk>() == INDEX_ENTRY_BYTES);

/// The last 8 bytes are the number of the block with lesser entries.
pub(crate) const ENTRY_HAS_CHILD: u16 = 1;
/// Closes a node; has no key.
pub(crate) const ENTRY_END: u16 = 2;
/// Bytes of a child's number.
pub(crate) const CHILD_BYTES: usize = 8;

/// Orders of index entries.
pub(crate) mod collation {
    /// By name: capitals first, then the units themselves.
    pub(crate) const FILE_NAME: u32 = 0x01;
    pub(crate) const NUMBER: u32 = 0x10;
    pub(crate) const SID: u32 = 0x11;
    /// Security hash, then id.
    pub(crate) const SECURITY_HASH: u32 = 0x12;
    /// A row of u32.
    pub(crate) const NUMBERS: u32 = 0x13;
}

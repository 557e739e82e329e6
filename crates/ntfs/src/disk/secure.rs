//! $Secure: the descriptors and how files refer to them.

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Before each descriptor in $SDS, and the data of $SDH and $SII.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Debug, Clone, Copy)]
#[repr(C)]
pub(crate) struct SecurityHeadDisk {
    pub(crate) hash: U32,   // 0x00
    pub(crate) id: U32,     // 0x04
    pub(crate) offset: U64, // 0x08  in $SDS
    pub(crate) len: U32,    // 0x10  with this head
}
pub(crate) const SECURITY_HEAD_BYTES: usize = 0x14;
const _: () = assert!(size_of::<SecurityHeadDisk>() == SECURITY_HEAD_BYTES);

/// Entries of $SDS start at multiples of this.
pub(crate) const SDS_ALIGN: u64 = 16;
/// No entry crosses a multiple of this; every such block is followed by its copy.
pub(crate) const SDS_BLOCK_BYTES: u64 = 256 << 10;
/// Ids below are the system's.
pub(crate) const FIRST_SECURITY_ID: u32 = 0x100;

/// Hash of a descriptor: over its little-endian u32, rotate left by 3 and add.
pub(crate) fn security_hash(descriptor: &[u8]) -> u32 {
    descriptor.chunks_exact(4).fold(0u32, |hash, word| {
        let word = word.first_chunk::<4>().map_or(0, |word| u32::from_le_bytes(*word));
        hash.rotate_left(3).wrapping_add(word)
    })
}

//! Limits of the format, and why each has its value.

/// Plain bytes of a chunk at most: larger ones save little and make small changes costly (block-imaging 6.4).
pub const MAX_CHUNK_BYTES: u32 = 1 << 20;

/// Chunks below this size share a frame with their neighbours; one by one zstd does badly on them.
pub const SMALL_CHUNK_BYTES: u32 = 64 << 10;

/// Plain bytes of such a shared frame: whoever wants one chunk has to decode so much.
pub const GROUP_BYTES: u32 = 256 << 10;

/// Chunks in a frame at most: a group of single sectors.
pub const MAX_ENTRIES: u32 = 512;

/// Regions of a device end at multiples of this, so that a change spoils the table of one region only. A writer of a file holds
/// the compressed chunks of one region in memory.
pub const REGION_BYTES: u64 = 32 << 20;

/// Plain bytes of a table, of locations, of a root or of a pack's index at most. A region of single sectors needs 3 MiB, a
/// root with all regions 48 MiB.
pub const MAX_STRUCTURE_BYTES: u32 = 64 << 20;

/// Regions of an image at most: 32 TiB of data, and as much free space as there may be.
pub const MAX_REGIONS: u32 = 1 << 20;

/// Extents of one region at most: each sector of 512 bytes one of its own.
pub const MAX_EXTENTS: usize = (32 << 20) / 512;

/// Bytes of the facts about an image, and of what a capture has to say at its end.
pub const MAX_FACTS_BYTES: u32 = 4 << 20;

/// Bytes of a signature.
pub const MAX_SIGNATURE_BYTES: u32 = 1 << 20;

/// Bytes of a device at most: 2^47, so that lengths fit beside a kind in eight bytes.
pub const MAX_DEVICE_BYTES: u64 = 1 << 47;

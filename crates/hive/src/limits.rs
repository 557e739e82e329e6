//! Limits of the format, and ours, each with its reason.

/// Bytes of the base block, and the unit in which bins grow.
pub(crate) const BLOCK_BYTES: u32 = 4096;

/// Most bytes of bins: the top bit of a cell index means volatile storage, which no file has.
pub(crate) const MAX_BINS_BYTES: u32 = 0x8000_0000 - 2 * BLOCK_BYTES;

/// Units of a key name (Windows limit).
pub const MAX_KEY_NAME_UNITS: usize = 255;

/// Units of a value name (Windows limit).
pub const MAX_VALUE_NAME_UNITS: usize = 16_383;

/// Levels of keys below the root (Windows limit). Also bounds every walk through damaged hives.
pub const MAX_DEPTH: usize = 512;

/// Bytes of one segment of big data; values above it are cut from version 1.4 on.
pub(crate) const SEGMENT_BYTES: usize = 16_344;

/// First minor version with big data.
pub(crate) const BIG_DATA_MINOR: u32 = 4;

/// First minor version whose leaves hold hashes (`lh`) instead of hints (`lf`).
pub(crate) const HASH_LEAF_MINOR: u32 = 5;

/// Values longer than this are refused when set: 65,535 segments, and far more than Windows ever reads.
pub(crate) const MAX_VALUE_BYTES: usize = 65_535 * SEGMENT_BYTES;

/// Entries of one leaf: what fills a block with bin header, cell header and list header. Windows starts an index root
/// when a leaf is full.
pub(crate) const MAX_LEAF_ENTRIES: usize = 507;

/// Smallest cell of a key: fixed part and size field, rounded. Bounds counts that a damaged key states.
pub(crate) const MIN_KEY_CELL_BYTES: usize = 80;

/// Faults a check collects; a hive with more is beyond doubt.
pub(crate) const MAX_FAULTS: usize = 1000;

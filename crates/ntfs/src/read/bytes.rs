//! Little-endian numbers out of slices that may be too short.

/// The `u16` at `pos`.
pub(crate) fn u16_at(bytes: &[u8], pos: usize) -> Option<u16> {
    bytes.get(pos..)?.first_chunk().copied().map(u16::from_le_bytes)
}

/// The `u32` at `pos`.
pub(crate) fn u32_at(bytes: &[u8], pos: usize) -> Option<u32> {
    bytes.get(pos..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// The `u64` at `pos`.
pub(crate) fn u64_at(bytes: &[u8], pos: usize) -> Option<u64> {
    bytes.get(pos..)?.first_chunk().copied().map(u64::from_le_bytes)
}

/// `len` bytes from `pos`.
pub(crate) fn part(bytes: &[u8], pos: usize, len: usize) -> Option<&[u8]> {
    bytes.get(pos..pos.checked_add(len)?)
}

/// UTF-16 units; an odd last byte is left out.
pub(crate) fn units(bytes: &[u8]) -> Vec<u16> {
    bytes.chunks_exact(2).map(|pair| u16_at(pair, 0).unwrap_or(0)).collect()
}

/// A number as a position in memory; one that cannot be one is behind every slice.
pub(crate) fn at(value: impl TryInto<usize>) -> usize {
    value.try_into().unwrap_or(usize::MAX)
}

/// A length in memory as a number on disk.
pub(crate) fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// Record number and sequence number of a reference.
pub(crate) fn split_reference(reference: u64) -> (u64, u16) {
    (reference & 0xffff_ffff_ffff, u16::try_from(reference >> 48).unwrap_or(0))
}

/// A reference as people write it.
pub(crate) fn show_reference(reference: u64) -> String {
    let (number, sequence) = split_reference(reference);
    format!("record {number} sequence {sequence}")
}

//! Fields at fixed places, both byte orders; what lies outside of the bytes reads as zero, since lengths were checked before.

fn at<const N: usize>(bytes: &[u8], pos: usize) -> [u8; N] {
    let end = pos.saturating_add(N);
    bytes.get(pos..end).and_then(|part| part.try_into().ok()).unwrap_or([0; N])
}

pub(crate) fn be32(bytes: &[u8], pos: usize) -> u32 {
    u32::from_be_bytes(at(bytes, pos))
}

pub(crate) fn be64(bytes: &[u8], pos: usize) -> u64 {
    u64::from_be_bytes(at(bytes, pos))
}

pub(crate) fn le16(bytes: &[u8], pos: usize) -> u16 {
    u16::from_le_bytes(at(bytes, pos))
}

pub(crate) fn le32(bytes: &[u8], pos: usize) -> u32 {
    u32::from_le_bytes(at(bytes, pos))
}

pub(crate) fn le64(bytes: &[u8], pos: usize) -> u64 {
    u64::from_le_bytes(at(bytes, pos))
}

/// Puts `field` at `pos`; the buffer was made large enough.
pub(crate) fn put(bytes: &mut [u8], pos: usize, field: &[u8]) {
    if let Some(place) = bytes.get_mut(pos..pos.saturating_add(field.len())) {
        place.copy_from_slice(field);
    }
}

/// A length or position in memory as one in a file.
pub(crate) fn wide(len: usize) -> u64 {
    u64::try_from(len).unwrap_or(u64::MAX)
}

/// A length in a file that was checked to fit as one in memory.
pub(crate) fn narrow(len: u64) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}

/// CRC-32C (Castagnoli), as VHDX has it.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            let mask = 0u32.wrapping_sub(crc & 1);
            crc = (crc >> 1) ^ (0x82f6_3b78 & mask);
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_check_value_of_the_castagnoli_polynomial() {
        assert_eq!(super::crc32c(b"123456789"), 0xe306_9283);
    }
}

//! Numbers and texts at fixed places of a block that was read. What lies behind the end of the block reads as zero, so callers
//! check the length of the block once.

use gravure_disk::guid;
use gravure_io::ReadAt;

use crate::Error;

/// The `N` bytes at `at`; zeros where the block ends before.
pub(crate) fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<N>()).copied().unwrap_or([0; N])
}

pub(crate) fn u8(bytes: &[u8], at: usize) -> u8 {
    bytes.get(at).copied().unwrap_or(0)
}

pub(crate) fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

pub(crate) fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

pub(crate) fn le64(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(array(bytes, at))
}

pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(array(bytes, at))
}

pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(array(bytes, at))
}

/// A length or position in memory; what does not fit is larger than any slice.
pub(crate) fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// The other way round.
pub(crate) fn wide(value: usize) -> u64 {
    u64::try_from(value).unwrap_or(u64::MAX)
}

/// `len` bytes at `at`, empty where the block ends before.
pub(crate) fn slice(bytes: &[u8], at: usize, len: usize) -> &[u8] {
    bytes.get(at..).and_then(|rest| rest.get(..len)).unwrap_or_default()
}

/// Text up to the first NUL without control characters and blanks at its ends; `None` when nothing is left.
pub(crate) fn text(bytes: &[u8]) -> Option<String> {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A UUID stored in printing order; `None` for zeros.
pub(crate) fn uuid(bytes: &[u8], at: usize) -> Option<String> {
    let bytes: [u8; 16] = array(bytes, at);
    (bytes != [0; 16]).then(|| guid::from_printed(bytes).to_string())
}

/// Reads `len` bytes, which the caller has bounded.
pub(crate) fn read(dev: &dyn ReadAt, what: &'static str, offset: u64, len: usize) -> Result<Vec<u8>, Error> {
    dev.read_vec_at(offset, len).map_err(Error::io(what, offset))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_behind_the_end_are_zero() {
        let bytes = [1, 2, 3, 4, 5];
        assert_eq!((le16(&bytes, 0), be16(&bytes, 0)), (0x0201, 0x0102));
        assert_eq!((le32(&bytes, 1), be32(&bytes, 1)), (0x0504_0302, 0x0203_0405));
        assert_eq!((le32(&bytes, 2), le64(&bytes, usize::MAX), u8(&bytes, 5)), (0, 0, 0));
        assert_eq!((slice(&bytes, 3, 2), slice(&bytes, 3, 3)), (&[4, 5][..], &[][..]));
    }

    #[test]
    fn texts_end_at_the_first_nul() {
        assert_eq!(text(b" a b \0c"), Some("a b".to_owned()));
        assert_eq!(text(b"\0abc"), None);
        assert_eq!(uuid(&[0; 16], 0), None);
        let printed = uuid(&[0x11; 16], 0).unwrap();
        assert_eq!(printed.to_lowercase(), "11111111-1111-1111-1111-111111111111");
    }
}

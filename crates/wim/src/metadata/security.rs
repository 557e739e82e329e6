//! Security data: the table of descriptors that a metadata resource starts with (wim-container 6.1). Descriptors
//! are kept byte for byte.

use std::sync::Arc;

use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::disk::{align, corrupt, len_u64};
use crate::error::{Error, Warning, Warnings};

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SecurityDisk {
    len: U32,   // 0x00  bytes of the whole block with padding; 0 means 8
    count: U32, // 0x04
} // 0x08  then the sizes, then the descriptors
const HEAD_BYTES: usize = 8;
const _: () = assert!(size_of::<SecurityDisk>() == HEAD_BYTES);

/// Descriptors in stored order.
type Descriptors = Vec<Arc<[u8]>>;

/// The descriptors, and where the root dentry starts.
pub(super) fn read(bytes: &[u8], warnings: &mut Warnings) -> Result<(Descriptors, usize), Error> {
    let (head, _) = SecurityDisk::read_from_prefix(bytes).map_err(|_| {
        corrupt("security data", 0, "at least 8 bytes", format_args!("{} bytes", bytes.len()))
    })?;
    let stored = usize::try_from(head.len.get()).unwrap_or(usize::MAX).max(HEAD_BYTES);
    let end = align(stored);
    let Some(block) = bytes.get(HEAD_BYTES..end) else {
        return Err(corrupt("security data length", 0, format!("at most {} bytes", bytes.len()), stored));
    };
    let count = usize::try_from(head.count.get()).unwrap_or(usize::MAX);
    let Ok((sizes, mut rest)) = <[U64]>::ref_from_prefix_with_elems(block, count) else {
        let expected = format!("at most {} in {stored} bytes", block.len().checked_div(8).unwrap_or(0));
        return Err(corrupt("security descriptor count", 4, expected, count));
    };
    let mut table = Vec::with_capacity(sizes.len());
    for size in sizes {
        let len = usize::try_from(size.get()).ok().filter(|len| *len <= rest.len());
        let Some((descriptor, after)) = len.and_then(|len| rest.split_at_checked(len)) else {
            let what = "security descriptor size";
            return Err(corrupt(what, HEAD_BYTES, format!("at most {} bytes left", rest.len()), size.get()));
        };
        table.push(Arc::from(descriptor));
        rest = after;
    }
    let used = end.saturating_sub(rest.len());
    if align(used) != end {
        let len = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        warnings.push(Warning::SecurityLength { stored: len(stored), computed: len(align(used)) });
    }
    Ok((table, end))
}

/// The block as it is written.
pub(super) fn to_bytes(table: &[Arc<[u8]>]) -> Result<Vec<u8>, Error> {
    let too_long = || Error::unwritable("security data", "the descriptors take 4 GiB or more");
    let count = u32::try_from(table.len()).map_err(|_| too_long())?;
    let content: usize = table.iter().map(|descriptor| descriptor.len().saturating_add(8)).sum();
    let len = align(content.saturating_add(HEAD_BYTES));
    let head =
        SecurityDisk { len: U32::new(u32::try_from(len).map_err(|_| too_long())?), count: U32::new(count) };
    let mut out = Vec::with_capacity(len);
    out.extend_from_slice(head.as_bytes());
    table.iter().for_each(|descriptor| out.extend_from_slice(&len_u64(descriptor).to_le_bytes()));
    table.iter().for_each(|descriptor| out.extend_from_slice(descriptor));
    out.resize(len, 0);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_ok(bytes: &[u8]) -> (Descriptors, usize, usize) {
        let mut warnings = Warnings::default();
        let (table, end) = read(bytes, &mut warnings).unwrap();
        (table, end, warnings.finish(()).warnings.len())
    }

    #[test]
    fn tables_survive() {
        let tables: [&[&[u8]]; 3] = [&[], &[b"abc", b"", b"defgh"], &[&[1; 16]]];
        for table in tables {
            let table: Descriptors = table.iter().map(|descriptor| Arc::from(*descriptor)).collect();
            let bytes = to_bytes(&table).unwrap();
            assert_eq!(read_ok(&bytes), (table, bytes.len(), 0));
        }
    }

    #[test]
    fn length_0_means_8() {
        assert_eq!(read_ok(&[0; 16]), (vec![], 8, 0));
    }

    #[test]
    fn more_than_there_is_room_for_is_refused() {
        let error = |bytes: &[u8]| read(bytes, &mut Warnings::default()).unwrap_err().to_string();
        let mut bytes = to_bytes(&[Arc::from(&b"abc"[..])]).unwrap();
        assert_eq!(bytes.len(), 24);
        bytes[4] = 3;
        assert_eq!(
            error(&bytes),
            "metadata: security descriptor count at 0x4: expected at most 2 in 24 bytes, found 3"
        );
        bytes[4] = 1;
        bytes[8] = 9;
        assert_eq!(
            error(&bytes),
            "metadata: security descriptor size at 0x8: expected at most 8 bytes left, found 9"
        );
        bytes[0] = 25;
        assert_eq!(
            error(&bytes),
            "metadata: security data length at 0x0: expected at most 24 bytes, found 25"
        );
        assert_eq!(
            error(&[0; 7]),
            "metadata: security data at 0x0: expected at least 8 bytes, found 7 bytes"
        );
    }

    #[test]
    fn slack_behind_the_descriptors_is_told() {
        let mut bytes = to_bytes(&[Arc::from(&b"abc"[..])]).unwrap();
        bytes[0] = 32;
        bytes.resize(32, 0);
        let (table, end, warnings) = read_ok(&bytes);
        assert_eq!((table.len(), end, warnings), (1, 32, 1));
    }
}

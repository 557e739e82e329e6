//! What a file format says of a part of its disk, and reading by it.

use std::io;
use std::ops::Range;

/// Where a stretch of the disk is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nowhere: it reads as zeros.
    Zero,
    /// In the file, from this byte on.
    File(u64),
    /// Compressed: bytes of the file, the whole of one cluster.
    Compressed { offset: u64, len: u64 },
}

/// A disk that says where its bytes are, stretch by stretch.
pub(crate) trait Mapped {
    /// Where byte `offset` is, and how many bytes from there on are together, at least 1.
    fn place(&self, offset: u64) -> io::Result<(Place, u64)>;
}

/// The next range at or after `offset`, in a disk of `size` bytes, that is somewhere.
pub(crate) fn next_data(disk: &dyn Mapped, offset: u64, size: u64) -> io::Result<Option<Range<u64>>> {
    let mut at = offset;
    let mut found: Option<Range<u64>> = None;
    while at < size {
        let (place, len) = disk.place(at)?;
        let end = at.saturating_add(len.max(1)).min(size);
        match (&mut found, place) {
            (None, Place::Zero) => {}
            (Some(_), Place::Zero) => break,
            (None, _) => found = Some(at..end),
            (Some(range), _) => range.end = end,
        }
        // Long files of data come in pieces, so that nobody waits for the end of them.
        if found.as_ref().is_some_and(|range| range.end.saturating_sub(range.start) >= MAX_DATA) {
            break;
        }
        at = end;
    }
    Ok(found)
}

const MAX_DATA: u64 = 1 << 30;

//! Whether the log is empty: its last record says that the file system was unmounted ("XFS Algorithms & Data Structures",
//! "Journaling Log").
//!
//! The log is a ring of sectors of 512 bytes. Each record starts with a header that repeats its own place, and the first word of
//! every other sector is replaced by a number of the round, so that nothing else looks like a header. The record with the highest
//! number (round, place) was written last; all of the log is read to find it.

use gravure_io::ReadAt;

use crate::field::{be32, be64, read, size, slice, u8, wide};
use crate::{Error, Reason, State};

const MAGIC: u32 = 0xfeed_babe;
const SECTOR_BYTES: u64 = 512;
/// Bytes of the log read at a time.
const STEP_BYTES: u64 = 1 << 20;
/// Content that one sector of header describes.
const HEADER_COVERS: u32 = 32 << 10;
/// Flag of an operation: the file system was unmounted.
const UNMOUNT: u8 = 0x20;

/// The record that was written last.
#[derive(Debug, Clone, Copy)]
struct Last {
    /// Round and place.
    number: u64,
    /// Sector of its first operation.
    content: u64,
    operations: u32,
    content_bytes: u32,
}

/// Reads the log of `len` bytes at `start`.
pub(super) fn state(dev: &dyn ReadAt, start: u64, len: u64, uuid: &[u8; 16]) -> Result<State, Error> {
    let sectors = len >> 9;
    let mut last: Option<Last> = None;
    let mut sector = 0u64;
    while sector < sectors {
        let count = (STEP_BYTES >> 9).min(sectors.saturating_sub(sector));
        let offset = start.saturating_add(sector.saturating_mul(SECTOR_BYTES));
        let bytes = read(dev, "log", offset, size(count.saturating_mul(SECTOR_BYTES)))?;
        for (nth, bytes) in bytes.as_chunks::<512>().0.iter().enumerate() {
            let place = sector.saturating_add(wide(nth));
            let number = be64(bytes, 16);
            let is_header = be32(bytes, 0) == MAGIC
                && number & 0xffff_ffff == place
                && number >> 32 == u64::from(be32(bytes, 4))
                && slice(bytes, 304, 16) == uuid;
            if is_header && last.is_none_or(|last| number > last.number) {
                // Version 2 has a sector of header for each 32 KiB that a record may hold.
                let covered = if be32(bytes, 8) & 2 != 0 { be32(bytes, 320) } else { 0 };
                let headers = u64::from(covered.div_ceil(HEADER_COVERS).max(1));
                last = Some(Last {
                    number,
                    content: place.saturating_add(headers).checked_rem(sectors).unwrap_or(0),
                    operations: be32(bytes, 40),
                    content_bytes: be32(bytes, 12),
                });
            }
        }
        sector = sector.saturating_add(count);
    }
    let Some(last) = last else { return Ok(State::Unclean(Reason::LogUnknown)) };
    let offset = start.saturating_add(last.content.saturating_mul(SECTOR_BYTES));
    let content = read(dev, "log", offset, 512)?;
    // Header of an operation: transaction, length, client, flags.
    let is_unmount = last.operations == 1 && last.content_bytes > 0 && u8(&content, 9) & UNMOUNT != 0;
    Ok(if is_unmount { State::Clean } else { State::Unclean(Reason::LogPending) })
}

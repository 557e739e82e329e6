//! What the writers have in common: the disk is read front to back, only where it may hold data, in pieces of a MiB.

use gravure_io::{ReadAt, WriteAt};

use crate::Error;
use crate::field::{narrow, wide};

/// Bytes read at a time.
const PIECE_BYTES: u64 = 1 << 20;
/// Holes of a plain file are multiples of this.
const RAW_UNIT: u64 = 4096;

/// What was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Written {
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes of the disk that are in it.
    pub data_bytes: u64,
}

/// Whether all bytes are zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|chunk| *chunk == [0; 64]) && rest.iter().all(|byte| *byte == 0)
}

/// Takes what stands at an offset.
pub(crate) type Sink<'a> = dyn FnMut(u64, &[u8]) -> Result<(), Error> + 'a;

/// Hands every stretch of whole units (a power of two, at most a MiB) that holds something to `sink`, ascending, in pieces; what the
/// last unit has beyond the end of the disk is zeros. `progress` is told how far the disk was read, and may end it all.
pub(crate) fn pieces(
    source: &dyn ReadAt,
    unit: u64,
    progress: &mut dyn FnMut(u64) -> std::io::Result<()>,
    sink: &mut Sink<'_>,
) -> Result<(), Error> {
    let size = source.size();
    let mut at = 0u64;
    let mut buf = Vec::new();
    while at < size {
        progress(at).map_err(Error::io("read disk", at))?;
        let Some(data) = source.next_data(at).map_err(Error::io("read disk", at))? else { break };
        let start = (data.start & !unit.wrapping_sub(1)).max(at);
        let end = data.end.checked_next_multiple_of(unit).unwrap_or(data.end);
        let mut pos = start;
        while pos < end.min(size) {
            progress(pos).map_err(Error::io("read disk", pos))?;
            // Pieces end at multiples of a MiB, so that chunks are fetched once.
            let boundary = (pos / PIECE_BYTES).saturating_add(1).saturating_mul(PIECE_BYTES);
            let stop = boundary.min(end);
            let len = narrow(stop.saturating_sub(pos));
            buf.clear();
            buf.resize(len, 0);
            let there = narrow(stop.min(size).saturating_sub(pos));
            let part = buf.get_mut(..there).unwrap_or_default();
            source.read_exact_at(pos, part).map_err(Error::io("read disk", pos))?;
            let mut from = 0usize;
            while let Some(rest) = buf.get(from..).filter(|rest| !rest.is_empty()) {
                let step = narrow(unit);
                let filled = |unit: &&[u8]| !is_zero(unit);
                let count = rest.chunks(step).take_while(filled).count();
                let len = count.saturating_mul(step).min(rest.len());
                if len > 0 {
                    let run = rest.get(..len).unwrap_or_default();
                    sink(pos.saturating_add(wide(from)), run)?;
                }
                from = from.saturating_add(len.max(step));
            }
            pos = stop;
        }
        at = end.max(at.saturating_add(1));
    }
    progress(size).map_err(Error::io("read disk", size))
}

/// Writes `source` byte for byte to `target`, which is empty and reads as zeros where nothing was written: a file with holes. `progress`
/// is told how far the disk was read; an error of it ends the writing.
pub fn write_raw(
    source: &dyn ReadAt,
    target: &dyn WriteAt,
    progress: &mut dyn FnMut(u64) -> std::io::Result<()>,
) -> Result<Written, Error> {
    let size = source.size();
    let (mut reached, mut data_bytes) = (0u64, 0u64);
    pieces(source, RAW_UNIT, progress, &mut |offset, bytes| {
        let left = narrow(size.saturating_sub(offset));
        let bytes = bytes.get(..left).unwrap_or(bytes);
        target.write_all_at(offset, bytes).map_err(Error::io("write disk", offset))?;
        reached = offset.saturating_add(wide(bytes.len()));
        data_bytes = data_bytes.saturating_add(wide(bytes.len()));
        Ok(())
    })?;
    if reached < size {
        let last = size.saturating_sub(1);
        target.write_all_at(last, &[0]).map_err(Error::io("write disk", last))?;
    }
    target.sync().map_err(Error::io("sync", 0))?;
    Ok(Written { file_bytes: size, data_bytes })
}

//! Free space: which stretches are free, taking cells from them, giving them back, new bins at the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Error;
use crate::hive::Hive;
use crate::image::{BIN_HEADER_BYTES, Bin, CELL_HEADER_BYTES, Cell, slice_mut};
use crate::limits::{BLOCK_BYTES, MAX_BINS_BYTES};

/// All free stretches of a hive. Kept in step with the size fields in the bytes.
#[derive(Debug, Default)]
pub(crate) struct Space {
    by_place: BTreeMap<u32, u32>,
    by_len: BTreeSet<(u32, u32)>,
}

impl Space {
    /// Finds what is free; neighbours become one stretch.
    pub(crate) fn scan(hive: &mut Hive) -> Result<Self, Error> {
        let mut space = Self::default();
        for bin in hive.image.bins.clone() {
            let mut run: Option<(u32, u32)> = None;
            let mut runs = Vec::new();
            for extent in hive.image.extents(bin) {
                let extent = extent?;
                run = match (run, extent.is_used) {
                    (Some((at, len)), false) => Some((at, len.saturating_add(extent.len))),
                    (None, false) => Some((extent.cell.0, extent.len)),
                    (done, true) => {
                        runs.extend(done);
                        None
                    }
                };
            }
            runs.extend(run);
            for (at, len) in runs {
                hive.image.set_extent(Cell(at), len, false);
                space.insert(at, len);
            }
        }
        Ok(space)
    }

    fn insert(&mut self, at: u32, len: u32) {
        self.by_place.insert(at, len);
        self.by_len.insert((len, at));
    }

    fn remove(&mut self, at: u32) -> Option<u32> {
        let len = self.by_place.remove(&at)?;
        self.by_len.remove(&(len, at));
        Some(len)
    }

    /// A cell for `len` bytes of content, filled with zeros: from the smallest stretch that is large enough, else from a
    /// new bin.
    pub(crate) fn allocate(&mut self, hive: &mut Hive, len: usize) -> Result<Cell, Error> {
        let full = || Error::Full {
            limit: u64::from(MAX_BINS_BYTES),
            wanted: u64::try_from(len).unwrap_or(u64::MAX),
        };
        let content = u32::try_from(len).ok().filter(|len| *len < MAX_BINS_BYTES).ok_or_else(full)?;
        let need = content.saturating_add(CELL_HEADER_BYTES).max(8).next_multiple_of(8);
        let found = self.by_len.range((need, 0)..).next().copied();
        let (have, at) = match found {
            Some(found) => found,
            None => {
                let bin = grow(hive, need).ok_or_else(full)?;
                (bin.end().saturating_sub(bin.first_cell()), bin.first_cell())
            }
        };
        self.remove(at);
        let rest = have.saturating_sub(need);
        if rest > 0 {
            let after = at.saturating_add(need);
            hive.image.set_extent(Cell(after), rest, false);
            self.insert(after, rest);
        }
        hive.image.set_extent(Cell(at), need, true);
        hive.image.cell_mut(Cell(at), "new cell")?.fill(0);
        Ok(Cell(at))
    }

    /// Gives a cell back. Its content is overwritten, so that deleted values do not stay readable in the file.
    pub(crate) fn free(&mut self, hive: &mut Hive, cell: Cell) -> Result<(), Error> {
        hive.image.cell_mut(cell, "cell to free")?.fill(0);
        let extent = hive.image.extent(cell, "cell to free")?;
        let (mut at, mut len) = (cell.0, extent.len);
        let bin = hive.image.bin_of(at);
        let end = at.saturating_add(len);
        if bin.is_some_and(|bin| end < bin.end())
            && let Some(after) = self.remove(end)
        {
            clear_header(hive, end);
            len = len.saturating_add(after);
        }
        let before = self.by_place.range(..at).next_back().map(|(place, len)| (*place, *len));
        if let Some((place, before)) = before
            && place.saturating_add(before) == at
            && bin.is_some_and(|bin| place >= bin.first_cell())
        {
            self.remove(place);
            clear_header(hive, at);
            at = place;
            len = len.saturating_add(before);
        }
        hive.image.set_extent(Cell(at), len, false);
        self.insert(at, len);
        Ok(())
    }
}

fn clear_header(hive: &mut Hive, at: u32) {
    if let Some(field) = slice_mut(&mut hive.image.bytes, at, CELL_HEADER_BYTES) {
        field.fill(0);
    }
}

/// Appends a bin with room for a cell of `need` bytes; `None` when the hive would become too large.
fn grow(hive: &mut Hive, need: u32) -> Option<Bin> {
    let start = hive.image.bins_bytes();
    let len = need.checked_add(BIN_HEADER_BYTES)?.checked_next_multiple_of(BLOCK_BYTES)?;
    let end = start.checked_add(len).filter(|end| *end <= MAX_BINS_BYTES)?;
    let file_end = usize::try_from(end.checked_add(BLOCK_BYTES)?).ok()?;
    // What stood behind the bins (padding of the file system's clusters) is overwritten first.
    if hive.image.bytes.len() < file_end {
        hive.image.bytes.resize(file_end, 0);
    }
    let content = slice_mut(&mut hive.image.bytes, start, len)?;
    content.fill(0);
    let fields = [(0, *b"hbin"), (4, start.to_le_bytes()), (8, len.to_le_bytes())];
    for (at, bytes) in fields {
        content.get_mut(at..)?.first_chunk_mut::<4>()?.copy_from_slice(&bytes);
    }
    let bin = Bin { start, len };
    hive.image.bins.push(bin);
    hive.image.set_extent(Cell(bin.first_cell()), len.saturating_sub(BIN_HEADER_BYTES), false);
    hive.base.bins_bytes = end;
    Some(bin)
}

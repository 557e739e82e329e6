//! The bytes of a hive as bins and cells: every access is checked here, and nowhere else.

use crate::base::BaseBlock;
use crate::error::{Error, corrupt};
use crate::limits::BLOCK_BYTES;

/// Bytes before the first cell of a bin.
pub(crate) const BIN_HEADER_BYTES: u32 = 32;
/// Bytes of the size field that starts a cell.
pub(crate) const CELL_HEADER_BYTES: u32 = 4;

/// Where a cell is: bytes from the start of the bins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Cell(pub(crate) u32);

impl Cell {
    /// No cell.
    pub(crate) const NIL: Self = Self(u32::MAX);

    pub(crate) fn is_nil(self) -> bool {
        self == Self::NIL
    }

    /// Absolute offset in the file.
    pub(crate) fn offset(self) -> u64 {
        u64::from(self.0).saturating_add(u64::from(BLOCK_BYTES))
    }
}

/// A bin: a run of cells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bin {
    pub(crate) start: u32,
    pub(crate) len: u32,
}

impl Bin {
    pub(crate) fn end(self) -> u32 {
        self.start.saturating_add(self.len)
    }

    pub(crate) fn first_cell(self) -> u32 {
        self.start.saturating_add(BIN_HEADER_BYTES)
    }
}

/// A stretch of a bin, as its size field tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) cell: Cell,
    /// Bytes with the size field.
    pub(crate) len: u32,
    pub(crate) is_used: bool,
}

/// The whole file, with the bins found in it.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    pub(crate) bins: Vec<Bin>,
}

impl Image {
    /// Finds the bins; `base` was read from the same bytes.
    pub(crate) fn parse(bytes: Vec<u8>, base: &BaseBlock) -> Result<Self, Error> {
        let mut bins = Vec::new();
        let mut start = 0;
        while start < base.bins_bytes {
            let offset = Cell(start).offset();
            let header = slice(&bytes, start, BIN_HEADER_BYTES)
                .ok_or_else(|| corrupt("bin header", offset, "32 bytes", "the end of the file"))?;
            if !header.starts_with(b"hbin") {
                let found = header.get(..4).unwrap_or_default();
                return Err(corrupt("bin signature", offset, "\"hbin\"", format_args!("{found:02x?}")));
            }
            let stated = u32_at(header, 4).unwrap_or_default();
            if stated != start {
                let expected = format!("{start:#x}");
                return Err(corrupt("bin's own offset", offset, expected, format_args!("{stated:#x}")));
            }
            let len = u32_at(header, 8).unwrap_or_default();
            let left = base.bins_bytes.saturating_sub(start);
            if len == 0 || !len.is_multiple_of(BLOCK_BYTES) || len > left {
                let expected = format!("a multiple of {BLOCK_BYTES} up to {left}");
                return Err(corrupt("bin size", offset, expected, len));
            }
            bins.push(Bin { start, len });
            start = start.saturating_add(len);
        }
        Ok(Self { bytes, bins })
    }

    /// Bytes of all bins.
    pub(crate) fn bins_bytes(&self) -> u32 {
        self.bins.last().map_or(0, |bin| bin.end())
    }

    /// The bin that holds `at`.
    pub(crate) fn bin_of(&self, at: u32) -> Option<Bin> {
        let after = self.bins.partition_point(|bin| bin.start <= at);
        self.bins.get(after.checked_sub(1)?).copied().filter(|bin| at < bin.end())
    }

    /// The cell or free stretch that starts at `cell`.
    pub(crate) fn extent(&self, cell: Cell, what: &'static str) -> Result<Extent, Error> {
        let bin = self.bin_of(cell.0).filter(|bin| cell.0 >= bin.first_cell());
        let Some(bin) = bin.filter(|_| cell.0.is_multiple_of(8)) else {
            let expected = format!("a multiple of 8 inside {} bytes of bins", self.bins_bytes());
            return Err(corrupt(what, cell.offset(), expected, format_args!("cell {:#x}", cell.0)));
        };
        let raw = slice(&self.bytes, cell.0, CELL_HEADER_BYTES).and_then(|head| u32_at(head, 0));
        let size = raw.unwrap_or_default().cast_signed();
        let (len, left) = (size.unsigned_abs(), bin.end().saturating_sub(cell.0));
        if len < 8 || !len.is_multiple_of(8) || len > left {
            let expected = format!("a size that is a multiple of 8 up to {left}");
            return Err(corrupt(what, cell.offset(), expected, size));
        }
        Ok(Extent { cell, len, is_used: size < 0 })
    }

    /// Content of a used cell.
    pub(crate) fn cell(&self, cell: Cell, what: &'static str) -> Result<&[u8], Error> {
        let extent = self.used(cell, what)?;
        let content = slice(&self.bytes, extent.cell.0, extent.len);
        Ok(content.and_then(|bytes| bytes.get(4..)).unwrap_or_default())
    }

    /// Content of a used cell, to change it.
    pub(crate) fn cell_mut(&mut self, cell: Cell, what: &'static str) -> Result<&mut [u8], Error> {
        let extent = self.used(cell, what)?;
        let content = slice_mut(&mut self.bytes, extent.cell.0, extent.len);
        Ok(content.and_then(|bytes| bytes.get_mut(4..)).unwrap_or_default())
    }

    fn used(&self, cell: Cell, what: &'static str) -> Result<Extent, Error> {
        let extent = self.extent(cell, what)?;
        if !extent.is_used {
            return Err(corrupt(what, cell.offset(), "a cell in use", "a free one"));
        }
        Ok(extent)
    }

    /// All cells and free stretches of a bin, in order.
    pub(crate) fn extents(&self, bin: Bin) -> impl Iterator<Item = Result<Extent, Error>> + '_ {
        let mut at = Some(bin.first_cell());
        std::iter::from_fn(move || {
            let start = at.filter(|start| *start < bin.end())?;
            let extent = self.extent(Cell(start), "cell");
            at = extent.as_ref().ok().and_then(|extent| start.checked_add(extent.len));
            Some(extent)
        })
    }

    /// Overwrites the size field at `cell`.
    pub(crate) fn set_extent(&mut self, cell: Cell, len: u32, is_used: bool) {
        let size = if is_used { 0u32.wrapping_sub(len) } else { len };
        if let Some(field) = slice_mut(&mut self.bytes, cell.0, CELL_HEADER_BYTES) {
            field.copy_from_slice(&size.to_le_bytes());
        }
    }
}

/// Bytes of the bins, `at` counted from their start.
pub(crate) fn slice(bytes: &[u8], at: u32, len: u32) -> Option<&[u8]> {
    let start = usize::try_from(Cell(at).offset()).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(len).ok()?)?)
}

pub(crate) fn slice_mut(bytes: &mut [u8], at: u32, len: u32) -> Option<&mut [u8]> {
    let start = usize::try_from(Cell(at).offset()).ok()?;
    bytes.get_mut(start..start.checked_add(usize::try_from(len).ok()?)?)
}

/// Little-endian number at byte `at`.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

/// A size or count that came from a 32-bit field.
pub(crate) fn wide(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

//! Puts the table of a region together, extent by extent.

use crate::table::{ExtentKind, write_extent};
use crate::{ChunkId, Region};

/// The table of one region in the making.
#[derive(Debug, Default)]
pub struct RegionBuilder {
    offset: u64,
    len: u64,
    data_bytes: u64,
    table: Vec<u8>,
    /// The last extent, as long as it may grow.
    open: Option<(ExtentKind, u64)>,
    chunks: u64,
}

/// A finished table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FinishedRegion {
    /// For the root.
    pub region: Region,
    /// The stored form of the table.
    pub table: Vec<u8>,
    /// Data extents in it.
    pub chunks: u64,
}

impl RegionBuilder {
    /// A region that begins at byte `offset` of the device.
    pub fn new(offset: u64) -> Self {
        Self { offset, ..Self::default() }
    }

    /// Adds the next `len` bytes. Neighbours of one kind become one extent, chunks never do.
    pub fn push(&mut self, kind: ExtentKind, len: u64) {
        self.len = self.len.saturating_add(len);
        match &mut self.open {
            Some((open, open_len)) if *open == kind && !matches!(kind, ExtentKind::Data(_)) => {
                *open_len = open_len.saturating_add(len);
            }
            _ => {
                self.close();
                self.open = Some((kind, len));
            }
        }
        if matches!(kind, ExtentKind::Data(_)) {
            self.data_bytes = self.data_bytes.saturating_add(len);
            self.chunks = self.chunks.saturating_add(1);
        }
    }

    fn close(&mut self) {
        if let Some((kind, len)) = self.open.take() {
            write_extent(&mut self.table, kind, len);
        }
    }

    /// Ends the region; the builder begins the next one behind it.
    pub fn finish(&mut self) -> FinishedRegion {
        self.close();
        let next = self.offset.saturating_add(self.len);
        let done = std::mem::replace(self, Self::new(next));
        let region = Region {
            offset: done.offset,
            len: done.len,
            data_bytes: done.data_bytes,
            table: ChunkId::of(&done.table),
        };
        FinishedRegion { region, table: done.table, chunks: done.chunks }
    }
}

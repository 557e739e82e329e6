//! Where the chunks of a volume lie and how much of each is used: for whoever makes it smaller.

use gravure_io::ReadAt;

use super::chunks::{KIND_DATA, KIND_METADATA};
use super::tree::{Key, Reader};
use super::{ITEM_EXTENT, ITEM_METADATA, Superblock, all_chunks, extent_tree};
use crate::Error;

/// What a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum BtrfsContent {
    /// Contents of files.
    Data,
    /// Nodes of trees.
    Metadata,
    /// Both.
    Mixed,
    /// Nodes of the tree of chunks.
    System,
}

/// A chunk: a range of addresses, and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BtrfsChunk {
    /// What it holds.
    pub content: BtrfsContent,
    /// Bytes of one copy.
    pub len: u64,
    /// Bytes of them that extents use.
    pub used: u64,
    /// Where its copies begin on the device, bytes: one, or two.
    pub places: Vec<u64>,
}

impl BtrfsChunk {
    /// Bytes of the device that it takes.
    pub fn device_bytes(&self) -> u64 {
        self.len.saturating_mul(u64::try_from(self.places.len()).unwrap_or(u64::MAX))
    }

    /// Where its last copy ends on the device.
    pub fn end(&self) -> u64 {
        self.places.iter().map(|place| place.saturating_add(self.len)).max().unwrap_or(0)
    }
}

/// The chunks of a Btrfs volume on one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BtrfsLayout {
    /// Number of the device in the volume.
    pub device_id: u64,
    /// Bytes of the device that the volume takes itself to have.
    pub device_bytes: u64,
    /// Bytes of a block.
    pub sector_bytes: u32,
    /// By address.
    pub chunks: Vec<BtrfsChunk>,
}

impl BtrfsLayout {
    /// Reads the tree of chunks and the whole extent tree; checksums, order and places are checked, and that every chunk lies on the device.
    pub fn read(dev: &dyn ReadAt, goes_on: &dyn Fn() -> bool) -> Result<Self, Error> {
        let sb = Superblock::read(dev)?;
        let chunks = all_chunks(dev, &sb, goes_on)?;
        // They must lie apart.
        chunks.by_place(sb.device_bytes)?;
        let reader = Reader::new(dev, &sb, &chunks, goes_on);
        let extents = extent_tree(&reader, &sb)?;
        let mut out = Vec::new();
        let mut at = chunks.iter().map(|(logical, chunk)| {
            let content = match (chunk.kind & KIND_DATA != 0, chunk.kind & KIND_METADATA != 0) {
                (true, true) => BtrfsContent::Mixed,
                (true, false) => BtrfsContent::Data,
                (false, true) => BtrfsContent::Metadata,
                (false, false) => BtrfsContent::System,
            };
            let places = chunk.physical.into_iter().flatten().collect();
            (logical, BtrfsChunk { content, len: chunk.len, used: 0, places })
        });
        let mut current = at.next();
        let mut next = 0u64;
        reader.walk(extents, Key::FIRST, &mut |key, _| {
            let len = match key.kind {
                ITEM_EXTENT => key.offset,
                ITEM_METADATA => sb.node_bytes.into(),
                _ => return Ok(true),
            };
            // Both ascend.
            while let Some((start, chunk)) = &current
                && key.object >= start.saturating_add(chunk.len)
            {
                out.extend(current.take().map(|(_, chunk)| chunk));
                current = at.next();
            }
            let end = key.object.checked_add(len).filter(|_| key.object >= next);
            let inside = current.as_mut().zip(end).filter(|((start, chunk), end)| {
                key.object >= *start && *end <= start.saturating_add(chunk.len)
            });
            let Some(((_, chunk), end)) = inside else {
                let found = format!("{len} bytes at {:#x}", key.object);
                let expected = format!("extents from {next:#x} on, each in a chunk");
                return Err(Error::corrupt("extent tree", extents.place, expected, found));
            };
            chunk.used = chunk.used.saturating_add(len);
            next = end;
            Ok(true)
        })?;
        out.extend(current.into_iter().chain(at).map(|(_, chunk)| chunk));
        Ok(Self {
            device_id: sb.device_id,
            device_bytes: sb.device_bytes,
            sector_bytes: sb.sector_bytes,
            chunks: out,
        })
    }
}

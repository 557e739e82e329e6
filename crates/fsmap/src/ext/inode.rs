//! Inodes, and the blocks of their content: extent trees (ext4 documentation, "Extent Tree") and indirect blocks.

use gravure_io::ReadAt;

use super::groups::Groups;
use super::superblock::Superblock;
use crate::Error;
use crate::field::{array, le16, le32, read, size, slice, wide};

const EXTENTS: u32 = 0x8_0000;
const INLINE_DATA: u32 = 0x1000_0000;
const EXTENT_MAGIC: u16 = 0xf30a;
/// Levels of an extent tree below the inode; five map 2^32 blocks at any block size.
const MAX_DEPTH: u16 = 5;
/// Lengths above it say that the blocks were never written.
const MAX_WRITTEN: u16 = 32768;

/// An inode.
#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub(super) mode: u16,
    pub(super) links: u16,
    /// Bytes.
    pub(super) size: u64,
    flags: u32,
    pub(super) block: [u8; 60],
}

impl Inode {
    pub(super) fn parse(bytes: &[u8]) -> Self {
        Self {
            mode: le16(bytes, 0),
            links: le16(bytes, 0x1a),
            size: u64::from(le32(bytes, 0x6c)) << 32 | u64::from(le32(bytes, 0x4)),
            flags: le32(bytes, 0x20),
            block: array(bytes, 0x28),
        }
    }

    pub(super) fn is_file(&self) -> bool {
        self.mode & 0xf000 == 0x8000
    }

    pub(super) fn is_directory(&self) -> bool {
        self.mode & 0xf000 == 0x4000
    }

    fn is_symlink(&self) -> bool {
        self.mode & 0xf000 == 0xa000
    }

    pub(super) fn is_inline(&self) -> bool {
        self.flags & INLINE_DATA != 0
    }

    /// Its 60 bytes say where blocks are; short links, devices and the like keep something else there.
    fn has_blocks(&self) -> bool {
        let is_short_link = self.is_symlink() && self.size < 60 && self.flags & EXTENTS == 0;
        !self.is_inline() && (self.is_file() || self.is_directory() || self.is_symlink()) && !is_short_link
    }
}

/// Reads inode `number` (one-based).
pub(super) fn read_inode(dev: &dyn ReadAt, sb: &Superblock, number: u32) -> Result<Inode, Error> {
    let index = number.checked_sub(1).filter(|_| number <= sb.inodes);
    let Some(index) = index else {
        return Err(Error::corrupt("inode number", 0, format!("1 to {}", sb.inodes), number));
    };
    let group = index.checked_div(sb.group_inodes).unwrap_or(0);
    let table = Groups::new(dev, sb).get(group)?.inode_table;
    let pos =
        u64::from(index.checked_rem(sb.group_inodes).unwrap_or(0)).saturating_mul(sb.inode_bytes.into());
    let offset = sb.offset(table).saturating_add(pos);
    Ok(Inode::parse(&read(dev, "inode", offset, usize::from(sb.inode_bytes))?))
}

/// Blocks side by side, in the file and on the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) logical: u64,
    pub(super) physical: u64,
    pub(super) blocks: u64,
    /// Holds what was written; else it reads as zeros whatever stands there.
    pub(super) is_written: bool,
}

/// Follows the block maps of inodes. A damaged file system may have millions of inodes that share one tree: all walks of one
/// walker together read no more blocks than its budget.
pub(super) struct BlockWalk<'a> {
    dev: &'a dyn ReadAt,
    sb: &'a Superblock,
    /// Blocks of trees that may still be read.
    budget: u64,
}

/// What a walk finds.
pub(super) trait Blocks {
    /// Content; ascending in the file.
    fn piece(&mut self, piece: Piece);
    /// A block of the map itself.
    fn tree(&mut self, block: u64) {
        let _ = block;
    }
}

impl<'a> BlockWalk<'a> {
    pub(super) fn new(dev: &'a dyn ReadAt, sb: &'a Superblock) -> Self {
        Self { dev, sb, budget: sb.blocks }
    }

    /// All blocks of `inode`, ascending in the file.
    pub(super) fn walk(&mut self, inode: &Inode, out: &mut dyn Blocks) -> Result<(), Error> {
        if !inode.has_blocks() {
            return Ok(());
        }
        if inode.flags & EXTENTS != 0 {
            let mut next = 0;
            return self.extents(&inode.block, 0, None, &mut next, out);
        }
        let mut merged = Merge { piece: None, out };
        let mut logical = 0u64;
        let pointers = inode.block.as_chunks::<4>().0;
        for (slot, pointer) in pointers.iter().enumerate() {
            let level = slot.saturating_sub(11);
            self.indirect(u32::from_le_bytes(*pointer), level, &mut logical, inode, &mut merged)?;
        }
        merged.flush();
        Ok(())
    }

    fn tree_block(&mut self, block: u64, out: &mut dyn Blocks) -> Result<Vec<u8>, Error> {
        let sb = self.sb;
        if block <= u64::from(sb.first_block) || block >= sb.blocks {
            return Err(self.wrong("block of a block map", block, "a block of the file system", block));
        }
        let Some(left) = self.budget.checked_sub(1) else {
            return Err(self.wrong("block maps", block, "fewer blocks than the file system has", sb.blocks));
        };
        self.budget = left;
        out.tree(block);
        read(self.dev, "block map", sb.offset(block), sb.block_len())
    }

    fn wrong(&self, what: &str, block: u64, expected: &str, found: impl ToString) -> Error {
        Error::corrupt(what, self.sb.offset(block), expected, found)
    }

    /// A node of an extent tree, `node`, which stands in `block`, or in the inode when that is 0.
    fn extents(
        &mut self,
        node: &[u8],
        block: u64,
        depth: Option<u16>,
        next: &mut u64,
        out: &mut dyn Blocks,
    ) -> Result<(), Error> {
        let (magic, entries, own_depth) = (le16(node, 0), le16(node, 2), le16(node, 6));
        let room = node.len().saturating_sub(12).checked_div(12).unwrap_or(0);
        let is_depth = depth.map_or(own_depth <= MAX_DEPTH, |depth| depth == own_depth);
        if magic != EXTENT_MAGIC || usize::from(entries) > room || !is_depth {
            let found = format!("magic {magic:#x}, {entries} entries, depth {own_depth}");
            return Err(self.wrong("extent tree node", block, "a header with room for its entries", found));
        }
        for index in 0..usize::from(entries) {
            let entry = slice(node, index.saturating_add(1).saturating_mul(12), 12);
            let logical = u64::from(le32(entry, 0));
            if own_depth > 0 {
                let child = u64::from(le16(entry, 8)) << 32 | u64::from(le32(entry, 4));
                let bytes = self.tree_block(child, out)?;
                self.extents(&bytes, child, Some(own_depth.saturating_sub(1)), next, out)?;
                continue;
            }
            let len = le16(entry, 4);
            let is_written = len <= MAX_WRITTEN;
            let blocks = u64::from(if is_written { len } else { len.saturating_sub(MAX_WRITTEN) });
            let physical = u64::from(le16(entry, 6)) << 32 | u64::from(le32(entry, 8));
            let is_inside = physical > u64::from(self.sb.first_block)
                && physical.checked_add(blocks).is_some_and(|end| end <= self.sb.blocks);
            if logical < *next || blocks == 0 || !is_inside {
                let found = format!("{blocks} blocks from {physical}, {logical} in the file");
                return Err(self.wrong("extent", block, "blocks of the file system, ascending", found));
            }
            *next = logical.saturating_add(blocks);
            out.piece(Piece { logical, physical, blocks, is_written });
        }
        Ok(())
    }

    /// A pointer of the old kind: to content at level 0, else to a block of pointers one level down.
    fn indirect(
        &mut self,
        pointer: u32,
        level: usize,
        logical: &mut u64,
        inode: &Inode,
        out: &mut Merge<'_>,
    ) -> Result<(), Error> {
        let per_block = wide(self.sb.block_len() >> 2);
        let covered = (0..level).fold(1u64, |covered, _| covered.saturating_mul(per_block));
        // What lies behind the end of the file is cut short: a hostile size of 2^64 has no blocks there to follow.
        if pointer == 0
            || *logical >= inode.size.div_ceil(self.sb.block_bytes.into()) && !inode.is_directory()
        {
            *logical = logical.saturating_add(covered);
            return Ok(());
        }
        let block = u64::from(pointer);
        if level == 0 {
            if block <= u64::from(self.sb.first_block) || block >= self.sb.blocks {
                return Err(self.wrong("block pointer", block, "a block of the file system", block));
            }
            out.add(*logical, block);
            *logical = logical.saturating_add(1);
            return Ok(());
        }
        let bytes = self.tree_block(block, out.out)?;
        for pointer in bytes.as_chunks::<4>().0 {
            self.indirect(u32::from_le_bytes(*pointer), level.saturating_sub(1), logical, inode, out)?;
        }
        Ok(())
    }
}

/// Makes pieces of single blocks.
struct Merge<'a> {
    piece: Option<Piece>,
    out: &'a mut dyn Blocks,
}

impl Merge<'_> {
    fn add(&mut self, logical: u64, physical: u64) {
        if let Some(piece) = &mut self.piece {
            let blocks = piece.blocks;
            if piece.logical.saturating_add(blocks) == logical
                && piece.physical.saturating_add(blocks) == physical
            {
                piece.blocks = blocks.saturating_add(1);
                return;
            }
        }
        self.flush();
        self.piece = Some(Piece { logical, physical, blocks: 1, is_written: true });
    }

    fn flush(&mut self) {
        if let Some(piece) = self.piece.take() {
            self.out.piece(piece);
        }
    }
}

/// All pieces of one inode.
impl Blocks for Vec<Piece> {
    fn piece(&mut self, piece: Piece) {
        self.push(piece);
    }
}

/// Reads `len` bytes of a file's content from block `logical` on, given its pieces; holes are zeros.
pub(super) fn read_block(
    dev: &dyn ReadAt,
    sb: &Superblock,
    pieces: &[Piece],
    logical: u64,
) -> Result<Option<Vec<u8>>, Error> {
    let physical = physical_block(pieces, logical);
    physical.map(|block| read(dev, "file content", sb.offset(block), size(sb.block_bytes.into()))).transpose()
}

/// Where a block of a file stands; `None` in a hole.
pub(super) fn physical_block(pieces: &[Piece], logical: u64) -> Option<u64> {
    let index = pieces.partition_point(|piece| piece.logical <= logical).checked_sub(1)?;
    let piece = pieces.get(index)?;
    let within = logical.checked_sub(piece.logical).filter(|within| *within < piece.blocks)?;
    piece.physical.checked_add(within)
}

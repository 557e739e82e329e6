//! Walking an index in order: the entries of inner nodes stand between the blocks below them.
//!
//! Every structure is checked on the way. Each block is visited once at most, so a walk ends whatever stands on the volume;
//! one block a level is in memory.

use gravure_io::ReadAt;
use zerocopy::FromBytes;

use super::boot::BootSector;
use super::bytes::{at, part, u16_at, u64_at, wide};
use super::fault::Fault;
use super::record::unprotect;
use super::stream::Stream;
use crate::Error;
use crate::disk::{
    CHILD_BYTES, ENTRY_END, ENTRY_HAS_CHILD, INDEX_BLOCK_HEAD_BYTES, INDEX_BLOCK_MAGIC, INDEX_BLOCK_NODE_POS,
    INDEX_ENTRY_BYTES, INDEX_ROOT_BYTES, IndexBlockDisk, IndexEntryDisk, IndexRootDisk, NODE_HAS_CHILDREN,
    NodeDisk,
};
use crate::rule::Rule;

/// Deepest index: blocks of 4 KiB hold 40 names and more, so 2^32 files need 6 levels.
const MAX_DEPTH: usize = 24;
const NODE_HEAD_BYTES: usize = 0x10;

/// The attributes that make up an index.
#[derive(Debug, Clone, Copy)]
pub(crate) struct IndexParts<'a> {
    /// Value of $INDEX_ROOT.
    pub(crate) root: &'a [u8],
    /// Absolute offset of that value.
    pub(crate) root_offset: u64,
    pub(crate) blocks: Option<&'a Stream>,
    pub(crate) bitmap: Option<&'a [u8]>,
    /// Names have the file's reference in the head of an entry, other indexes data behind the key.
    pub(crate) kind: IndexKind,
}

/// What the entries of an index are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexKind {
    Names,
    View,
}

/// An entry with a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    /// Absolute.
    pub(crate) offset: u64,
    /// Reference of the file, in indexes of names.
    pub(crate) reference: u64,
    pub(crate) key: &'a [u8],
    /// What stands behind the key in view indexes.
    pub(crate) data: &'a [u8],
}

/// Is told what a walk finds.
pub(crate) trait Visitor {
    /// An entry, in order.
    fn entry(&mut self, entry: &Entry<'_>);
    /// A broken rule; positions of `fault` count from `start`.
    fn fault(&mut self, start: u64, fault: Fault);
}

/// A node that is being gone through.
struct Level {
    bytes: Vec<u8>,
    /// Absolute offset of the bytes.
    start: u64,
    pos: usize,
    end: usize,
    is_inner: bool,
    /// Whether the node below the entry at `pos` was walked.
    is_descended: bool,
}

/// Walks the whole index.
pub(crate) fn walk(
    source: &dyn ReadAt,
    boot: &BootSector,
    parts: &IndexParts<'_>,
    visitor: &mut dyn Visitor,
) -> Result<(), Error> {
    let Ok((root, _)) = IndexRootDisk::read_from_prefix(parts.root) else {
        let found = parts.root.len();
        visitor.fault(
            parts.root_offset,
            Fault::new(Rule::IndexRoot, 0, format!("{INDEX_ROOT_BYTES} bytes or more"), found),
        );
        return Ok(());
    };
    let mut walk = Walk {
        source,
        boot,
        parts,
        visitor,
        block_bytes: root.block_bytes.get(),
        visited: Vec::new(),
        leaf_depth: None,
        stack: Vec::new(),
    };
    walk.check_root(&root);
    let start = INDEX_ROOT_BYTES.saturating_sub(NODE_HEAD_BYTES);
    if let Some(level) =
        walk.node(parts.root.to_vec(), parts.root_offset, start, &root.node, parts.root.len())
    {
        walk.stack.push(level);
        walk.run()?;
    }
    walk.check_bitmap();
    Ok(())
}

struct Walk<'a> {
    source: &'a dyn ReadAt,
    boot: &'a BootSector,
    parts: &'a IndexParts<'a>,
    visitor: &'a mut dyn Visitor,
    block_bytes: u32,
    /// Bit by block.
    visited: Vec<u8>,
    leaf_depth: Option<usize>,
    stack: Vec<Level>,
}

impl Walk<'_> {
    fn tell(
        &mut self,
        start: u64,
        rule: Rule,
        pos: usize,
        expected: impl std::fmt::Display,
        found: impl std::fmt::Display,
    ) {
        self.visitor.fault(start, Fault::new(rule, pos, expected, found));
    }

    fn check_root(&mut self, root: &IndexRootDisk) {
        let block = wide(self.boot.index_block_bytes);
        let offset = self.parts.root_offset;
        if u64::from(self.block_bytes) != block {
            self.tell(offset, Rule::IndexBlockSize, 8, block, self.block_bytes);
            self.block_bytes = u32::try_from(block).unwrap_or(u32::MAX);
        }
        let step = block.checked_div(self.boot.index_vcn_bytes()).unwrap_or(0);
        if u64::from(root.block_clusters) != step {
            self.tell(offset, Rule::IndexBlockStep, 0xc, step, root.block_clusters);
        }
        let has_children = root.node.flags.get() & NODE_HAS_CHILDREN != 0;
        if has_children && self.parts.blocks.is_none() {
            self.tell(offset, Rule::IndexBlocks, 0x1c, "$INDEX_ALLOCATION", "none");
        }
    }

    /// Checks the head of a node at `pos` of `bytes`, and makes it a level. `room` is where its bytes end at most.
    fn node(
        &mut self,
        bytes: Vec<u8>,
        start: u64,
        pos: usize,
        head: &NodeDisk,
        room: usize,
    ) -> Option<Level> {
        let room = room.saturating_sub(pos);
        let (first, used, allocated) =
            (at(head.entries_offset.get()), at(head.used.get()), at(head.allocated.get()));
        let mut fail = |field: usize, expected: String, found: usize| {
            self.visitor
                .fault(start, Fault::new(Rule::IndexNode, pos.saturating_add(field), expected, found));
        };
        if allocated > room || !allocated.is_multiple_of(8) {
            fail(8, format!("a multiple of 8 up to {room}"), allocated);
            return None;
        }
        if used > allocated || !used.is_multiple_of(8) {
            fail(4, format!("a multiple of 8 up to {allocated}"), used);
            return None;
        }
        if first < NODE_HEAD_BYTES
            || !first.is_multiple_of(8)
            || first.saturating_add(INDEX_ENTRY_BYTES) > used
        {
            fail(0, format!("a multiple of 8 from 16 to {}", used.saturating_sub(INDEX_ENTRY_BYTES)), first);
            return None;
        }
        if head.flags.get() > NODE_HAS_CHILDREN {
            fail(0xc, "0 or 1".to_owned(), at(head.flags.get()));
        }
        let is_inner = head.flags.get() & NODE_HAS_CHILDREN != 0;
        if !is_inner {
            let depth = self.stack.len();
            match self.leaf_depth {
                None => self.leaf_depth = Some(depth),
                Some(known) if known != depth => {
                    self.tell(
                        start,
                        Rule::IndexDepth,
                        pos.saturating_add(0xc),
                        format!("{known} levels"),
                        depth,
                    );
                }
                Some(_) => {}
            }
        }
        let (pos, end) = (pos.saturating_add(first), pos.saturating_add(used));
        Some(Level { bytes, start, pos, end, is_inner, is_descended: false })
    }

    fn run(&mut self) -> Result<(), Error> {
        while let Some(mut level) = self.stack.pop() {
            let Some((entry, len)) = self.parse(&level) else { continue };
            let flags = entry.flags.get();
            if level.is_inner && !level.is_descended {
                level.is_descended = true;
                let child_pos = level.pos.saturating_add(len).saturating_sub(CHILD_BYTES);
                let vcn = u64_at(&level.bytes, child_pos).unwrap_or(0);
                let (start, depth) = (level.start, self.stack.len().saturating_add(1));
                self.stack.push(level);
                if depth > MAX_DEPTH {
                    self.tell(
                        start,
                        Rule::IndexDepth,
                        child_pos,
                        format!("at most {MAX_DEPTH} levels"),
                        depth,
                    );
                } else if let Some(child) = self.child(vcn, start, child_pos)? {
                    self.stack.push(child);
                }
                continue;
            }
            if flags & ENTRY_END != 0 {
                let end = level.pos.saturating_add(len);
                if end != level.end {
                    self.tell(
                        level.start,
                        Rule::IndexUsed,
                        level.pos,
                        format!("the end of the node at {:#x}", level.end),
                        format!("{end:#x}"),
                    );
                }
                continue;
            }
            self.visit(&level, &entry, len);
            level.pos = level.pos.saturating_add(len);
            level.is_descended = false;
            self.stack.push(level);
        }
        Ok(())
    }

    /// The head of the entry at the level's position, and the entry's length. `None` ends the level, which was told.
    fn parse(&mut self, level: &Level) -> Option<(IndexEntryDisk, usize)> {
        let rest = level.bytes.get(level.pos..level.end).unwrap_or_default();
        let Ok((head, _)) = IndexEntryDisk::read_from_prefix(rest) else {
            self.tell(level.start, Rule::IndexEnd, level.pos, "a closing entry", "the end of the node");
            return None;
        };
        let (len, key_len, flags) =
            (usize::from(head.len.get()), usize::from(head.key_len.get()), head.flags.get());
        let child = if flags & ENTRY_HAS_CHILD != 0 { CHILD_BYTES } else { 0 };
        let least = INDEX_ENTRY_BYTES.saturating_add(child).saturating_add(if flags & ENTRY_END != 0 {
            0
        } else {
            key_len
        });
        if len < least || len > rest.len() || !len.is_multiple_of(8) {
            let expected = format!("a multiple of 8 from {least} to {}", rest.len());
            self.tell(level.start, Rule::IndexEntryLength, level.pos.saturating_add(8), expected, len);
            return None;
        }
        // What can be gone on from is told once: inner entries come here before and after the block below them.
        if !level.is_descended && flags & !(ENTRY_HAS_CHILD | ENTRY_END) != 0 {
            self.tell(level.start, Rule::IndexEntryFlags, level.pos.saturating_add(0xc), "0 to 3", flags);
        }
        if (flags & ENTRY_HAS_CHILD != 0) != level.is_inner {
            let expected =
                if level.is_inner { "a block below, as the node has some" } else { "no block below" };
            self.tell(level.start, Rule::IndexEntryFlags, level.pos.saturating_add(0xc), expected, flags);
            return None;
        }
        if !level.is_descended && flags & ENTRY_END != 0 && key_len != 0 {
            self.tell(
                level.start,
                Rule::IndexKey,
                level.pos.saturating_add(0xa),
                "no key in a closing entry",
                key_len,
            );
        }
        Some((head, len))
    }

    fn visit(&mut self, level: &Level, head: &IndexEntryDisk, len: usize) {
        let bytes = level.bytes.get(level.pos..level.pos.saturating_add(len)).unwrap_or_default();
        let key_len = usize::from(head.key_len.get());
        let Some(key) = part(bytes, INDEX_ENTRY_BYTES, key_len) else { return };
        let data = match self.parts.kind {
            IndexKind::Names => &[][..],
            IndexKind::View => {
                let (offset, data_len) =
                    (usize::from(u16_at(bytes, 0).unwrap_or(0)), usize::from(u16_at(bytes, 2).unwrap_or(0)));
                let child = if level.is_inner { CHILD_BYTES } else { 0 };
                let room = bytes.get(..len.saturating_sub(child)).unwrap_or_default();
                let least = INDEX_ENTRY_BYTES.saturating_add(key_len);
                match part(room, offset, data_len) {
                    Some(data)
                        if offset.is_multiple_of(4)
                            && (offset >= least || (data_len == 0 && offset == 0)) =>
                    {
                        data
                    }
                    _ => {
                        let found = format!("{data_len} bytes at {offset:#x}");
                        self.tell(
                            level.start,
                            Rule::IndexData,
                            level.pos,
                            format!("data behind the key at a multiple of 4 from {least:#x} on"),
                            found,
                        );
                        return;
                    }
                }
            }
        };
        let offset = level.start.saturating_add(wide(level.pos));
        self.visitor.entry(&Entry { offset, reference: head.reference.get(), key, data });
    }

    /// Reads the block with number `vcn`, which stands at `pos` of the bytes at `start`.
    fn child(&mut self, vcn: u64, start: u64, pos: usize) -> Result<Option<Level>, Error> {
        let Some(blocks) = self.parts.blocks else { return Ok(None) };
        let block_bytes = u64::from(self.block_bytes);
        let byte =
            vcn.checked_mul(self.boot.index_vcn_bytes()).filter(|byte| byte.is_multiple_of(block_bytes));
        let room = blocks.size.min(blocks.clusters().saturating_mul(self.boot.cluster_bytes));
        let byte = byte.filter(|byte| byte.checked_add(block_bytes).is_some_and(|end| end <= room));
        let Some(byte) = byte else {
            let expected = format!("a block inside {room} bytes");
            self.tell(start, Rule::IndexChild, pos, expected, format!("number {vcn}"));
            return Ok(None);
        };
        let number = byte.checked_div(block_bytes).unwrap_or(0);
        if !set_bit(&mut self.visited, number) {
            self.tell(
                start,
                Rule::IndexTwice,
                pos,
                "a block that no other entry leads to",
                format!("number {vcn}"),
            );
            return Ok(None);
        }
        if !self.parts.bitmap.is_some_and(|bitmap| bit(bitmap, number)) {
            self.tell(
                start,
                Rule::IndexBitmap,
                pos,
                format!("bit {number} of the index's $BITMAP"),
                "not set",
            );
        }
        let mut bytes = vec![0; at(block_bytes)];
        blocks.read(self.source, byte, &mut bytes)?;
        let start = blocks.offset_of(byte).unwrap_or(0);
        if !bytes.starts_with(&INDEX_BLOCK_MAGIC) {
            let found = format!("{:02x?}", bytes.first_chunk::<4>());
            self.tell(start, Rule::IndexMagic, 0, "\"INDX\"", found);
            return Ok(None);
        }
        if let Err(fault) = unprotect(&mut bytes) {
            self.visitor.fault(start, fault);
            return Ok(None);
        }
        let Ok((head, _)) = IndexBlockDisk::read_from_prefix(&bytes) else { return Ok(None) };
        if head.vcn.get() != vcn {
            self.tell(start, Rule::IndexVcn, 0x10, vcn, head.vcn.get());
        }
        let sequence_end = usize::from(head.update_offset.get())
            .saturating_add(usize::from(head.update_count.get()).saturating_mul(2));
        let first = INDEX_BLOCK_NODE_POS.saturating_add(at(head.node.entries_offset.get()));
        if first < sequence_end.max(INDEX_BLOCK_HEAD_BYTES) {
            self.tell(
                start,
                Rule::IndexNode,
                INDEX_BLOCK_NODE_POS,
                format!("entries behind {sequence_end:#x}"),
                format!("{first:#x}"),
            );
            return Ok(None);
        }
        let room = bytes.len();
        let expected = room.saturating_sub(INDEX_BLOCK_NODE_POS);
        if at(head.node.allocated.get()) != expected {
            self.tell(
                start,
                Rule::IndexAllocated,
                INDEX_BLOCK_NODE_POS.saturating_add(8),
                expected,
                head.node.allocated.get(),
            );
        }
        Ok(self.node(bytes, start, INDEX_BLOCK_NODE_POS, &head.node, room))
    }

    /// Every bit of the bitmap is that of a block that was visited.
    fn check_bitmap(&mut self) {
        let Some(bitmap) = self.parts.bitmap else { return };
        let offset = self.parts.root_offset;
        let blocks = self
            .parts
            .blocks
            .map_or(0, |blocks| blocks.size.checked_div(u64::from(self.block_bytes)).unwrap_or(0));
        if wide(bitmap.len()).saturating_mul(8) < blocks {
            self.tell(
                offset,
                Rule::IndexBitmapSize,
                0,
                format!("{blocks} bits or more"),
                wide(bitmap.len()).saturating_mul(8),
            );
        }
        for (index, byte) in bitmap.iter().enumerate() {
            let extra = byte & !self.visited.get(index).copied().unwrap_or(0);
            if extra != 0 {
                let number = wide(index).saturating_mul(8).saturating_add(u64::from(extra.trailing_zeros()));
                self.tell(
                    offset,
                    Rule::IndexLeak,
                    0,
                    "only blocks that entries lead to",
                    format!("bit {number} set"),
                );
                return;
            }
        }
    }
}

/// Bit `number` of `bitmap`.
pub(crate) fn bit(bitmap: &[u8], number: u64) -> bool {
    let byte = bitmap.get(at(number >> 3)).copied().unwrap_or(0);
    byte & 1u8.checked_shl(u32::try_from(number & 7).unwrap_or(0)).unwrap_or(0) != 0
}

/// Sets bit `number`; false when it was set.
fn set_bit(bitmap: &mut Vec<u8>, number: u64) -> bool {
    let index = at(number >> 3);
    if bitmap.len() <= index {
        bitmap.resize(index.saturating_add(1), 0);
    }
    let mask = 1u8.checked_shl(u32::try_from(number & 7).unwrap_or(0)).unwrap_or(0);
    let Some(byte) = bitmap.get_mut(index) else { return false };
    let was_set = *byte & mask != 0;
    *byte |= mask;
    !was_set
}

//! Building indexes whole: sorted entries become a B-tree of full blocks.
//!
//! A level is cut into blocks; the entry behind each block moves up with the block as its child, and the last block hangs
//! on the end entry above. That repeats until what is left fits the root. No block is ever empty.

use zerocopy::IntoBytes;
use zerocopy::byteorder::little_endian::{U16, U32, U64};

use super::attribute::to_u64;
use crate::disk::{
    CHILD_BYTES, ENTRY_END, ENTRY_HAS_CHILD, GUARDED_BYTES, INDEX_BLOCK_BYTES, INDEX_BLOCK_HEAD_BYTES,
    INDEX_BLOCK_MAGIC, INDEX_BLOCK_NODE_POS, INDEX_ENTRY_BYTES, IndexBlockDisk, IndexEntryDisk,
    NODE_HAS_CHILDREN, NodeDisk, protect,
};

/// Where entries start in a block: behind head and update sequence.
const BLOCK_ENTRIES_POS: usize =
    (INDEX_BLOCK_HEAD_BYTES + 2 * (1 + INDEX_BLOCK_BYTES / GUARDED_BYTES)).next_multiple_of(8);
/// Bytes for entries in a block, the end entry included.
const BLOCK_ROOM: usize = INDEX_BLOCK_BYTES - BLOCK_ENTRIES_POS;
/// Entries of a root that has all its entries in blocks.
pub(super) const LEAST_ROOT_ENTRIES_BYTES: usize = INDEX_ENTRY_BYTES + CHILD_BYTES;

/// Sorted entries of one index.
pub(super) trait Entries {
    /// How many.
    fn count(&self) -> usize;
    /// Bytes of entry `index` without a child: a multiple of 8, at most 600.
    fn len(&self, index: usize) -> usize;
    /// Appends entry `index`, [`Entries::len`] bytes.
    fn write(&self, index: usize, out: &mut Vec<u8>);
}

/// An entry that moved up, with the block of what is less.
#[derive(Debug, Clone, Copy)]
struct Moved {
    entry: usize,
    child: u64,
}

/// Entries of one height.
#[derive(Debug)]
enum Items {
    /// All of the index.
    Leaf(usize),
    /// Those that moved up, and the block of what is greater than all.
    Inner { moved: Vec<Moved>, last_child: u64 },
}

impl Items {
    fn count(&self) -> usize {
        match self {
            Self::Leaf(count) => *count,
            Self::Inner { moved, .. } => moved.len(),
        }
    }

    fn get(&self, at: usize) -> (usize, Option<u64>) {
        match self {
            Self::Leaf(_) => (at, None),
            Self::Inner { moved, .. } => (moved[at].entry, Some(moved[at].child)),
        }
    }

    fn child_bytes(&self) -> usize {
        if matches!(self, Self::Leaf(_)) { 0 } else { CHILD_BYTES }
    }

    fn end_bytes(&self) -> usize {
        INDEX_ENTRY_BYTES + self.child_bytes()
    }

    fn item_bytes(&self, entries: &dyn Entries, at: usize) -> usize {
        entries.len(self.get(at).0) + self.child_bytes()
    }

    /// The child of the end entry of a node that ends before item `end`.
    fn end_child(&self, end: usize) -> Option<u64> {
        match self {
            Self::Leaf(_) => None,
            Self::Inner { moved, last_child } => {
                Some(moved.get(end).map_or(*last_child, |moved| moved.child))
            }
        }
    }
}

/// A height that is cut into blocks.
#[derive(Debug)]
struct Level {
    items: Items,
    /// Items of each block. The item between two blocks has moved up.
    blocks: Vec<std::ops::Range<usize>>,
}

/// How an index is cut into blocks.
#[derive(Debug)]
pub(super) struct Shape {
    levels: Vec<Level>,
    root: Items,
}

impl Shape {
    /// Cuts `entries` so that the root has at most `root_bytes` of entries (at least [`LEAST_ROOT_ENTRIES_BYTES`]).
    pub(super) fn new(entries: &dyn Entries, root_bytes: usize) -> Self {
        let mut levels = Vec::new();
        let mut items = Items::Leaf(entries.count());
        let mut first_block = 0;
        while !fits(&items, entries, root_bytes) {
            let blocks = cut(&items, entries);
            let last = blocks.len() - 1;
            let moved = blocks.iter().take(last).enumerate();
            let moved = moved
                .map(|(n, block)| Moved { entry: items.get(block.end).0, child: first_block + to_u64(n) });
            let above = Items::Inner { moved: moved.collect(), last_child: first_block + to_u64(last) };
            first_block += to_u64(blocks.len());
            levels.push(Level { items, blocks });
            items = above;
        }
        Self { levels, root: items }
    }

    /// Number of blocks.
    pub(super) fn block_count(&self) -> u64 {
        self.levels.iter().map(|level| to_u64(level.blocks.len())).sum()
    }

    /// Appends head and entries of the root node.
    pub(super) fn write_root(&self, entries: &dyn Entries, vcn_step: u64, out: &mut Vec<u8>) {
        let at = out.len();
        let head = size_of::<NodeDisk>();
        out.resize(at + head, 0);
        write_entries(&self.root, 0..self.root.count(), entries, vcn_step, out);
        let used = out.len() - at;
        let node = node_head(head, used, used, &self.root);
        out[at..at + head].copy_from_slice(node.as_bytes());
    }

    /// Block `number`; `None` behind the last.
    pub(super) fn block(&self, entries: &dyn Entries, number: u64, vcn_step: u64) -> Option<Vec<u8>> {
        let mut at = usize::try_from(number).ok()?;
        for level in &self.levels {
            if let Some(range) = level.blocks.get(at) {
                return Some(block(&level.items, range.clone(), entries, number * vcn_step, vcn_step));
            }
            at -= level.blocks.len();
        }
        None
    }

    /// The blocks in the order of their numbers.
    pub(super) fn blocks<'a>(
        &'a self,
        entries: &'a dyn Entries,
        vcn_step: u64,
    ) -> impl Iterator<Item = Vec<u8>> + 'a {
        (0..self.block_count()).map_while(move |number| self.block(entries, number, vcn_step))
    }
}

fn fits(items: &Items, entries: &dyn Entries, room: usize) -> bool {
    let mut left = room.checked_sub(items.end_bytes());
    for at in 0..items.count() {
        let Some(now) = left else { return false };
        left = now.checked_sub(items.item_bytes(entries, at));
    }
    left.is_some()
}

/// Fills blocks one after the other; the item behind each is left out.
fn cut(items: &Items, entries: &dyn Entries) -> Vec<std::ops::Range<usize>> {
    let (count, room) = (items.count(), BLOCK_ROOM - items.end_bytes());
    let mut blocks = Vec::new();
    let mut start = 0;
    loop {
        let (mut end, mut used) = (start, 0);
        while end < count {
            used += items.item_bytes(entries, end);
            if used > room {
                break;
            }
            end += 1;
        }
        // What moves up must leave something for the block behind it.
        if end + 1 == count {
            end -= 1;
        }
        blocks.push(start..end);
        if end >= count {
            return blocks;
        }
        start = end + 1;
    }
}

fn node_head(entries_offset: usize, used: usize, allocated: usize, items: &Items) -> NodeDisk {
    let number = |value: usize| U32::new(u32::try_from(value).unwrap_or(u32::MAX));
    let flags = if matches!(items, Items::Leaf(_)) { 0 } else { NODE_HAS_CHILDREN };
    NodeDisk {
        entries_offset: number(entries_offset),
        used: number(used),
        allocated: number(allocated),
        flags: U32::new(flags),
    }
}

fn write_entries(
    items: &Items,
    range: std::ops::Range<usize>,
    entries: &dyn Entries,
    vcn_step: u64,
    out: &mut Vec<u8>,
) {
    let end_child = items.end_child(range.end);
    for at in range {
        let (entry, child) = items.get(at);
        let start = out.len();
        entries.write(entry, out);
        debug_assert_eq!(out.len() - start, entries.len(entry));
        if let Some(child) = child {
            out.extend_from_slice(&(child * vcn_step).to_le_bytes());
            let len = u16::try_from(out.len() - start).unwrap_or(u16::MAX);
            out[start + 8..start + 10].copy_from_slice(&len.to_le_bytes());
            out[start + 12] |= 1;
        }
    }
    let end = IndexEntryDisk {
        reference: U64::new(0),
        len: U16::new(u16::try_from(items.end_bytes()).unwrap_or(u16::MAX)),
        key_len: U16::new(0),
        flags: U16::new(ENTRY_END | if end_child.is_some() { ENTRY_HAS_CHILD } else { 0 }),
        reserved: U16::new(0),
    };
    out.extend_from_slice(end.as_bytes());
    if let Some(child) = end_child {
        out.extend_from_slice(&(child * vcn_step).to_le_bytes());
    }
}

fn block(
    items: &Items,
    range: std::ops::Range<usize>,
    entries: &dyn Entries,
    vcn: u64,
    vcn_step: u64,
) -> Vec<u8> {
    let mut out = Vec::with_capacity(INDEX_BLOCK_BYTES);
    out.resize(BLOCK_ENTRIES_POS, 0);
    write_entries(items, range, entries, vcn_step, &mut out);
    let used = out.len() - INDEX_BLOCK_NODE_POS;
    debug_assert!(out.len() <= INDEX_BLOCK_BYTES);
    let allocated = INDEX_BLOCK_BYTES - INDEX_BLOCK_NODE_POS;
    let head = IndexBlockDisk {
        magic: INDEX_BLOCK_MAGIC,
        update_offset: U16::new(u16::try_from(INDEX_BLOCK_HEAD_BYTES).unwrap_or(0)),
        update_count: U16::new(u16::try_from(1 + INDEX_BLOCK_BYTES / GUARDED_BYTES).unwrap_or(0)),
        log_sequence: U64::new(0),
        vcn: U64::new(vcn),
        node: node_head(BLOCK_ENTRIES_POS - INDEX_BLOCK_NODE_POS, used, allocated, items),
    };
    out[..INDEX_BLOCK_HEAD_BYTES].copy_from_slice(head.as_bytes());
    out.resize(INDEX_BLOCK_BYTES, 0);
    protect(&mut out, INDEX_BLOCK_HEAD_BYTES);
    out
}

/// Bytes of an index's bitmap: a bit for each block, whole units of 8 bytes.
pub(super) fn bitmap_bytes(blocks: u64) -> u64 {
    blocks.div_ceil(64).max(1) * 8
}

/// The bitmap: every block is in use.
pub(super) fn bitmap(blocks: u64) -> Vec<u8> {
    let mut out = vec![0; usize::try_from(bitmap_bytes(blocks)).unwrap_or(0)];
    let whole = usize::try_from(blocks / 8).unwrap_or(0);
    out.iter_mut().take(whole).for_each(|byte| *byte = 0xff);
    if let Some(byte) = out.get_mut(whole) {
        *byte = (1u8 << (blocks % 8)) - 1;
    }
    out
}

#[cfg(test)]
mod tests;

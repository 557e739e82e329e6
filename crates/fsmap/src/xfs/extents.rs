//! Extents of a fork: a list in the inode, or the leaves of a tree whose root is there ("XFS Algorithms & Data Structures", "Data Extents").

use super::check_sum;
use super::inode::{Files, Fork, Form, Inode};
use crate::Error;
use crate::field::{be16, be32, be64, read, size, slice, wide};

const MAGIC_TREE_V4: u32 = 0x424d_4150;
const MAGIC_TREE_V5: u32 = 0x424d_4133;
/// Bytes of a record; of a key and a pointer together as well.
const RECORD_BYTES: usize = 16;
const KEY_BYTES: usize = 8;
/// Bytes of the head of a root in an inode, and of a block of the tree.
const ROOT_BYTES: usize = 4;
const HEADER_BYTES_V4: usize = 24;
const HEADER_BYTES_V5: usize = 72;
/// Levels at most: those of 2^48 extents with five records a block.
const MAX_LEVELS: u16 = 21;
/// Extents of one fork at most: 32 bytes each in memory.
const MAX_EXTENTS: u64 = 1 << 21;

/// A piece of a fork, in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Extent {
    pub(super) logical: u64,
    pub(super) count: u64,
    /// Absolute byte.
    pub(super) offset: u64,
    /// Reads as zeros.
    pub(super) is_unwritten: bool,
}

impl Extent {
    pub(super) fn end(&self) -> u64 {
        self.logical.saturating_add(self.count)
    }
}

impl Files<'_> {
    /// All extents of a fork, ascending. Empty where the content is in the inode.
    pub(super) fn extents(&self, inode: &Inode, fork: &Fork) -> Result<Vec<Extent>, Error> {
        if fork.extents > MAX_EXTENTS {
            return Err(Error::unsupported(
                "count of extents",
                format!("{} of inode {}", fork.extents, inode.number),
            ));
        }
        let mut out = Vec::new();
        match fork.form {
            Form::Local | Form::Device => return Ok(out),
            Form::Extents => {
                let bytes = slice(&fork.bytes, 0, size(fork.extents).saturating_mul(RECORD_BYTES));
                if bytes.is_empty() && fork.extents > 0 {
                    let room = fork.bytes.len().checked_div(RECORD_BYTES).unwrap_or(0);
                    return Err(inode.wrong("count of extents", format!("at most {room}"), fork.extents));
                }
                self.records(inode, bytes, &mut out)?;
            }
            Form::Tree => {
                let (level, count) = (be16(&fork.bytes, 0), usize::from(be16(&fork.bytes, 2)));
                let room = fork.bytes.len().saturating_sub(ROOT_BYTES).checked_div(RECORD_BYTES).unwrap_or(0);
                if level == 0 || level > MAX_LEVELS || count > room {
                    let expected = format!("1 to {MAX_LEVELS} levels, at most {room} records");
                    return Err(inode.wrong("root of extents", expected, format!("{level} and {count}")));
                }
                let pointers = room.saturating_mul(KEY_BYTES).saturating_add(ROOT_BYTES);
                for nth in 0..count {
                    let at = nth.saturating_mul(KEY_BYTES).saturating_add(pointers);
                    let below = level.saturating_sub(1);
                    self.tree(inode, be64(&fork.bytes, at), below, fork.extents, &mut out)?;
                }
            }
        }
        if wide(out.len()) != fork.extents {
            return Err(inode.wrong("count of extents", fork.extents, out.len()));
        }
        Ok(out)
    }

    /// A block of the tree and all below it. Each leaf must have records and these must ascend through all of them, so no block is read twice.
    fn tree(
        &self,
        inode: &Inode,
        number: u64,
        level: u16,
        most: u64,
        out: &mut Vec<Extent>,
    ) -> Result<(), Error> {
        self.go_on()?;
        let Some(offset) = self.blocks(number, 1) else {
            return Err(inode.wrong("tree of extents", "blocks inside a group", format!("{number:#x}")));
        };
        let wrong = |what: &str, expected: String, found: String| {
            let what = format!("inode {}, tree of extents, {what}", inode.number);
            Err(Error::corrupt(what, offset, expected, found))
        };
        let bytes = read(self.dev, "tree of extents", offset, size(self.sb.block_bytes.into()))?;
        let is_new = self.sb.version == 5;
        let (magic, header) =
            if is_new { (MAGIC_TREE_V5, HEADER_BYTES_V5) } else { (MAGIC_TREE_V4, HEADER_BYTES_V4) };
        if be32(&bytes, 0) != magic || be16(&bytes, 4) != level {
            let found = format!("{:#x}, level {}", be32(&bytes, 0), be16(&bytes, 4));
            return wrong("magic and level", format!("{magic:#x}, level {level}"), found);
        }
        if is_new {
            check_sum("tree of extents", offset, &bytes, 64)?;
            let (place, owner) = (be64(&bytes, 24), be64(&bytes, 56));
            if place != offset >> 9 || owner != inode.number || slice(&bytes, 40, 16) != self.sb.meta_uuid {
                let expected = format!("sector {} of inode {}", offset >> 9, inode.number);
                return wrong("owner", expected, format!("sector {place} of inode {owner}"));
            }
        }
        let count = usize::from(be16(&bytes, 6));
        let room = bytes.len().saturating_sub(header).checked_div(RECORD_BYTES).unwrap_or(0);
        if count == 0 || count > room {
            return wrong("records", format!("1 to {room}"), count.to_string());
        }
        if level == 0 {
            if wide(out.len().saturating_add(count)) > most {
                return wrong("extents", format!("{most} in all"), "more".to_owned());
            }
            let records = slice(&bytes, header, count.saturating_mul(RECORD_BYTES));
            return self.records(inode, records, out);
        }
        let pointers = room.saturating_mul(KEY_BYTES).saturating_add(header);
        for nth in 0..count {
            let at = nth.saturating_mul(KEY_BYTES).saturating_add(pointers);
            self.tree(inode, be64(&bytes, at), level.saturating_sub(1), most, out)?;
        }
        Ok(())
    }

    /// Records of 128 bits: mark, 54 bits of the place in the fork, 52 of the block, 21 of the count.
    fn records(&self, inode: &Inode, bytes: &[u8], out: &mut Vec<Extent>) -> Result<(), Error> {
        for record in bytes.as_chunks::<16>().0 {
            let (high, low) = (be64(record, 0), be64(record, 8));
            let logical = (high & (u64::MAX >> 1)) >> 9;
            let block = (high & 0x1ff) << 43 | low >> 21;
            let count = low & 0x1f_ffff;
            let next = out.last().map_or(0, Extent::end);
            let offset = self.blocks(block, count).filter(|_| count > 0 && logical >= next);
            let Some(offset) = offset else {
                let found = format!("{count} blocks at {block:#x} for {logical}");
                return Err(inode.wrong("extent", format!("blocks of a group for {next} or later"), found));
            };
            out.push(Extent { logical, count, offset, is_unwritten: high >> 63 != 0 });
        }
        Ok(())
    }
}

//! Where the files lie: all inodes, front to back.

use gravure_io::ReadAt;

use super::groups::Groups;
use super::inode::{BlockWalk, Blocks, Inode, Piece};
use super::names::system_inode;
use super::superblock::Superblock;
use crate::extents::Extents;
use crate::field::{read, size, slice};
use crate::{Error, FileExtent};

/// Bytes of an inode table read at a time.
const STEP_BYTES: u64 = 1 << 20;

/// Calls `each` with all inodes in use, ascending by number.
pub(super) fn inodes(
    dev: &dyn ReadAt,
    sb: &Superblock,
    goes_on: &dyn Fn() -> bool,
    each: &mut dyn FnMut(u32, &Inode) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut groups = Groups::new(dev, sb);
    let bytes = u64::from(sb.inode_bytes);
    let step = STEP_BYTES.checked_div(bytes).unwrap_or(1).max(1);
    for number in 0..sb.groups {
        let group = groups.get(number)?;
        let mut index = 0u64;
        while index < u64::from(group.inodes) {
            if !goes_on() {
                return Err(Error::Stopped);
            }
            let count = step.min(u64::from(group.inodes).saturating_sub(index));
            let offset = sb.offset(group.inode_table).saturating_add(index.saturating_mul(bytes));
            let table = read(dev, "inode table", offset, size(count.saturating_mul(bytes)))?;
            for nth in 0..count {
                let at = size(nth.saturating_mul(bytes));
                let inode = Inode::parse(slice(&table, at, usize::from(sb.inode_bytes)));
                if inode.links == 0 || inode.mode == 0 {
                    continue;
                }
                let first = u64::from(number).saturating_mul(sb.group_inodes.into());
                let inode_number = first.saturating_add(index).saturating_add(nth).saturating_add(1);
                each(u32::try_from(inode_number).unwrap_or(u32::MAX), &inode)?;
            }
            index = index.saturating_add(count);
        }
    }
    Ok(())
}

/// The pieces of one file.
struct Collector<'a> {
    sb: &'a Superblock,
    size: u64,
    out: &'a mut Extents,
}

impl Blocks for Collector<'_> {
    fn piece(&mut self, piece: Piece) {
        if !piece.is_written {
            return;
        }
        let (file_offset, len) = (self.sb.offset(piece.logical), self.sb.offset(piece.blocks));
        let content = self.size.saturating_sub(file_offset).min(len);
        if content > 0 {
            let offset = self.sb.offset(piece.physical);
            self.out.push(FileExtent { offset, len, file_offset, content });
        }
    }
}

/// Adds the pieces of all files to `out`; returns how many files have a block map that cannot be followed.
pub(super) fn extents(
    dev: &dyn ReadAt,
    sb: &Superblock,
    goes_on: &dyn Fn() -> bool,
    out: &mut Extents,
) -> Result<u64, Error> {
    let mut walk = BlockWalk::new(dev, sb);
    let mut damaged = 0u64;
    inodes(dev, sb, goes_on, &mut |number, inode| {
        if !inode.is_file() || system_inode(sb, number).is_some() {
            return Ok(());
        }
        match walk.walk(inode, &mut Collector { sb, size: inode.size, out }) {
            Err(Error::Corrupt { .. }) => damaged = damaged.saturating_add(1),
            other => other?,
        }
        Ok(())
    })?;
    Ok(damaged)
}

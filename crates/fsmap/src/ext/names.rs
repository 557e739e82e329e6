//! Names of what blocks belong to: inodes whose block maps touch them, then the directory tree down from the root.

use std::collections::BTreeSet;
use std::ops::Range;

use gravure_io::ReadAt;

use super::files::inodes;
use super::groups::Groups;
use super::inode::{BlockWalk, Blocks, Inode, Piece, read_block, read_inode};
use super::superblock::Superblock;
use crate::field::{le16, le32, size, slice, u8};
use crate::owners::{Claims, Names};
use crate::{Error, Owned};

pub(super) const ROOT: u32 = 2;
const FILE_TYPE_DIRECTORY: u8 = 2;
/// Feature: entries say what kind of file they name.
const INCOMPAT_FILETYPE: u32 = 0x2;
/// Levels of directories followed; a path of the kernel has 4096 bytes.
const MAX_DEPTH: usize = 2048;

/// What the file system keeps in its own inodes.
pub(super) fn system_inode(sb: &Superblock, number: u32) -> Option<&'static str> {
    match number {
        ROOT => None,
        1 => Some("list of bad blocks"),
        3 | 4 => Some("quota"),
        7 => Some("blocks reserved for growth"),
        number if number == sb.journal_inode => Some("journal"),
        number if number == sb.quota_inode => Some("quota"),
        number if number == sb.orphan_inode => Some("list of orphans"),
        number if number < sb.first_inode => Some("reserved inode"),
        _ => None,
    }
}

/// Claims what an inode has of the blocks asked for.
struct Claimer<'a, 'b> {
    sb: &'a Superblock,
    number: u32,
    claims: &'a mut Claims<'b>,
}

impl Claimer<'_, '_> {
    fn claim(&mut self, start: u64, blocks: u64) {
        let range = self.sb.offset(start)..self.sb.offset(start.saturating_add(blocks));
        match system_inode(self.sb, self.number) {
            Some(what) => self.claims.metadata(range, || what.to_owned()),
            None => self.claims.file(range, self.number.into()),
        }
    }
}

impl Blocks for Claimer<'_, '_> {
    fn piece(&mut self, piece: Piece) {
        self.claim(piece.physical, piece.blocks);
    }

    fn tree(&mut self, block: u64) {
        self.claim(block, 1);
    }
}

pub(super) fn owners(
    dev: &dyn ReadAt,
    sb: &Superblock,
    ranges: &[Range<u64>],
    goes_on: &dyn Fn() -> bool,
) -> Result<Vec<Owned>, Error> {
    let mut claims = Claims::new(ranges);
    let mut walk = BlockWalk::new(dev, sb);
    let mut directories = 0u64;
    inodes(dev, sb, goes_on, &mut |number, inode| {
        directories = directories.saturating_add(u64::from(inode.is_directory()));
        match walk.walk(inode, &mut Claimer { sb, number, claims: &mut claims }) {
            Err(Error::Corrupt { .. }) => Ok(()),
            other => other,
        }
    })?;
    metadata(dev, sb, goes_on, &mut claims)?;
    super::free(dev, sb, goes_on, &mut |range| claims.free(range))?;
    claims.free(sb.offset(sb.blocks)..dev.size());
    let wanted = claims.files();
    let mut tree = Tree { dev, sb, wanted, names: Names::new(), directories, blocks: sb.blocks, goes_on };
    if !tree.wanted.is_empty() {
        tree.walk()?;
    }
    Ok(claims.finish(&tree.names, "inode"))
}

fn metadata(
    dev: &dyn ReadAt,
    sb: &Superblock,
    goes_on: &dyn Fn() -> bool,
    claims: &mut Claims<'_>,
) -> Result<(), Error> {
    let mut groups = Groups::new(dev, sb);
    let bytes = |block: u64, count: u64| sb.offset(block)..sb.offset(block.saturating_add(count));
    for number in 0..sb.groups {
        let group = groups.get(number)?;
        for (what, block, count) in [
            ("block bitmap", group.block_bitmap, 1),
            ("inode bitmap", group.inode_bitmap, 1),
            ("inode table", group.inode_table, sb.table_blocks()),
        ] {
            claims.metadata(bytes(block, count), || format!("{what} of group {number}"));
        }
    }
    for range in groups.metadata(goes_on)? {
        let len = range.end.saturating_sub(range.start);
        claims.metadata(bytes(range.start, len), || "super block and group descriptors".to_owned());
    }
    claims.metadata(bytes(0, sb.first_block.into()), || "boot sector".to_owned());
    Ok(())
}

/// The directory tree, walked once.
struct Tree<'a> {
    dev: &'a dyn ReadAt,
    sb: &'a Superblock,
    wanted: BTreeSet<u64>,
    names: Names,
    /// Directories that may still be read: a sound tree names each once, a damaged one may go in circles.
    directories: u64,
    /// Blocks of directories that may still be read.
    blocks: u64,
    goes_on: &'a dyn Fn() -> bool,
}

impl Tree<'_> {
    fn walk(&mut self) -> Result<(), Error> {
        if self.wanted.contains(&ROOT.into()) {
            self.names.insert(ROOT.into(), vec!["/".to_owned()]);
        }
        let mut stack = vec![(ROOT, String::new(), 0usize)];
        while let Some((number, path, depth)) = stack.pop() {
            let Some(left) = self.directories.checked_sub(1) else { break };
            self.directories = left;
            let mut below = Vec::new();
            match self.directory(number, &path, &mut below) {
                // What cannot be read has no names; the rest has.
                Err(Error::Corrupt { .. }) => continue,
                other => other?,
            }
            if depth < MAX_DEPTH {
                let deeper = depth.saturating_add(1);
                stack.extend(below.into_iter().rev().map(|(number, path)| (number, path, deeper)));
            }
        }
        Ok(())
    }

    fn directory(&mut self, number: u32, path: &str, below: &mut Vec<(u32, String)>) -> Result<(), Error> {
        let inode = read_inode(self.dev, self.sb, number)?;
        if !inode.is_directory() {
            return Ok(());
        }
        if inode.is_inline() {
            // The number of the parent, then entries; more of them stand in an extended attribute.
            return self.entries(slice(&inode.block, 4, 56), path, below);
        }
        let mut pieces: Vec<Piece> = Vec::new();
        BlockWalk::new(self.dev, self.sb).walk(&inode, &mut pieces)?;
        for logical in 0..self.blocks_of(&inode) {
            if !(self.goes_on)() {
                return Err(Error::Stopped);
            }
            let Some(left) = self.blocks.checked_sub(1) else { break };
            self.blocks = left;
            if let Some(block) = read_block(self.dev, self.sb, &pieces, logical)? {
                self.entries(&block, path, below)?;
            }
        }
        Ok(())
    }

    fn blocks_of(&self, inode: &Inode) -> u64 {
        inode.size.div_ceil(self.sb.block_bytes.into()).min(self.sb.blocks)
    }

    /// Entries of a block (ext4 documentation, "Linear Directories"). Blocks of a hash tree look like one entry of no file.
    fn entries(&mut self, block: &[u8], path: &str, below: &mut Vec<(u32, String)>) -> Result<(), Error> {
        let mut at = 0usize;
        while at.saturating_add(8) <= block.len() {
            let head = slice(block, at, 8);
            let (number, len) = (le32(head, 0), record_len(le16(head, 4), block.len()));
            if len < 8 || at.saturating_add(len) > block.len() {
                break;
            }
            let name = slice(block, at.saturating_add(8), usize::from(u8(head, 6)));
            let kind = u8(head, 7);
            at = at.saturating_add(len);
            if number == 0 || number > self.sb.inodes || name.is_empty() || matches!(name, b"." | b"..") {
                continue;
            }
            let path = || format!("{path}/{}", String::from_utf8_lossy(name));
            if self.wanted.contains(&number.into()) {
                self.names.entry(number.into()).or_default().push(path());
            }
            let is_directory = if self.sb.incompat & INCOMPAT_FILETYPE != 0 {
                kind == FILE_TYPE_DIRECTORY
            } else {
                read_inode(self.dev, self.sb, number)?.is_directory()
            };
            if is_directory {
                below.push((number, path()));
            }
        }
        Ok(())
    }
}

/// Length of an entry; blocks of 64 KiB need more than 16 bits, and the two lowest are free.
pub(super) fn record_len(stored: u16, block_len: usize) -> usize {
    if block_len < 65536 {
        return stored.into();
    }
    match stored {
        0 | u16::MAX => 65536,
        stored => size(u64::from(stored & 0xfffc) | u64::from(stored & 3) << 16),
    }
}

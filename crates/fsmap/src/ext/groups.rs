//! Group descriptors, where each group's metadata stands, and the block bitmaps.

use std::ops::Range;

use gravure_io::ReadAt;

use super::superblock::{Superblock, incompat, ro_compat};
use crate::Error;
use crate::checksum::{crc16, crc32c};
use crate::field::{le16, le32, read, size, slice};

const INODE_UNINIT: u16 = 0x1;
const BLOCK_UNINIT: u16 = 0x2;

/// A group's descriptor that passed its checks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    pub(super) number: u32,
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) inode_table: u64,
    /// Its bitmap was never written: nothing but metadata is used.
    pub(super) is_unused: bool,
    /// Inodes at the start of the table that may be in use.
    pub(super) inodes: u32,
    bitmap_checksum: u32,
}

/// Reads descriptors in order, a block at a time.
pub(super) struct Groups<'a> {
    dev: &'a dyn ReadAt,
    sb: &'a Superblock,
    /// Block of descriptors that is in memory, and its content.
    index: Option<u32>,
    block: Vec<u8>,
}

impl<'a> Groups<'a> {
    pub(super) fn new(dev: &'a dyn ReadAt, sb: &'a Superblock) -> Self {
        Self { dev, sb, index: None, block: Vec::new() }
    }

    /// Where block `index` of the descriptors stands: behind the super block, or with `meta_bg` in the first of the groups
    /// that it describes.
    fn place(&self, index: u32) -> u64 {
        let sb = self.sb;
        let is_behind = sb.incompat & incompat::META_BG == 0 || index < sb.first_meta_bg;
        let group = if is_behind { 0 } else { index.saturating_mul(sb.descriptors_per_block()) };
        let place = sb.group_start(group).saturating_add(sb.superblock_blocks(group));
        if is_behind { place.saturating_add(index.into()) } else { place }
    }

    pub(super) fn get(&mut self, number: u32) -> Result<Group, Error> {
        let sb = self.sb;
        let per_block = sb.descriptors_per_block();
        let index = number.checked_div(per_block).unwrap_or(0);
        let place = self.place(index);
        if self.index != Some(index) {
            self.block = read(self.dev, "group descriptors", sb.offset(place), sb.block_len())?;
            self.index = Some(index);
        }
        let bytes = usize::from(sb.descriptor_bytes);
        let pos = size(number.checked_rem(per_block).unwrap_or(0).into()).saturating_mul(bytes);
        let descriptor = slice(&self.block, pos, bytes);
        self.parse(number, descriptor, sb.offset(place).saturating_add(crate::field::wide(pos)))
    }

    fn parse(&self, number: u32, bytes: &[u8], offset: u64) -> Result<Group, Error> {
        let sb = self.sb;
        let wide = |low, high: usize| {
            let high = if bytes.len() >= 64 { u64::from(le32(bytes, high)) << 32 } else { 0 };
            high | u64::from(le32(bytes, low))
        };
        let has_checksums = sb.has(ro_compat::METADATA_CSUM) || sb.has(ro_compat::GDT_CSUM);
        if has_checksums {
            let (expected, found) = (self.checksum(number, bytes), le16(bytes, 0x1e));
            if expected != found {
                let what = format!("descriptor of group {number}, checksum");
                return Err(Error::corrupt(what, offset, format!("{expected:#x}"), format!("{found:#x}")));
            }
        }
        let flags = if has_checksums { le16(bytes, 0x12) } else { 0 };
        let unused = if has_checksums { le16(bytes, 0x1c) } else { 0 };
        let unused_high = if has_checksums && bytes.len() >= 64 { le16(bytes, 0x32) } else { 0 };
        let unused = u32::from(unused) | u32::from(unused_high) << 16;
        let inodes = if flags & INODE_UNINIT != 0 { 0 } else { sb.group_inodes.saturating_sub(unused) };
        let checksum_high = if bytes.len() >= 64 { u32::from(le16(bytes, 0x38)) << 16 } else { 0 };
        let group = Group {
            number,
            block_bitmap: wide(0, 0x20),
            inode_bitmap: wide(4, 0x24),
            inode_table: wide(8, 0x28),
            is_unused: flags & BLOCK_UNINIT != 0,
            inodes,
            bitmap_checksum: checksum_high | u32::from(le16(bytes, 0x18)),
        };
        for (what, block, count) in [
            ("block bitmap", group.block_bitmap, 1),
            ("inode bitmap", group.inode_bitmap, 1),
            ("inode table", group.inode_table, sb.table_blocks()),
        ] {
            let first = u64::from(sb.first_block);
            if block <= first || block.checked_add(count).is_none_or(|end| end > sb.blocks) {
                let what = format!("descriptor of group {number}, {what}");
                return Err(Error::corrupt(
                    what,
                    offset,
                    format!("a block from {first} to {}", sb.blocks),
                    block,
                ));
            }
        }
        Ok(group)
    }

    fn checksum(&self, number: u32, bytes: &[u8]) -> u16 {
        let (before, behind) = (slice(bytes, 0, 0x1e), bytes.get(0x20..).unwrap_or_default());
        if self.sb.has(ro_compat::METADATA_CSUM) {
            let parts: [&[u8]; 4] = [&number.to_le_bytes(), before, &[0, 0], behind];
            let crc = parts.iter().fold(self.sb.seed, |crc, part| crc32c(crc, part));
            return u16::try_from(crc & 0xffff).unwrap_or(0);
        }
        let crc = crc16(self.sb.seed16, &number.to_le_bytes());
        let crc = crc16(crc, before);
        if self.sb.incompat & incompat::BIT64 != 0 { crc16(crc, behind) } else { crc }
    }

    /// The bitmap of blocks in use, a bit for each cluster of the group.
    pub(super) fn bitmap(&self, group: &Group) -> Result<Vec<u8>, Error> {
        let sb = self.sb;
        let bitmap = read(self.dev, "block bitmap", sb.offset(group.block_bitmap), sb.block_len())?;
        if sb.has(ro_compat::METADATA_CSUM) {
            let used = size(sb.group_clusters.into()) >> 3;
            let mut expected = crc32c(sb.seed, slice(&bitmap, 0, used));
            if sb.descriptor_bytes < 64 {
                expected &= 0xffff;
            }
            if expected != group.bitmap_checksum {
                return Err(Error::corrupt(
                    format!("block bitmap of group {}, checksum", group.number),
                    sb.offset(group.block_bitmap),
                    format!("{:#x}", group.bitmap_checksum),
                    format!("{expected:#x}"),
                ));
            }
        }
        Ok(bitmap)
    }

    /// Blocks of metadata in all groups, ascending, not touching; what they are used for is in no bitmap that was never written.
    pub(super) fn metadata(&mut self, goes_on: &dyn Fn() -> bool) -> Result<Vec<Range<u64>>, Error> {
        let sb = self.sb;
        let mut ranges: Vec<Range<u64>> = Vec::new();
        // A bit of a bitmap stands for a cluster, and a cluster is used as a whole.
        let (unit, first) = (u64::from(sb.cluster_blocks), u64::from(sb.first_block));
        let floor = |block: u64| {
            let within = block.saturating_sub(first).checked_rem(unit).unwrap_or(0);
            block.saturating_sub(within)
        };
        let mut add = |start: u64, count: u64| {
            let end = floor(start.saturating_add(count).saturating_add(unit).saturating_sub(1));
            let start = floor(start);
            match ranges.last_mut().filter(|last| last.end == start) {
                Some(last) => last.end = end,
                None => ranges.push(start..end),
            }
        };
        let has_meta_bg = sb.incompat & incompat::META_BG != 0;
        let all = sb.groups.div_ceil(sb.descriptors_per_block());
        let old_style = if has_meta_bg { all.min(sb.first_meta_bg) } else { all };
        for number in 0..sb.groups {
            if !goes_on() {
                return Err(Error::Stopped);
            }
            let group = self.get(number)?;
            let mut count = sb.superblock_blocks(number);
            let in_meta_bg = has_meta_bg
                && number
                    .checked_div(sb.descriptors_per_block())
                    .is_some_and(|index| index >= sb.first_meta_bg);
            if in_meta_bg {
                // In the first, second and last group of those that a block of descriptors describes.
                let per_block = sb.descriptors_per_block();
                let nth = number.checked_rem(per_block).unwrap_or(0);
                let is_holder = nth < 2 || nth == per_block.saturating_sub(1);
                count = count.saturating_add(u64::from(is_holder));
            } else if count > 0 {
                count = count.saturating_add(old_style.into()).saturating_add(sb.reserved_gdt_blocks.into());
            }
            if count > 0 {
                add(sb.group_start(number), count);
            }
            add(group.block_bitmap, 1);
            add(group.inode_bitmap, 1);
            add(group.inode_table, sb.table_blocks());
        }
        ranges.sort_unstable_by_key(|range| range.start);
        ranges.dedup_by(|next, last| {
            let touches = next.start <= last.end;
            if touches {
                last.end = last.end.max(next.end);
            }
            touches
        });
        Ok(ranges)
    }
}

//! XFS ("XFS Algorithms & Data Structures", 3rd edition): the trees of free space by block number, one in each allocation group.
//! Numbers are big-endian, checksums little-endian.

mod attributes;
mod directory;
mod extents;
mod files;
mod inode;
mod list;
mod log;

use gravure_disk::Found;
use gravure_io::ReadAt;

use crate::checksum::crc32c_inverted;
use crate::field::{array, be16, be32, be64, le32, read, size, slice, text, u8, uuid, wide};
use crate::map::Draft;
use crate::probe::fact;
use crate::{Error, Kind, Options, Probe, Reason, State};

pub(crate) use list::list;

pub use files::{XfsAttribute, XfsFacts, XfsFile, XfsPiece, XfsTime, XfsVolume};

const MAGIC_AGF: u32 = 0x5841_4746;
const MAGIC_BNO_V4: u32 = 0x4142_5442;
const MAGIC_BNO_V5: u32 = 0x4142_3342;
const NO_BLOCK: u32 = u32::MAX;
/// Levels of a tree of free space at most: those of 2^31 blocks with two records a block.
const MAX_LEVELS: u32 = 32;

/// Version 5: what no program may ignore; ftype, sparse inodes, metadata UUID, big times, large extent counts, exchanged ranges,
/// parent pointers, metadata directory.
const INCOMPAT_KNOWN: u32 = 0x1ef;
const INCOMPAT_META_UUID: u32 = 0x4;
const INCOMPAT_NEEDS_REPAIR: u32 = 0x10;
/// Version 5, for programs that only read: free inode tree, reverse map, shared blocks, inode tree counts. None changes what the
/// tree of free space says.
const RO_COMPAT_KNOWN: u32 = 0xf;

/// A super block that passed every check.
#[derive(Debug)]
struct Superblock {
    version: u16,
    block_bytes: u32,
    sector_bytes: u16,
    blocks: u64,
    group_blocks: u32,
    groups: u32,
    /// Bits of a block number within its group.
    group_shift: u8,
    log_start: u64,
    log_blocks: u32,
    realtime_blocks: u64,
    needs_repair: bool,
    /// The UUID that metadata carries.
    meta_uuid: [u8; 16],
    log_uuid: [u8; 16],
    label: Option<String>,
    uuid: Option<String>,
    directory_block_shift: u8,
    inode_bytes: u16,
}

impl Superblock {
    fn read(dev: &dyn ReadAt) -> Result<Self, Error> {
        let head = read(dev, "super block", 0, 512)?;
        let wrong = |at: u64, what: &str, expected: &str, found: u64| {
            Err(Error::corrupt(format!("super block, {what}"), at, expected, found))
        };
        let version = be16(&head, 100) & 0xf;
        if !matches!(version, 4 | 5) {
            return Err(Error::unsupported("version of XFS", version));
        }
        let (block_bytes, sector_bytes) = (be32(&head, 4), be16(&head, 102));
        if !block_bytes.is_power_of_two() || !(512..=65536).contains(&block_bytes) {
            return wrong(4, "block size", "a power of two, 512 to 65536", block_bytes.into());
        }
        if !sector_bytes.is_power_of_two() || sector_bytes < 512 || u32::from(sector_bytes) > block_bytes {
            return wrong(102, "sector size", "a power of two, 512 to a block", sector_bytes.into());
        }
        let (mut needs_repair, mut meta_uuid) = (u8(&head, 126) != 0, array(&head, 32));
        if version == 5 {
            let sector = read(dev, "super block", 0, usize::from(sector_bytes))?;
            check_sum("super block", 0, &sector, 224)?;
            let incompat = be32(&head, 216);
            if incompat & !INCOMPAT_KNOWN & !INCOMPAT_NEEDS_REPAIR != 0 {
                return Err(Error::unsupported("incompatible XFS feature", format!("{incompat:#x}")));
            }
            let ro_compat = be32(&head, 212);
            if ro_compat & !RO_COMPAT_KNOWN != 0 {
                return Err(Error::unsupported(
                    "read-only compatible XFS feature",
                    format!("{ro_compat:#x}"),
                ));
            }
            needs_repair |= incompat & INCOMPAT_NEEDS_REPAIR != 0;
            if incompat & INCOMPAT_META_UUID != 0 {
                meta_uuid = array(&head, 248);
            }
        }
        let (blocks, group_blocks, groups) = (be64(&head, 8), be32(&head, 84), be32(&head, 88));
        let most = dev.size().checked_div(block_bytes.into()).unwrap_or(0);
        if blocks == 0 || blocks > most {
            return wrong(8, "count of blocks", &format!("1 to {most}"), blocks);
        }
        let expected = blocks.div_ceil(u64::from(group_blocks).max(1));
        // Headers of a group need four sectors; less than 64 blocks is no group.
        if group_blocks < 64 || u64::from(groups) != expected {
            return wrong(88, "count of groups", &expected.to_string(), groups.into());
        }
        let group_shift = u8(&head, 124);
        if group_shift > 31 || u64::from(group_blocks) > 1u64 << group_shift {
            return wrong(124, "bits of a block number", "those of a group", group_shift.into());
        }
        Ok(Self {
            version,
            block_bytes,
            sector_bytes,
            blocks,
            group_blocks,
            groups,
            group_shift,
            log_start: be64(&head, 48),
            log_blocks: be32(&head, 96),
            realtime_blocks: be64(&head, 16),
            needs_repair,
            meta_uuid,
            log_uuid: array(&head, 32),
            label: text(slice(&head, 108, 12)),
            uuid: uuid(&head, 32),
            directory_block_shift: u8(&head, 192),
            inode_bytes: be16(&head, 104),
        })
    }

    /// Blocks of a group; the last one may be shorter.
    fn group_len(&self, group: u32) -> u32 {
        let before = u64::from(group).saturating_mul(self.group_blocks.into());
        let left = self.blocks.saturating_sub(before).min(self.group_blocks.into());
        u32::try_from(left).unwrap_or(0)
    }

    /// Absolute byte of a block of a group.
    fn offset(&self, group: u32, block: u32) -> u64 {
        let before = u64::from(group).saturating_mul(self.group_blocks.into());
        before.saturating_add(block.into()).saturating_mul(self.block_bytes.into())
    }

    /// Where the log stands, bytes; `None` on another device.
    fn log(&self) -> Result<Option<(u64, u64)>, Error> {
        if self.log_start == 0 {
            return Ok(None);
        }
        let group = u32::try_from(self.log_start >> self.group_shift).unwrap_or(u32::MAX);
        let mask = (1u64 << self.group_shift).saturating_sub(1);
        let block = u32::try_from(self.log_start & mask).unwrap_or(u32::MAX);
        let is_inside = group < self.groups
            && self.log_blocks > 0
            && u64::from(block).saturating_add(self.log_blocks.into()) <= self.group_len(group).into();
        if !is_inside {
            let found = format!("{} blocks at {:#x}", self.log_blocks, self.log_start);
            return Err(Error::corrupt("super block, place of the log", 48, "inside one group", found));
        }
        let len = u64::from(self.log_blocks).saturating_mul(self.block_bytes.into());
        Ok(Some((self.offset(group, block), len)))
    }
}

/// The checksum at `at` of a structure that starts at `offset`.
fn check_sum(what: &str, offset: u64, bytes: &[u8], at: usize) -> Result<(), Error> {
    let behind = bytes.get(at.saturating_add(4)..).unwrap_or_default();
    let expected = crc32c_inverted(&[slice(bytes, 0, at), &[0; 4], behind]);
    let found = le32(bytes, at);
    if expected == found {
        return Ok(());
    }
    let place = offset.saturating_add(wide(at));
    Err(Error::corrupt(format!("{what}, checksum"), place, format!("{expected:#x}"), format!("{found:#x}")))
}

pub(crate) fn probe(dev: &dyn ReadAt, _: &Found) -> Result<Probe, Error> {
    let sb = Superblock::read(dev)?;
    let mut probe = Probe::new(Kind::Xfs, sb.blocks.saturating_mul(sb.block_bytes.into()));
    probe.label.clone_from(&sb.label);
    probe.uuid.clone_from(&sb.uuid);
    probe.version = Some(sb.version.to_string());
    probe.sector_size = Some(sb.sector_bytes.into());
    probe.block_size = Some(sb.block_bytes);
    let directory_bytes = u64::from(sb.block_bytes).checked_shl(sb.directory_block_shift.into()).unwrap_or(0);
    probe.facts = vec![
        fact("blocks", sb.blocks),
        fact("groups", sb.groups),
        fact("inode-bytes", sb.inode_bytes),
        fact("directory-block-bytes", directory_bytes),
    ];
    probe.state = match sb.log()? {
        _ if sb.needs_repair => State::Unclean(Reason::HasErrors),
        _ if sb.realtime_blocks > 0 => State::Unclean(Reason::SeveralDevices),
        None => State::Unclean(Reason::ExternalJournal),
        Some((start, len)) => {
            probe.facts.push(fact("log-bytes", len));
            log::state(dev, start, len, &sb.log_uuid)?
        }
    };
    Ok(probe)
}

pub(crate) fn map(dev: &dyn ReadAt, probe: &Probe, options: &Options<'_>) -> Result<Draft, Error> {
    let sb = Superblock::read(dev)?;
    let mut draft = Draft::new(dev.size(), sb.block_bytes, options);
    for group in 0..sb.groups {
        if !(options.goes_on)() {
            return Err(Error::Stopped);
        }
        let tree = Tree::open(dev, &sb, group)?;
        tree.walk(options.goes_on, &mut |start, end| {
            draft.runs.free(sb.offset(group, start)..sb.offset(group, end));
        })?;
    }
    draft.free_tail(probe.size);
    Ok(draft)
}

/// The tree of free space of one group.
struct Tree<'a> {
    dev: &'a dyn ReadAt,
    sb: &'a Superblock,
    group: u32,
    root: u32,
    levels: u32,
    /// Free blocks that it must come to.
    free: u32,
}

impl<'a> Tree<'a> {
    /// Reads the group's header (AGF), which stands in its second sector.
    fn open(dev: &'a dyn ReadAt, sb: &'a Superblock, group: u32) -> Result<Self, Error> {
        let offset = sb.offset(group, 0).saturating_add(sb.sector_bytes.into());
        let head = read(dev, "group header", offset, usize::from(sb.sector_bytes))?;
        let wrong = |at: u64, what: &str, expected: u32, found: u32| {
            let what = format!("header of group {group}, {what}");
            Err(Error::corrupt(what, offset.saturating_add(at), expected, found))
        };
        if be32(&head, 0) != MAGIC_AGF {
            return wrong(0, "magic", MAGIC_AGF, be32(&head, 0));
        }
        if sb.version == 5 {
            check_sum(&format!("header of group {group}"), offset, &head, 216)?;
            if slice(&head, 64, 16) != sb.meta_uuid {
                return wrong(64, "first bytes of the UUID", be32(&sb.meta_uuid, 0), be32(&head, 64));
            }
        }
        if be32(&head, 8) != group {
            return wrong(8, "number", group, be32(&head, 8));
        }
        let len = sb.group_len(group);
        if be32(&head, 12) != len {
            return wrong(12, "length", len, be32(&head, 12));
        }
        let (root, levels, free) = (be32(&head, 16), be32(&head, 28), be32(&head, 52));
        if levels == 0 || levels > MAX_LEVELS {
            return wrong(28, "levels", 1, levels);
        }
        Ok(Self { dev, sb, group, root, levels, free })
    }

    fn header_len(&self) -> usize {
        if self.sb.version == 5 { 56 } else { 16 }
    }

    /// Reads and checks a block of the tree.
    fn block(&self, number: u32, level: u32) -> Result<Vec<u8>, Error> {
        let sb = self.sb;
        let offset = sb.offset(self.group, number);
        let what = || format!("free space of group {}", self.group);
        let wrong = |name: &str, expected: String, found: String| {
            Err(Error::corrupt(format!("{}, {name}", what()), offset, expected, found))
        };
        if number == 0 || number >= sb.group_len(self.group) {
            return wrong("block number", format!("below {}", sb.group_len(self.group)), number.to_string());
        }
        let bytes = read(self.dev, "free space", offset, size(sb.block_bytes.into()))?;
        let magic = if sb.version == 5 { MAGIC_BNO_V5 } else { MAGIC_BNO_V4 };
        if be32(&bytes, 0) != magic || u32::from(be16(&bytes, 4)) != level {
            let found = format!("{:#x}, level {}", be32(&bytes, 0), be16(&bytes, 4));
            return wrong("magic and level", format!("{magic:#x}, level {level}"), found);
        }
        if sb.version == 5 {
            check_sum(&what(), offset, &bytes, 52)?;
            let (place, owner) = (be64(&bytes, 16), be32(&bytes, 48));
            if place != offset >> 9 || owner != self.group || slice(&bytes, 32, 16) != sb.meta_uuid {
                let found = format!("sector {place} of group {owner}");
                return wrong("owner", format!("sector {} of group {}", offset >> 9, self.group), found);
            }
        }
        let record = if level == 0 { 8 } else { 12 };
        let room = bytes.len().saturating_sub(self.header_len()).checked_div(record).unwrap_or(0);
        if usize::from(be16(&bytes, 6)) > room {
            return wrong("records", format!("at most {room}"), be16(&bytes, 6).to_string());
        }
        Ok(bytes)
    }

    /// Goes down to the first leaf, then along the leaves.
    fn walk(&self, goes_on: &dyn Fn() -> bool, out: &mut dyn FnMut(u32, u32)) -> Result<(), Error> {
        let mut number = self.root;
        let header = self.header_len();
        for level in (1..self.levels).rev() {
            let bytes = self.block(number, level)?;
            // Keys for as many records as there is room for, then the pointers.
            let room = bytes.len().saturating_sub(header).checked_div(12).unwrap_or(0);
            number = be32(&bytes, room.saturating_mul(8).saturating_add(header));
        }
        let len = self.sb.group_len(self.group);
        let (mut next, mut total, mut left) = (0u32, 0u64, len);
        while number != NO_BLOCK {
            let offset = self.sb.offset(self.group, number);
            let wrong = |expected: String, found: String| {
                Err(Error::corrupt(format!("free space of group {}", self.group), offset, expected, found))
            };
            let Some(less) = left.checked_sub(1).filter(|_| goes_on()) else {
                if left > 0 {
                    return Err(Error::Stopped);
                }
                return wrong("leaves that end".to_owned(), "more than blocks".to_owned());
            };
            left = less;
            let bytes = self.block(number, 0)?;
            for index in 0..usize::from(be16(&bytes, 6)) {
                let at = index.saturating_mul(8).saturating_add(header);
                let (start, count) = (be32(&bytes, at), be32(&bytes, at.saturating_add(4)));
                let end = start.checked_add(count).filter(|end| *end <= len && start >= next && count > 0);
                let Some(end) = end else {
                    return wrong(
                        format!("records from {next} to {len}"),
                        format!("{count} blocks at {start}"),
                    );
                };
                out(start, end);
                total = total.saturating_add(count.into());
                next = end;
            }
            number = be32(&bytes, 12);
        }
        if total != u64::from(self.free) {
            let what = format!("free space of group {}, blocks", self.group);
            return Err(Error::corrupt(what, self.sb.offset(self.group, 0), self.free, total));
        }
        Ok(())
    }
}

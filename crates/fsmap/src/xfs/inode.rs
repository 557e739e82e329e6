//! Inodes ("XFS Algorithms & Data Structures", "On-disk Inode"): where one stands, what kind of file it is, and its two forks.

use gravure_io::ReadAt;

use super::{Superblock, check_sum};
use crate::Error;
use crate::field::{be16, be32, be64, read, slice, u8, wide};

const MAGIC: u16 = 0x494e;
const MAGIC_SUPERBLOCK: u32 = 0x5846_5342;
/// Bytes before the forks, of versions 1 and 2, and of version 3.
const CORE_BYTES: usize = 100;
const CORE_BYTES_V3: usize = 176;
/// Version 3: counts of extents have more bits and other places.
const FLAG_LARGE_COUNTS: u64 = 1 << 4;
/// Super block: version 2 of directories, which all file systems of this century have; more features follow.
const VERSION_DIRECTORIES_2: u16 = 0x2000;
const VERSION_MORE: u16 = 0x8000;
/// More features of version 4: entries of directories say what they name.
const FEATURES2_FTYPE: u32 = 0x200;
/// The same of version 5.
const INCOMPAT_FTYPE: u32 = 0x1;

/// Types of files in the mode.
const MODE_TYPE: u16 = 0xf000;
const MODE_DIRECTORY: u16 = 0x4000;
const MODE_FILE: u16 = 0x8000;
const MODE_LINK: u16 = 0xa000;

/// How the content of a fork is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// In the fork itself.
    Local,
    /// A list of extents in the fork.
    Extents,
    /// A tree of extents whose root is in the fork.
    Tree,
    /// None: a device.
    Device,
}

/// One of the two contents of an inode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fork {
    pub(super) form: Form,
    /// What of it is in the inode.
    pub(super) bytes: Vec<u8>,
    /// Extents that it must come to.
    pub(super) extents: u64,
}

/// An inode that passed every check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inode {
    pub(super) number: u64,
    /// Absolute byte.
    pub(super) offset: u64,
    pub(super) mode: u16,
    pub(super) size: u64,
    pub(super) data: Fork,
    /// Extended attributes; `None` where there never were any.
    pub(super) attributes: Option<Fork>,
    /// All of it before the forks.
    pub(super) core: Vec<u8>,
}

impl Inode {
    pub(super) fn is_directory(&self) -> bool {
        self.mode & MODE_TYPE == MODE_DIRECTORY
    }

    pub(super) fn is_file(&self) -> bool {
        self.mode & MODE_TYPE == MODE_FILE
    }

    pub(super) fn is_link(&self) -> bool {
        self.mode & MODE_TYPE == MODE_LINK
    }

    /// A rule that it breaks.
    pub(super) fn wrong(&self, what: &str, expected: impl ToString, found: impl ToString) -> Error {
        Error::corrupt(format!("inode {}, {what}", self.number), self.offset, expected, found)
    }
}

/// What of a super block only files need, and the device.
pub(super) struct Files<'a> {
    pub(super) dev: &'a dyn ReadAt,
    pub(super) sb: Superblock,
    pub(super) goes_on: &'a dyn Fn() -> bool,
    /// Bits of an inode's number within its block.
    slot_shift: u8,
    /// Entries of directories say what they name.
    pub(super) has_ftype: bool,
    /// Bytes of a block of a directory.
    pub(super) directory_bytes: u32,
    pub(super) root: u64,
}

impl<'a> Files<'a> {
    pub(super) fn open(dev: &'a dyn ReadAt, goes_on: &'a dyn Fn() -> bool) -> Result<Self, Error> {
        let sb = Superblock::read(dev)?;
        let head = read(dev, "super block", 0, 512)?;
        if be32(&head, 0) != MAGIC_SUPERBLOCK {
            let found = format!("{:#x}", be32(&head, 0));
            return Err(Error::corrupt("super block, magic", 0, "XFSB", found));
        }
        let bits = be16(&head, 100);
        if bits & VERSION_DIRECTORIES_2 == 0 {
            return Err(Error::unsupported("directories of XFS", "version 1"));
        }
        let least = if sb.version == 5 { 512 } else { 256 };
        let inode_bytes = u32::from(sb.inode_bytes);
        if !inode_bytes.is_power_of_two() || !(least..=2048.min(sb.block_bytes)).contains(&inode_bytes) {
            let expected = format!("a power of two, {least} to a block");
            return Err(Error::corrupt("super block, inode size", 104, expected, inode_bytes));
        }
        let slots = sb.block_bytes.checked_div(inode_bytes).unwrap_or(1);
        let slot_shift = u8(&head, 123);
        if u32::from(slot_shift) != slots.trailing_zeros() {
            return Err(Error::corrupt(
                "super block, bits of an inode's slot",
                123,
                slots.trailing_zeros(),
                slot_shift,
            ));
        }
        let directory_bytes = u64::from(sb.block_bytes).checked_shl(sb.directory_block_shift.into());
        let directory_bytes = directory_bytes.and_then(|bytes| u32::try_from(bytes).ok());
        let Some(directory_bytes) = directory_bytes.filter(|bytes| (512..=65536).contains(bytes)) else {
            let (at, shift) = (192, sb.directory_block_shift);
            return Err(Error::corrupt(
                "super block, blocks of directories",
                at,
                "at most 65536 bytes",
                shift,
            ));
        };
        let has_ftype = match sb.version {
            5 => be32(&head, 216) & INCOMPAT_FTYPE != 0,
            _ => bits & VERSION_MORE != 0 && be32(&head, 200) & FEATURES2_FTYPE != 0,
        };
        let root = be64(&head, 56);
        Ok(Self { dev, sb, goes_on, slot_shift, has_ftype, directory_bytes, root })
    }

    /// Says whether to go on, as an error where not.
    pub(super) fn go_on(&self) -> Result<(), Error> {
        if (self.goes_on)() { Ok(()) } else { Err(Error::Stopped) }
    }

    /// Absolute byte of `count` blocks at `number`, which counts groups in its upper bits; `None` when they are not in one group, or among its
    /// headers.
    pub(super) fn blocks(&self, number: u64, count: u64) -> Option<u64> {
        let sb = &self.sb;
        let group = u32::try_from(number >> sb.group_shift).ok().filter(|group| *group < sb.groups)?;
        let mask = (1u64 << sb.group_shift).saturating_sub(1);
        let block = u32::try_from(number & mask).ok().filter(|block| *block > 0)?;
        let end = u64::from(block).checked_add(count)?;
        (end <= sb.group_len(group).into()).then(|| sb.offset(group, block))
    }

    /// Reads and checks an inode that is in use.
    pub(super) fn inode(&self, number: u64) -> Result<Inode, Error> {
        let sb = &self.sb;
        let mask = (1u64 << self.slot_shift).saturating_sub(1);
        let Some(block) = self.blocks(number >> self.slot_shift, 1) else {
            return Err(Error::corrupt("number of an inode", 0, "inside a group", format!("{number:#x}")));
        };
        let offset = (number & mask).saturating_mul(sb.inode_bytes.into()).saturating_add(block);
        let bytes = read(self.dev, "inode", offset, sb.inode_bytes.into())?;
        let wrong = |at: u64, what: &str, expected: &str, found: u64| {
            let what = format!("inode {number}, {what}");
            Err(Error::corrupt(what, offset.saturating_add(at), expected, found))
        };
        if be16(&bytes, 0) != MAGIC {
            return wrong(0, "magic", "IN", be16(&bytes, 0).into());
        }
        let version = u8(&bytes, 4);
        if (sb.version == 5) != (version == 3) || !(1..=3).contains(&version) {
            return wrong(4, "version", "that of the file system", version.into());
        }
        let has_large_counts = version == 3 && be64(&bytes, 120) & FLAG_LARGE_COUNTS != 0;
        if version == 3 {
            check_sum(&format!("inode {number}"), offset, &bytes, 100)?;
            if be64(&bytes, 152) != number {
                return wrong(152, "number", &number.to_string(), be64(&bytes, 152));
            }
            if slice(&bytes, 160, 16) != sb.meta_uuid {
                return wrong(160, "UUID", "that of the file system", be64(&bytes, 160));
            }
        }
        let (mode, size) = (be16(&bytes, 2), be64(&bytes, 56));
        if mode == 0 {
            return wrong(2, "mode", "one in use", 0);
        }
        if i64::try_from(size).is_err() {
            return wrong(56, "size", "at most 2^63 bytes", size);
        }
        let core = if version == 3 { CORE_BYTES_V3 } else { CORE_BYTES };
        let literal = bytes.get(core..).unwrap_or_default();
        let split = usize::from(u8(&bytes, 82)).saturating_mul(8);
        if split > literal.len() {
            return wrong(82, "place of the second fork", "inside the inode", u8(&bytes, 82).into());
        }
        let form = |at: usize| match u8(&bytes, at) {
            0 => Ok(Form::Device),
            1 => Ok(Form::Local),
            2 => Ok(Form::Extents),
            3 => Ok(Form::Tree),
            other => {
                let what = format!("inode {number}, form");
                Err(Error::corrupt(what, offset.saturating_add(wide(at)), "0 to 3", other))
            }
        };
        let len = if split == 0 { literal.len() } else { split };
        // Large counts have the place of both small ones for the second fork.
        let (extents, of_attributes) = match has_large_counts {
            true => (be64(&bytes, 24), be32(&bytes, 76).into()),
            false => (be32(&bytes, 76).into(), be16(&bytes, 80).into()),
        };
        let data = Fork { form: form(5)?, bytes: slice(literal, 0, len).to_vec(), extents };
        let attributes = (split > 0).then(|| {
            let rest = literal.get(split..).unwrap_or_default();
            Ok::<_, Error>(Fork { form: form(83)?, bytes: rest.to_vec(), extents: of_attributes })
        });
        let attributes = attributes.transpose()?;
        let core = slice(&bytes, 0, core).to_vec();
        Ok(Inode { number, offset, mode, size, data, attributes, core })
    }
}

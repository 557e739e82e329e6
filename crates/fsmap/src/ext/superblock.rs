//! Super block (ext4 documentation, "The Super Block"): 1024 bytes at byte 1024.

use gravure_io::ReadAt;

use crate::checksum::{crc16, crc32c};
use crate::field::{array, le16, le32, read, size, slice, text, u8, uuid};
use crate::{Error, Kind};

/// Where it stands, bytes.
pub(super) const SUPERBLOCK_OFFSET: u64 = 1024;
/// Its length, bytes.
pub(super) const SUPERBLOCK_BYTES: usize = 1024;
/// Place of its checksum.
pub(super) const CHECKSUM_AT: usize = 0x3fc;
/// Place of the incompatible features.
pub(super) const INCOMPAT_AT: usize = 0x60;
const MAGIC: u16 = 0xef53;

/// Groups at most: 256 TiB in 4 KiB blocks, and 100 MB for their metadata's places at the very worst.
const MAX_GROUPS: u64 = 1 << 21;

/// Features that old programs may ignore.
pub(super) mod compat {
    pub(in crate::ext) const HAS_JOURNAL: u32 = 0x4;
    pub(in crate::ext) const LAZY_BG: u32 = 0x40;
    pub(in crate::ext) const SPARSE_SUPER2: u32 = 0x200;
    /// All that are known, with their names.
    pub(in crate::ext) const NAMES: &[(u32, &str)] = &[
        (0x1, "dir_prealloc"),
        (0x2, "imagic_inodes"),
        (HAS_JOURNAL, "has_journal"),
        (0x8, "ext_attr"),
        (0x10, "resize_inode"),
        (0x20, "dir_index"),
        (LAZY_BG, "lazy_bg"),
        (SPARSE_SUPER2, "sparse_super2"),
        (0x400, "fast_commit"),
        (0x800, "stable_inodes"),
        (0x1000, "orphan_file"),
    ];
}

/// Features that no program may ignore.
pub(super) mod incompat {
    pub(in crate::ext) const RECOVER: u32 = 0x4;
    pub(in crate::ext) const JOURNAL_DEV: u32 = 0x8;
    pub(in crate::ext) const META_BG: u32 = 0x10;
    pub(in crate::ext) const BIT64: u32 = 0x80;
    pub(in crate::ext) const MMP: u32 = 0x100;
    pub(in crate::ext) const CSUM_SEED: u32 = 0x2000;
    /// Those with which this crate reads a file system; compression (0x1) and `dirdata` (0x1000) are not among them.
    pub(in crate::ext) const NAMES: &[(u32, &str)] = &[
        (0x2, "filetype"),
        (RECOVER, "needs_recovery"),
        (JOURNAL_DEV, "journal_dev"),
        (META_BG, "meta_bg"),
        (0x40, "extent"),
        (BIT64, "64bit"),
        (MMP, "mmp"),
        (0x200, "flex_bg"),
        (0x400, "ea_inode"),
        (CSUM_SEED, "metadata_csum_seed"),
        (0x4000, "large_dir"),
        (0x8000, "inline_data"),
        (0x1_0000, "encrypt"),
        (0x2_0000, "casefold"),
    ];
}

/// Features that programs which only read may ignore. We may not: they can change what a bitmap means, as `bigalloc` does.
pub(super) mod ro_compat {
    pub(in crate::ext) const SPARSE_SUPER: u32 = 0x1;
    pub(in crate::ext) const GDT_CSUM: u32 = 0x10;
    pub(in crate::ext) const BIGALLOC: u32 = 0x200;
    pub(in crate::ext) const METADATA_CSUM: u32 = 0x400;
    /// Those with which this crate reads a file system; snapshots (0x80) and replicas (0x800) are not among them.
    pub(in crate::ext) const NAMES: &[(u32, &str)] = &[
        (SPARSE_SUPER, "sparse_super"),
        (0x2, "large_file"),
        (0x4, "btree_dir"),
        (0x8, "huge_file"),
        (GDT_CSUM, "uninit_bg"),
        (0x20, "dir_nlink"),
        (0x40, "extra_isize"),
        (0x100, "quota"),
        (BIGALLOC, "bigalloc"),
        (METADATA_CSUM, "metadata_csum"),
        (0x1000, "read-only"),
        (0x2000, "project"),
        (0x4000, "shared_blocks"),
        (0x8000, "verity"),
        (0x1_0000, "orphan_present"),
    ];
}

/// A super block that passed every check.
#[derive(Debug, Clone)]
pub(super) struct Superblock {
    pub(super) kind: Kind,
    /// Bytes; 1024 to 65536.
    pub(super) block_bytes: u32,
    /// Blocks a bit of a bitmap stands for; 1 without `bigalloc`.
    pub(super) cluster_blocks: u32,
    pub(super) blocks: u64,
    pub(super) first_block: u32,
    pub(super) group_blocks: u32,
    pub(super) group_clusters: u32,
    pub(super) group_inodes: u32,
    pub(super) groups: u32,
    pub(super) inodes: u32,
    pub(super) inode_bytes: u16,
    pub(super) descriptor_bytes: u16,
    pub(super) compat: u32,
    pub(super) incompat: u32,
    pub(super) ro_compat: u32,
    pub(super) has_errors: bool,
    pub(super) is_unmounted: bool,
    pub(super) reserved_gdt_blocks: u16,
    pub(super) first_meta_bg: u32,
    pub(super) backup_groups: [u32; 2],
    pub(super) journal_inode: u32,
    pub(super) mmp_block: u64,
    /// Inodes below it are the file system's own, but for the root.
    pub(super) first_inode: u32,
    /// Inodes of its own above that, 0 where there are none: quota of projects, list of orphans.
    pub(super) quota_inode: u32,
    pub(super) orphan_inode: u32,
    /// Start of CRC-32Cs of metadata.
    pub(super) seed: u32,
    /// Start of CRC-16s of descriptors.
    pub(super) seed16: u16,
    pub(super) label: Option<String>,
    pub(super) uuid: Option<String>,
}

impl Superblock {
    /// Reads and checks the one at the start of `dev`.
    pub(super) fn read(dev: &dyn ReadAt) -> Result<Self, Error> {
        let bytes = read(dev, "super block", SUPERBLOCK_OFFSET, SUPERBLOCK_BYTES)?;
        Self::parse(&bytes, dev.size())
    }

    /// Checks `bytes`, the super block of a device of `device_bytes`.
    pub(super) fn parse(bytes: &[u8], device_bytes: u64) -> Result<Self, Error> {
        let wrong = |at: usize, what: &'static str, expected: &str, found: u64| {
            let offset = SUPERBLOCK_OFFSET.saturating_add(crate::field::wide(at));
            Err(Error::corrupt(format!("super block, {what}"), offset, expected, found))
        };
        if le16(bytes, 0x38) != MAGIC {
            return wrong(0x38, "magic", "61267", le16(bytes, 0x38).into());
        }
        // Revision 0 knows no features, and has fixed sizes.
        let is_dynamic = le32(bytes, 0x4c) >= 1;
        let feature = |at| if is_dynamic { le32(bytes, at) } else { 0 };
        let (compat, incompat, ro_compat) = (feature(0x5c), feature(INCOMPAT_AT), feature(0x64));
        for (set, known, what) in [
            (incompat, incompat::NAMES, "incompatible ext4 feature"),
            (ro_compat, ro_compat::NAMES, "read-only compatible ext4 feature"),
        ] {
            let unknown = known.iter().fold(set, |set, (bit, _)| set & !bit);
            if unknown != 0 {
                return Err(Error::unsupported(what, format!("{unknown:#x}")));
            }
        }
        if compat & compat::LAZY_BG != 0 {
            return Err(Error::unsupported("compatible ext4 feature", "lazy_bg"));
        }
        if ro_compat & ro_compat::METADATA_CSUM != 0 {
            let expected = crc32c(u32::MAX, slice(bytes, 0, CHECKSUM_AT));
            let found = le32(bytes, CHECKSUM_AT);
            if u8(bytes, 0x175) != 1 {
                return Err(Error::unsupported("ext4 checksum type", u8(bytes, 0x175)));
            }
            if expected != found {
                return wrong(CHECKSUM_AT, "checksum", &expected.to_string(), found.into());
            }
        }
        let shift = le32(bytes, 0x18);
        if shift > 6 {
            return wrong(0x18, "block size", "a shift of 0 to 6", shift.into());
        }
        let block_bytes = 1024u32 << shift;
        let is_bigalloc = ro_compat & ro_compat::BIGALLOC != 0;
        let cluster_shift = le32(bytes, 0x1c);
        let cluster_blocks = match cluster_shift.checked_sub(shift) {
            _ if !is_bigalloc => 1,
            Some(more @ 0..=20) => 1u32 << more,
            _ => return wrong(0x1c, "cluster size", "at most 2^20 blocks", cluster_shift.into()),
        };
        let is_64bit = incompat & incompat::BIT64 != 0;
        let high = if is_64bit { u64::from(le32(bytes, 0x150)) << 32 } else { 0 };
        let blocks = high | u64::from(le32(bytes, 0x4));
        let fits = blocks.checked_mul(block_bytes.into()).is_some_and(|bytes| bytes <= device_bytes);
        let first_block = le32(bytes, 0x14);
        if !fits || blocks <= u64::from(first_block) {
            let most = device_bytes >> shift.saturating_add(10);
            return wrong(0x4, "count of blocks", &format!("{first_block} to {most}"), blocks);
        }
        if first_block > 1 {
            return wrong(0x14, "first block", "0 or 1", first_block.into());
        }
        let block_bits = block_bytes.saturating_mul(8);
        let group_blocks = le32(bytes, 0x20);
        let group_clusters = if is_bigalloc { le32(bytes, 0x24) } else { group_blocks };
        let is_whole = group_clusters.checked_mul(cluster_blocks) == Some(group_blocks);
        if group_clusters == 0 || group_clusters > block_bits || group_clusters % 8 != 0 || !is_whole {
            return wrong(0x20, "blocks per group", "what one block can map", group_blocks.into());
        }
        let group_inodes = le32(bytes, 0x28);
        if group_inodes == 0 || group_inodes > block_bits {
            return wrong(0x28, "inodes per group", &format!("1 to {block_bits}"), group_inodes.into());
        }
        let inode_bytes = if is_dynamic { le16(bytes, 0x58) } else { 128 };
        if !inode_bytes.is_power_of_two() || inode_bytes < 128 || u32::from(inode_bytes) > block_bytes {
            return wrong(0x58, "inode size", "a power of two, 128 to a block", inode_bytes.into());
        }
        let descriptor_bytes = if is_64bit { le16(bytes, 0xfe) } else { 32 };
        if is_64bit && (!descriptor_bytes.is_power_of_two() || !(64..=1024).contains(&descriptor_bytes)) {
            return wrong(0xfe, "descriptor size", "a power of two, 64 to 1024", descriptor_bytes.into());
        }
        let groups = blocks.saturating_sub(first_block.into()).div_ceil(group_blocks.into());
        if groups > MAX_GROUPS {
            return Err(Error::unsupported("count of ext4 groups", groups));
        }
        let state = le16(bytes, 0x3a);
        let uuid_bytes: [u8; 16] = array(bytes, 0x68);
        let seed = if incompat & incompat::CSUM_SEED != 0 {
            le32(bytes, 0x270)
        } else {
            crc32c(u32::MAX, &uuid_bytes)
        };
        Ok(Self {
            kind: kind(compat, incompat, ro_compat),
            block_bytes,
            cluster_blocks,
            blocks,
            first_block,
            group_blocks,
            group_clusters,
            group_inodes,
            groups: u32::try_from(groups).unwrap_or(u32::MAX),
            inodes: le32(bytes, 0),
            inode_bytes,
            descriptor_bytes,
            compat,
            incompat,
            ro_compat,
            has_errors: state & 2 != 0,
            is_unmounted: state & 1 != 0,
            reserved_gdt_blocks: le16(bytes, 0xce),
            first_meta_bg: le32(bytes, 0x104),
            backup_groups: [le32(bytes, 0x24c), le32(bytes, 0x250)],
            journal_inode: le32(bytes, 0xe0),
            mmp_block: u64::from_le_bytes(array(bytes, 0x168)),
            first_inode: if is_dynamic { le32(bytes, 0x54) } else { 11 },
            quota_inode: le32(bytes, 0x26c),
            orphan_inode: le32(bytes, 0x280),
            seed,
            seed16: crc16(u16::MAX, &uuid_bytes),
            label: text(slice(bytes, 0x78, 16)),
            uuid: uuid(bytes, 0x68),
        })
    }

    /// A feature bit of the read-only compatible ones.
    pub(super) fn has(&self, ro_compat: u32) -> bool {
        self.ro_compat & ro_compat != 0
    }

    /// Absolute byte of a block.
    pub(super) fn offset(&self, block: u64) -> u64 {
        block.saturating_mul(self.block_bytes.into())
    }

    /// A block, in memory.
    pub(super) fn block_len(&self) -> usize {
        size(self.block_bytes.into())
    }

    /// First block of a group.
    pub(super) fn group_start(&self, group: u32) -> u64 {
        u64::from(group).saturating_mul(self.group_blocks.into()).saturating_add(self.first_block.into())
    }

    /// The block after a group's last.
    pub(super) fn group_end(&self, group: u32) -> u64 {
        self.group_start(group).saturating_add(self.group_blocks.into()).min(self.blocks)
    }

    /// Group descriptors in a block; never 0.
    pub(super) fn descriptors_per_block(&self) -> u32 {
        self.block_bytes.checked_div(self.descriptor_bytes.into()).unwrap_or(1).max(1)
    }

    /// Blocks of a group's inode table.
    pub(super) fn table_blocks(&self) -> u64 {
        let bytes = u64::from(self.group_inodes).saturating_mul(self.inode_bytes.into());
        bytes.div_ceil(self.block_bytes.into())
    }

    /// A copy of super block and descriptors starts the group (ext4 documentation, "Block and Inode Allocation Policy").
    pub(super) fn has_backup(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.compat & compat::SPARSE_SUPER2 != 0 {
            return self.backup_groups.contains(&group);
        }
        let is_power = |base: u32| {
            let mut power = base;
            while power < group {
                power = power.saturating_mul(base);
            }
            power == group
        };
        !self.has(ro_compat::SPARSE_SUPER) || group == 1 || [3, 5, 7].into_iter().any(is_power)
    }

    /// Blocks at the start of a group up to and with its copy of the super block; 0 where it has none.
    pub(super) fn superblock_blocks(&self, group: u32) -> u64 {
        // Blocks of 1 KiB with clusters: block 0 holds the boot sector, the super block is block 1 all the same.
        let is_second = group == 0 && self.block_bytes == 1024 && self.first_block == 0;
        u64::from(self.has_backup(group)).saturating_add(u64::from(is_second))
    }

    /// Names of all features that are set.
    pub(super) fn features(&self) -> String {
        let sets = [
            (self.compat, compat::NAMES),
            (self.incompat, incompat::NAMES),
            (self.ro_compat, ro_compat::NAMES),
        ];
        let names = sets.into_iter().flat_map(|(set, names)| {
            names.iter().filter(move |(bit, _)| set & bit != 0).map(|(_, name)| *name)
        });
        names.collect::<Vec<_>>().join(" ")
    }
}

/// ext2, ext3 or ext4 by the features that the older ones do not know, as blkid decides.
fn kind(compat: u32, incompat: u32, ro_compat: u32) -> Kind {
    let is_beyond_ext3 = incompat & !0x16 != 0 || ro_compat & !0x7 != 0;
    match (is_beyond_ext3, compat & compat::HAS_JOURNAL != 0) {
        (true, _) => Kind::Ext4,
        (false, true) => Kind::Ext3,
        (false, false) => Kind::Ext2,
    }
}

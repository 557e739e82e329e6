//! What stands on a disk or partition, told by its signatures: for the plan's report, which names what will be lost. Nothing is
//! opened or checked beyond that; several finds on one place are all reported.

use gravure_io::{Cursor, ReadAt};
use gravure_nttypes::Guid;

use crate::{Error, guid};

/// A kind of content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum FoundKind {
    /// ext2.
    Ext2,
    /// ext3.
    Ext3,
    /// ext4.
    Ext4,
    /// XFS.
    Xfs,
    /// Btrfs.
    Btrfs,
    /// F2FS.
    F2fs,
    /// ZFS pool member.
    Zfs,
    /// Bcachefs.
    Bcachefs,
    /// NTFS.
    Ntfs,
    /// ReFS.
    Refs,
    /// exFAT.
    ExFat,
    /// FAT12, FAT16 or FAT32.
    Fat,
    /// BitLocker-encrypted Windows volume.
    BitLocker,
    /// LUKS-encrypted volume.
    Luks,
    /// LVM physical volume.
    Lvm,
    /// Linux software RAID member.
    Raid,
    /// Linux swap space.
    Swap,
    /// ISO 9660.
    Iso9660,
    /// SquashFS.
    SquashFs,
    /// Apple APFS.
    Apfs,
    /// Apple HFS+.
    HfsPlus,
}

impl FoundKind {
    /// Name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "XFS",
            Self::Btrfs => "Btrfs",
            Self::F2fs => "F2FS",
            Self::Zfs => "ZFS",
            Self::Bcachefs => "bcachefs",
            Self::Ntfs => "NTFS",
            Self::Refs => "ReFS",
            Self::ExFat => "exFAT",
            Self::Fat => "FAT",
            Self::BitLocker => "BitLocker",
            Self::Luks => "LUKS",
            Self::Lvm => "LVM",
            Self::Raid => "Linux RAID",
            Self::Swap => "swap",
            Self::Iso9660 => "ISO 9660",
            Self::SquashFs => "SquashFS",
            Self::Apfs => "APFS",
            Self::HfsPlus => "HFS+",
        }
    }
}

/// One find.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub kind: FoundKind,
    /// Its label, where the signature's block holds one.
    pub label: Option<String>,
    /// Its UUID or serial number as its own tools print it.
    pub uuid: Option<String>,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind.name())?;
        self.label.iter().try_for_each(|label| write!(f, " {label:?}"))?;
        self.uuid.iter().try_for_each(|uuid| write!(f, " {uuid}"))
    }
}

/// Bytes read from the start; every signature but those at the end lies inside.
const HEAD_BYTES: u64 = 256 << 10;
/// Bytes read from the end, for RAID members.
const TAIL_BYTES: u64 = 192 << 10;

/// Recognises what `volume` (a partition, or a whole disk without a table) holds. A place that cannot be read is an
/// error: an empty answer lets callers take the volume for blank.
pub fn recognise(volume: &dyn ReadAt) -> Result<Vec<Found>, Error> {
    let size = volume.size();
    let read = |offset: u64, len: u64| {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        volume.read_vec_at(offset, len).map_err(Error::io("read signatures", offset))
    };
    let head = read(0, size.min(HEAD_BYTES))?;
    let tail_start = size.saturating_sub(TAIL_BYTES.min(size));
    let tail = Tail { bytes: read(tail_start, size.saturating_sub(tail_start))?, start: tail_start, size };
    Ok(recognise_bytes(&head, &tail))
}

struct Tail {
    bytes: Vec<u8>,
    start: u64,
    size: u64,
}

impl Tail {
    /// What lies at the absolute `offset`, to the end.
    fn from(&self, offset: u64) -> &[u8] {
        let at = offset.checked_sub(self.start).and_then(|at| usize::try_from(at).ok());
        at.and_then(|at| self.bytes.get(at..)).unwrap_or_default()
    }
}

fn recognise_bytes(head: &[u8], tail: &Tail) -> Vec<Found> {
    type Finder = fn(&[u8]) -> Option<Found>;
    let finders: [Finder; 12] =
        [ext, xfs, btrfs, zfs, bcachefs, windows, luks, lvm, swap, iso9660, raid_start, plain];
    let mut out: Vec<Found> = finders.iter().filter_map(|find| find(head)).collect();
    out.extend(raid_end(tail));
    out
}

fn found(kind: FoundKind, label: Option<String>, uuid: Option<String>) -> Option<Found> {
    Some(Found { kind, label, uuid })
}

/// The `len` bytes at `at`.
fn field(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..)?.get(..len)
}

fn has(bytes: &[u8], at: usize, magic: &[u8]) -> bool {
    field(bytes, at, magic.len()) == Some(magic)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Cursor::new(bytes.get(at..)?).u16().ok()
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Cursor::new(bytes.get(at..)?).u32().ok()
}

/// Text up to the first NUL, blanks at its ends and control characters taken away; `None` when nothing is left.
fn text(bytes: &[u8], at: usize, len: usize) -> Option<String> {
    let field = field(bytes, at, len)?;
    let text = field.split(|byte| *byte == 0).next().unwrap_or_default();
    let text: String = String::from_utf8_lossy(text).chars().filter(|c| !c.is_control()).collect();
    let text = text.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// A UUID stored in printing order; `None` for zeros.
fn uuid(bytes: &[u8], at: usize) -> Option<String> {
    let bytes: [u8; 16] = field(bytes, at, 16)?.try_into().ok()?;
    (bytes != [0; 16]).then(|| guid::from_printed(bytes).to_string())
}

/// ext2/3/4: super block at 0x400. The kind follows from feature bits, as blkid decides.
fn ext(head: &[u8]) -> Option<Found> {
    let block = head.get(0x400..)?;
    let (compat, incompat, ro_compat) = (u32_at(block, 0x5c)?, u32_at(block, 0x60)?, u32_at(block, 0x64)?);
    if u16_at(block, 0x38)? != 0xef53 {
        return None;
    }
    // What ext3 knows besides the journal: filetype, recover, meta_bg; sparse_super, large_file, btree_dir.
    let beyond_ext3 = incompat & !0x16 != 0 || ro_compat & !0x7 != 0;
    let kind = match (beyond_ext3, compat & 0x4 != 0) {
        (true, _) => FoundKind::Ext4,
        (false, true) => FoundKind::Ext3,
        (false, false) => FoundKind::Ext2,
    };
    found(kind, text(block, 0x78, 16), uuid(block, 0x68))
}

fn xfs(head: &[u8]) -> Option<Found> {
    has(head, 0, b"XFSB").then(|| found(FoundKind::Xfs, text(head, 108, 12), uuid(head, 32))).flatten()
}

fn btrfs(head: &[u8]) -> Option<Found> {
    let block = head.get(0x10000..)?;
    has(block, 0x40, b"_BHRfS_M")
        .then(|| found(FoundKind::Btrfs, text(block, 0x12b, 256), uuid(block, 0x20)))
        .flatten()
}

/// ZFS: uberblocks fill the second half of each 256 KiB label, one per KiB at least, in either byte order.
fn zfs(head: &[u8]) -> Option<Found> {
    let ring = field(head, 128 << 10, 128 << 10)?;
    let magic = 0x00ba_b10c_u64;
    let wanted = [magic.to_le_bytes(), magic.to_be_bytes()];
    let hit = ring.chunks_exact(1024).any(|slot| wanted.iter().any(|magic| slot.starts_with(magic)));
    hit.then(|| found(FoundKind::Zfs, None, None)).flatten()
}

fn bcachefs(head: &[u8]) -> Option<Found> {
    let magic =
        [0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d, 0xf7, 0xef];
    let block = head.get(0x1000..)?;
    has(block, 0x18, &magic)
        .then(|| found(FoundKind::Bcachefs, text(block, 0x48, 32), uuid(block, 0x38)))
        .flatten()
}

/// What has a Windows boot sector: the text at offset 3 tells.
fn windows(head: &[u8]) -> Option<Found> {
    let serial64 = |at| {
        let bytes: [u8; 8] = field(head, at, 8)?.try_into().ok()?;
        Some(format!("{:016X}", u64::from_le_bytes(bytes)))
    };
    let serial32 =
        |at| u32_at(head, at).map(|serial| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff));
    let bitlocker_to_go = guid::from_printed(0x4967d63b_2e29_4ad8_8399_f6a339e3d001_u128.to_be_bytes()).0;
    if has(head, 3, b"-FVE-FS-") || has(head, 0x1a8, &bitlocker_to_go) {
        return found(FoundKind::BitLocker, None, uuid_mixed(head, 0xa0));
    }
    if has(head, 3, b"NTFS    ") {
        return found(FoundKind::Ntfs, None, serial64(0x48));
    }
    if has(head, 3, b"EXFAT   ") {
        return found(FoundKind::ExFat, None, serial32(0x64));
    }
    if has(head, 0, b"\0\0\0ReFS\0") {
        return found(FoundKind::Refs, None, serial64(0x38));
    }
    // FAT has no magic of its own: a sound sector size, cluster size and table count besides the boot signature and the text.
    let sector = u16_at(head, 0x0b)?;
    let cluster = *head.get(0x0d)?;
    let sound = has(head, 0x1fe, &[0x55, 0xaa])
        && matches!(sector, 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && matches!(head.get(0x10), Some(1 | 2));
    let tail = [(0x52, 0x43), (0x36, 0x27)].into_iter().find(|(kind, _)| has(head, *kind, b"FAT"));
    let (_, serial) = tail.filter(|_| sound)?;
    let label = text(head, usize::saturating_add(serial, 4), 11).filter(|label| label != "NO NAME");
    found(FoundKind::Fat, label, serial32(serial))
}

/// A GUID in Windows' byte order; `None` for zeros.
fn uuid_mixed(bytes: &[u8], at: usize) -> Option<String> {
    let bytes: [u8; 16] = field(bytes, at, 16)?.try_into().ok()?;
    (bytes != [0; 16]).then(|| Guid(bytes).to_string())
}

fn luks(head: &[u8]) -> Option<Found> {
    if !has(head, 0, b"LUKS\xba\xbe") {
        return None;
    }
    let version: [u8; 2] = field(head, 6, 2)?.try_into().ok()?;
    let label = if u16::from_be_bytes(version) >= 2 { text(head, 24, 48) } else { None };
    found(FoundKind::Luks, label, text(head, 168, 40))
}

/// LVM: a label in one of the first four sectors, whose header says where the volume's id stands.
fn lvm(head: &[u8]) -> Option<Found> {
    let sector = head
        .chunks_exact(512)
        .take(4)
        .find(|sector| has(sector, 0, b"LABELONE") && has(sector, 24, b"LVM2 001"))?;
    let at = u32_at(sector, 20).and_then(|at| usize::try_from(at).ok());
    let id = at.and_then(|at| text(sector, at, 32)).filter(|id| id.len() == 32 && id.is_ascii());
    // Printed in groups as LVM's tools do.
    let grouped = id.map(|id| {
        let mut left = id.as_str();
        let mut groups = Vec::new();
        for len in [6, 4, 4, 4, 4, 4, 6] {
            let (group, rest) = left.split_at_checked(len).unwrap_or((left, ""));
            groups.push(group);
            left = rest;
        }
        groups.join("-")
    });
    found(FoundKind::Lvm, None, grouped)
}

/// Swap: the signature closes the first page, whose size depends on the machine that made it.
fn swap(head: &[u8]) -> Option<Found> {
    let hit =
        [4096usize, 8192, 16384, 65536].iter().any(|page| has(head, page.saturating_sub(10), b"SWAPSPACE2"));
    hit.then(|| found(FoundKind::Swap, text(head, 1052, 16), uuid(head, 1036))).flatten()
}

fn iso9660(head: &[u8]) -> Option<Found> {
    has(head, 0x8001, b"CD001").then(|| found(FoundKind::Iso9660, text(head, 0x8028, 32), None)).flatten()
}

/// Formats that only need their magic; label and UUID where they are at hand.
fn plain(head: &[u8]) -> Option<Found> {
    if has(head, 0, b"hsqs") {
        return found(FoundKind::SquashFs, None, None);
    }
    if has(head, 0x20, b"NXSB") {
        return found(FoundKind::Apfs, None, uuid(head, 0x48));
    }
    if has(head, 0x400, b"H+\0\x04") || has(head, 0x400, b"HX\0\x05") {
        return found(FoundKind::HfsPlus, None, None);
    }
    if has(head, 0x400, &0xf2f5_2010_u32.to_le_bytes()) {
        return found(FoundKind::F2fs, None, uuid(head, 0x46c));
    }
    None
}

const RAID_MAGIC: [u8; 4] = 0xa92b_4efc_u32.to_le_bytes();

/// MD super block 1.x: major version 1, UUID and name.
fn raid_block(block: &[u8]) -> Option<Found> {
    (has(block, 0, &RAID_MAGIC) && u32_at(block, 4) == Some(1))
        .then(|| found(FoundKind::Raid, text(block, 32, 32), uuid(block, 16)))
        .flatten()
}

/// MD 1.1 at the start, 1.2 at 4 KiB.
fn raid_start(head: &[u8]) -> Option<Found> {
    raid_block(head).or_else(|| raid_block(head.get(4096..)?))
}

/// MD 1.0 within the last 12 KiB, 0.90 in the last whole 64 KiB block.
fn raid_end(tail: &Tail) -> Option<Found> {
    let floor = |value: u64, unit: u64| value.saturating_sub(value.checked_rem(unit).unwrap_or(0));
    let version_1 = floor(tail.size.saturating_sub(8192), 4096);
    let version_0 = floor(tail.size, 65536).saturating_sub(65536);
    raid_block(tail.from(version_1)).or_else(|| {
        let block = tail.from(version_0);
        (has(block, 0, &RAID_MAGIC) && u32_at(block, 4) == Some(0))
            .then(|| found(FoundKind::Raid, None, None))?
    })
}

#[cfg(test)]
mod tests;

//! Master boot records: the protective one that we write (UEFI 2.10, 5.2.3), the classic one of disks from which a BIOS starts Windows,
//! and reading of whatever a disk has.

use gravure_io::ReadAt;
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Error;
use crate::layout::{Layout, Role};

/// Bytes at the start of the first sector that hold boot code.
pub const BOOT_CODE_BYTES: usize = 440;
const SIGNATURE: u16 = 0xaa55;
/// Type of the entry that tells old tools to keep off.
const PROTECTIVE: u8 = 0xee;
/// Longest chain of logical partitions followed; Linux names 256 at most, this stops a loop that goes forwards.
const MAX_LOGICAL: u32 = 256;

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Clone, Copy)]
#[repr(C)]
struct EntryDisk {
    status: u8,         // 0x0  0x80 active, 0x00 not; anything else is no table
    first_chs: [u8; 3], // 0x1
    kind: u8,           // 0x4
    last_chs: [u8; 3],  // 0x5
    first_lba: U32,     // 0x8
    sectors: U32,       // 0xc
}

impl EntryDisk {
    const UNUSED: Self = Self {
        status: 0,
        first_chs: [0; 3],
        kind: 0,
        last_chs: [0; 3],
        first_lba: U32::ZERO,
        sectors: U32::ZERO,
    };
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct MbrDisk {
    boot_code: [u8; BOOT_CODE_BYTES], // 0x000
    disk_signature: U32,              // 0x1b8
    reserved: U16,                    // 0x1bc
    entries: [EntryDisk; 4],          // 0x1be
    signature: U16,                   // 0x1fe
}
const _: () = assert!(size_of::<MbrDisk>() == 512);
const _: () = assert!(core::mem::offset_of!(MbrDisk, entries) == 0x1be);

/// A partition of a classic table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MbrEntry {
    /// Number as Linux counts: 1 to 4 primary, from 5 logical.
    pub number: u32,
    /// Marked active: the one an old BIOS boots.
    pub active: bool,
    /// System id, e.g. 0x07 NTFS, 0x83 Linux, 0xee protective.
    pub kind: u8,
    /// First sector.
    pub first_lba: u64,
    /// Count of sectors.
    pub sectors: u64,
}

/// A master boot record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mbr {
    /// Disk signature by which Windows knows the disk; 0 for none.
    pub disk_signature: u32,
    /// There is boot code.
    pub bootable: bool,
    /// Partitions in use.
    pub entries: Vec<MbrEntry>,
}

impl Mbr {
    /// Reads sector 0 and the chain of logical partitions; `None` when it is no master boot record (a FAT or NTFS boot
    /// sector has the same signature, but other bytes where the table would be).
    pub fn read(disk: &dyn ReadAt, sector_bytes: u32) -> Result<Option<Self>, Error> {
        let Some(sector) = read_sector(disk, 0, sector_bytes)? else { return Ok(None) };
        let mut entries: Vec<MbrEntry> = Vec::new();
        for (entry, number) in sector.entries.iter().zip(1u32..) {
            if entry.kind != 0 && entry.sectors.get() != 0 {
                entries.push(entry_at(entry, number, 0));
            }
        }
        if entries.is_empty() {
            return Ok(None);
        }
        let extended = entries.iter().find(|entry| is_extended(entry.kind)).map(|entry| entry.first_lba);
        if let Some(first_lba) = extended {
            read_logical(disk, sector_bytes, first_lba, &mut entries)?;
        }
        Ok(Some(Self {
            disk_signature: sector.disk_signature.get(),
            bootable: sector.boot_code.iter().any(|byte| *byte != 0),
            entries,
        }))
    }

    /// Whether it only protects a GPT.
    pub fn is_protective(&self) -> bool {
        self.entries.iter().any(|entry| entry.kind == PROTECTIVE)
    }
}

/// The sector at `lba` when it has the signature and four sound entries.
fn read_sector(disk: &dyn ReadAt, lba: u64, sector_bytes: u32) -> Result<Option<MbrDisk>, Error> {
    let offset = lba.saturating_mul(u64::from(sector_bytes));
    if offset.saturating_add(512) > disk.size() {
        return Ok(None);
    }
    let bytes = disk.read_vec_at(offset, 512).map_err(Error::io("read boot record", offset))?;
    let sound = |sector: &MbrDisk| {
        sector.signature.get() == SIGNATURE && sector.entries.iter().all(|entry| entry.status & 0x7f == 0)
    };
    Ok(MbrDisk::read_from_bytes(&bytes).ok().filter(sound))
}

fn entry_at(entry: &EntryDisk, number: u32, base: u64) -> MbrEntry {
    MbrEntry {
        number,
        active: entry.status == 0x80,
        kind: entry.kind,
        first_lba: base.saturating_add(u64::from(entry.first_lba.get())),
        sectors: u64::from(entry.sectors.get()),
    }
}

/// Whether a partition of this system id holds logical ones.
pub fn is_extended(kind: u8) -> bool {
    matches!(kind, 0x05 | 0x0f | 0x85)
}

/// Follows the chain: each record holds one partition (relative to itself) and a link (relative to the extended partition).
/// A broken or backward link ends the list; the rest of the report is still of use.
fn read_logical(
    disk: &dyn ReadAt,
    sector_bytes: u32,
    base: u64,
    out: &mut Vec<MbrEntry>,
) -> Result<(), Error> {
    let mut lba = base;
    for number in (5u32..).take(usize::try_from(MAX_LOGICAL).unwrap_or(0)) {
        let Some(sector) = read_sector(disk, lba, sector_bytes)? else { return Ok(()) };
        let [partition, link, ..] = &sector.entries;
        if partition.kind != 0 && partition.sectors.get() != 0 {
            out.push(entry_at(partition, number, lba));
        }
        let next = base.saturating_add(u64::from(link.first_lba.get()));
        if !is_extended(link.kind) || next <= lba {
            return Ok(());
        }
        lba = next;
    }
    Ok(())
}

/// The records that make the last logical partition end at the sector `end_lba`, where the extended one that begins at `base` is to end: each
/// with its sector. The chain is read from `disk`; nothing is written. Empty where there is no logical partition, or the last record of the
/// chain has none.
pub fn logical_to_end(
    disk: &dyn ReadAt,
    sector_bytes: u32,
    base: u64,
    end_lba: u64,
) -> Result<Vec<(u64, [u8; 512])>, Error> {
    let mut chain: Vec<(u64, MbrDisk)> = Vec::new();
    let mut lba = base;
    for _ in 0..MAX_LOGICAL {
        let Some(sector) = read_sector(disk, lba, sector_bytes)? else { break };
        let [_, link, ..] = &sector.entries;
        let next = base.saturating_add(u64::from(link.first_lba.get()));
        let is_last = !is_extended(link.kind) || next <= lba;
        chain.push((lba, sector));
        if is_last {
            break;
        }
        lba = next;
    }
    let Some((last_lba, mut last)) = chain.pop() else { return Ok(Vec::new()) };
    let [partition, ..] = &mut last.entries;
    let first = last_lba.saturating_add(u64::from(partition.first_lba.get()));
    if partition.kind == 0 || partition.sectors.get() == 0 || first >= end_lba {
        return Ok(Vec::new());
    }
    let narrow = |value: u64| {
        u32::try_from(value).map_err(|_| Error::DoesNotFit {
            what: "last logical partition".into(),
            wanted: value,
            available: u64::from(u32::MAX),
        })
    };
    partition.sectors = U32::new(narrow(end_lba.saturating_sub(first))?);
    partition.last_chs = [0xfe, 0xff, 0xff];
    let bytes = |sector: &MbrDisk| {
        let mut out = [0; 512];
        out.copy_from_slice(sector.as_bytes());
        out
    };
    let mut out = vec![(last_lba, bytes(&last))];
    if let Some((lba, mut before)) = chain.pop() {
        let [_, link, ..] = &mut before.entries;
        link.sectors = U32::new(narrow(end_lba.saturating_sub(last_lba))?);
        link.last_chs = [0xfe, 0xff, 0xff];
        out.push((lba, bytes(&before)));
    }
    Ok(out)
}

/// The sector that protects the GPT of `layout`, with boot code for a BIOS when there is any.
///
/// Not active: UEFI demands 0, and a few BIOSes that insist on an active entry are served by nothing else either.
pub(crate) fn protective_bytes(layout: &Layout, boot_code: Option<&[u8; BOOT_CODE_BYTES]>) -> Vec<u8> {
    let sectors = layout.sectors.saturating_sub(1);
    let protective = EntryDisk {
        status: 0,
        first_chs: [0x00, 0x02, 0x00],
        kind: PROTECTIVE,
        last_chs: [0xff, 0xff, 0xff],
        first_lba: U32::new(1),
        sectors: U32::new(u32::try_from(sectors).unwrap_or(u32::MAX)),
    };
    let unused = EntryDisk::UNUSED;
    let sector = MbrDisk {
        boot_code: boot_code.copied().unwrap_or([0; BOOT_CODE_BYTES]),
        disk_signature: U32::ZERO,
        reserved: U16::ZERO,
        entries: [protective, unused, unused, unused],
        signature: U16::new(SIGNATURE),
    };
    let mut bytes = sector.as_bytes().to_vec();
    bytes.resize(usize::try_from(layout.shape.sector_bytes).unwrap_or(512), 0);
    bytes
}

/// What a classic table says beside where partitions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MbrOptions<'a> {
    /// Signature by which Windows knows the disk; not 0.
    pub signature: u32,
    /// Code that finds the active partition and starts it.
    pub boot_code: &'a [u8; BOOT_CODE_BYTES],
    /// Number of the active partition.
    pub active: u32,
}

/// The sector with the table of `layout`: up to four primary partitions.
pub(crate) fn classic_bytes(layout: &Layout, options: MbrOptions<'_>) -> Result<Vec<u8>, Error> {
    if layout.partitions.len() > 4 {
        let count = layout.partitions.len();
        return Err(Error::invalid("MBR", format!("it has room for 4 partitions, {count} are planned")));
    }
    if options.signature == 0 || !layout.partitions.iter().any(|part| part.number == options.active) {
        return Err(Error::invalid(
            "MBR",
            "it needs a signature and an active partition that is there".to_owned(),
        ));
    }
    let mut entries = [EntryDisk::UNUSED; 4];
    for (entry, part) in entries.iter_mut().zip(&layout.partitions) {
        let narrow = |value: u64| {
            u32::try_from(value).map_err(|_| Error::DoesNotFit {
                what: format!("sectors of partition {} in an MBR", part.number),
                wanted: value,
                available: u64::from(u32::MAX),
            })
        };
        // The end counts, too: some loaders add.
        narrow(part.last_lba)?;
        let count = part.last_lba.saturating_add(1).saturating_sub(part.first_lba);
        *entry = EntryDisk {
            status: if part.number == options.active { 0x80 } else { 0 },
            // Cylinders, heads and sectors: "use the number".
            first_chs: [0xfe, 0xff, 0xff],
            kind: system_id(part.role)?,
            last_chs: [0xfe, 0xff, 0xff],
            first_lba: U32::new(narrow(part.first_lba)?),
            sectors: U32::new(narrow(count)?),
        };
    }
    let sector = MbrDisk {
        boot_code: *options.boot_code,
        disk_signature: U32::new(options.signature),
        reserved: U16::ZERO,
        entries,
        signature: U16::new(SIGNATURE),
    };
    let mut bytes = sector.as_bytes().to_vec();
    bytes.resize(usize::try_from(layout.shape.sector_bytes).unwrap_or(512), 0);
    Ok(bytes)
}

/// The byte by which a classic table tells what a partition is.
fn system_id(role: Role) -> Result<u8, Error> {
    match role {
        Role::MicrosoftData => Ok(0x07),
        Role::WindowsRecovery => Ok(0x27),
        Role::LinuxRoot | Role::LinuxData => Ok(0x83),
        Role::LinuxSwap => Ok(0x82),
        other => Err(Error::Unsupported { what: "partition in an MBR", value: format!("{other:?}") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sector(entries: &[(u8, u8, u32, u32)]) -> Vec<u8> {
        let mut bytes = vec![0; 512];
        for (index, (status, kind, first, sectors)) in entries.iter().enumerate() {
            let at = 0x1be + index * 16;
            bytes[at] = *status;
            bytes[at + 4] = *kind;
            bytes[at + 8..at + 12].copy_from_slice(&first.to_le_bytes());
            bytes[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
        }
        bytes[0x1fe..].copy_from_slice(&[0x55, 0xaa]);
        bytes
    }

    #[test]
    fn reads_primary_and_logical_partitions() {
        let mut disk = sector(&[(0x80, 0x07, 2048, 1000), (0, 0x05, 4, 12)]);
        disk[0] = 0xfa;
        disk[0x1b8..0x1bc].copy_from_slice(&[1, 2, 3, 4]);
        disk.resize(4 * 512, 0);
        disk.extend(sector(&[(0, 0x83, 1, 2), (0, 0x05, 4, 4)]));
        disk.resize(8 * 512, 0);
        disk.extend(sector(&[(0, 0x82, 1, 3)]));
        let mbr = Mbr::read(&disk, 512).unwrap().unwrap();
        assert_eq!((mbr.disk_signature, mbr.bootable, mbr.is_protective()), (0x0403_0201, true, false));
        let places: Vec<_> = mbr.entries.iter().map(|e| (e.number, e.kind, e.first_lba, e.sectors)).collect();
        assert_eq!(places, [(1, 7, 2048, 1000), (2, 5, 4, 12), (5, 0x83, 5, 2), (6, 0x82, 9, 3)]);
        assert!(mbr.entries[0].active && !mbr.entries[1].active);
    }

    #[test]
    fn the_last_logical_partition_gets_the_end_of_its_extended_one() {
        let mut disk = sector(&[(0x80, 0x07, 2048, 1000), (0, 0x05, 4, 12)]);
        disk.resize(4 * 512, 0);
        disk.extend(sector(&[(0, 0x83, 1, 2), (0, 0x05, 4, 4)]));
        disk.resize(8 * 512, 0);
        disk.extend(sector(&[(0, 0x82, 1, 3)]));
        disk.resize(64 * 512, 0);
        let records = logical_to_end(&disk, 512, 4, 50).unwrap();
        assert_eq!(records.iter().map(|(lba, _)| *lba).collect::<Vec<_>>(), [8, 4]);
        for (lba, bytes) in records {
            disk[lba as usize * 512..][..512].copy_from_slice(&bytes);
        }
        let mbr = Mbr::read(&disk, 512).unwrap().unwrap();
        let places: Vec<_> = mbr.entries.iter().map(|e| (e.number, e.kind, e.first_lba, e.sectors)).collect();
        assert_eq!(places, [(1, 7, 2048, 1000), (2, 5, 4, 12), (5, 0x83, 5, 2), (6, 0x82, 9, 41)]);
        let link = u32::from_le_bytes(disk[4 * 512 + 0x1be + 16 + 12..][..4].try_into().unwrap());
        assert_eq!(link, 42, "from the record to the end");
        // The only one of a chain, and none.
        assert_eq!(logical_to_end(&disk, 512, 8, 30).unwrap().len(), 1);
        assert_eq!(logical_to_end(&disk, 512, 20, 30).unwrap(), []);
        assert_eq!(logical_to_end(&disk, 512, 8, 9).unwrap(), []);
    }

    #[test]
    fn a_chain_that_goes_back_ends() {
        let mut disk = sector(&[(0, 0x0f, 1, 9)]);
        disk.extend(sector(&[(0, 0x83, 1, 1), (0, 0x05, 0, 4)]));
        assert_eq!(Mbr::read(&disk, 512).unwrap().unwrap().entries.len(), 2);
    }

    #[test]
    fn a_boot_sector_is_no_table() {
        let mut disk = sector(&[(0x13, 0x83, 1, 1)]);
        assert_eq!(Mbr::read(&disk, 512).unwrap(), None);
        disk = sector(&[]);
        assert_eq!(Mbr::read(&disk, 512).unwrap(), None);
        disk[0x1fe] = 0;
        assert_eq!(Mbr::read(&disk, 512).unwrap(), None);
        assert_eq!(Mbr::read(&vec![0; 100], 512).unwrap(), None);
    }
}
